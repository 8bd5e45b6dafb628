"""A real Prometheus with a past that we made up: promtool writes the blocks, and nothing is scraped."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from ops.stack import loopback, programs
from ops.stack.ports import free_port
from tests.system import eventually

# A series: its name with labels, as PromQL writes it, and its samples: seconds since 1970, value.
Past = Mapping[str, Iterable[tuple[float, float]]]
_START_TIMEOUT_S: Final = 120.0


def promtool(*arguments: str) -> None:
    """Run `promtool tsdb …`; what it says is raised when it fails."""
    done = subprocess.run(["promtool", "tsdb", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)


def write(past: Past, data: Path) -> None:
    """Write blocks of up to a month."""
    with tempfile.NamedTemporaryFile("w", suffix=".om", dir=data.parent) as file:
        for series in sorted(past):
            file.writelines(f"{series} {value!r} {at:.3f}\n" for at, value in past[series])
        file.write("# EOF\n")
        file.flush()
        promtool("create-blocks-from", "openmetrics", "--max-block-duration=768h", file.name, str(data))


@contextmanager
def prometheus_over(data: Path, configuration: str = "scrape_configs: []\n") -> Iterator[str]:
    """Run a Prometheus over these blocks, and yield its URL; it scrapes nothing unless its configuration says so."""
    config = data.parent / "prometheus.yml"
    config.write_text(configuration)
    port = free_port()
    command = [str(programs.find("prometheus")), f"--config.file={config}", f"--storage.tsdb.path={data}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y", "--log.level=error"]
    with subprocess.Popen(command) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: _is_ready(url), within_s=_START_TIMEOUT_S, what="Prometheus")
            yield url
        finally:
            process.terminate()


@contextmanager
def prometheus_with(past: Past, folder: Path) -> Iterator[str]:
    """Run a Prometheus with this past, and yield its URL."""
    data = folder / "data"
    data.mkdir(parents=True)
    if past:
        write(past, data)
    with prometheus_over(data) as url:
        yield url


def _is_ready(url: str) -> bool:
    try:
        return loopback.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
