"""The block of docs/growing.md that sends metrics to a central store, between two real Prometheus servers."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from ops.stack import loopback, programs
from ops.stack.ports import free_port
from tests.pages import blocks
from tests.system import BACKEND, eventually

PAGE = BACKEND.parent / "docs" / "growing.md"
MONITORING = BACKEND.parent / "monitoring"


@contextmanager
def prometheus(folder: Path, config: dict[str, Any], *options: str) -> Iterator[str]:
    """Run a Prometheus with `config` until the block ends; yield its URL once it is ready."""
    program = programs.find("prometheus")
    assert program, "prometheus is not installed: apt-get install prometheus"
    folder.mkdir()
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [str(program), f"--config.file={file}", f"--storage.tsdb.path={folder}/data", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        eventually(lambda: _is_ready(process, address), what="a ready Prometheus")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None
    try:
        return loopback.get(f"http://{address}/-/ready").is_success
    except httpx.TransportError:
        return False


def series(url: str, selector: str) -> list[dict[str, str]]:
    """Return the labels of what a server has now."""
    answer = loopback.get(f"{url}/api/v1/query", params={"query": selector}).raise_for_status().json()
    return [each["metric"] for each in answer["data"]["result"]]


def added() -> dict[str, Any]:
    """Return what the page says to add."""
    (block,) = blocks(PAGE, "yaml")
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_the_block_fits_the_configuration(tmp_path: Path) -> None:
    """By promtool's word, together with the file that it is to be added to."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    addition = added()
    config["global"] |= addition["global"]
    config["remote_write"] = addition["remote_write"]
    config["rule_files"] = [str(MONITORING / Path(file).name) for file in config["rule_files"]]
    secret = tmp_path / "token"
    secret.write_text("x")
    text = json.dumps(config).replace("/run/secrets/metrics_token", str(secret))
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/run/secrets/remote_write_token", str(secret)))
    command = [str(programs.find("promtool")), "check", "config", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_what_is_written_away_arrives(tmp_path: Path) -> None:
    """Series and alerts with the labels that tell who wrote them; not what the block drops."""
    with prometheus(tmp_path / "store", {}, "--web.enable-remote-write-receiver") as store:
        addition = added()
        (target,) = addition["remote_write"]
        address = store.removeprefix("http://")
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s", **addition["global"]},
            "rule_files": [str(MONITORING / "alerts.yml")],
            "scrape_configs": [{"job_name": "store", "static_configs": [{"targets": [address]}]}],
            "remote_write": [target | {"url": f"{store}/api/v1/write", "authorization": {"credentials": "x"}}],
        }
        writer = addition["global"]["external_labels"].items()
        assert writer
        with prometheus(tmp_path / "local", config) as local:
            for selector in ("prometheus_build_info", 'ALERTS{alertname="Watchdog"}'):
                (labels,) = eventually(partial(series, store, selector), what=selector)
                assert writer <= labels.items()
            eventually(partial(series, local, "go_goroutines"), what="what is dropped on the way")
            assert series(store, "go_goroutines") == []
