"""Throughput of `GET /api/v1/repositories` under load, the layer on and off: `python -m bench.load`.

The API as it runs (uvicorn, workers of its own) on a real database with repositories in it, asked by wrk; runs with the
layer on and off take turns. Wants `wrk` (Debian, Ubuntu: apt-get install wrk).
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
import psycopg

from ops.stack.ports import free_port
from tests.services import create_database, postgres_server, redis_server
from tests.system import System, eventually, running_system

RUNS: Final = 6
SECONDS: Final = 6
CONNECTIONS: Final = 16
REPOSITORIES: Final = 20
GOAL: Final = 0.95
OFF: Final = {"CORRELATION_ENABLED": "false", "SQL_COMMENTS": "off"}


@contextmanager
def api(scratch: Path, database_url: str, redis_url: str, **settings: str) -> Iterator[System]:
    """Run the API alone and wait until it answers."""
    scratch.mkdir()
    settings = {"API_WORKERS": "1", "API_PORT": str(free_port()), **settings}
    with running_system(scratch, database_url, redis_url, services=(), **settings) as system:
        system.url = f"http://127.0.0.1:{settings['API_PORT']}"
        system.start("api")
        try:
            eventually(lambda: _answers(system.url), within_s=30, what="the API's first answer")
            yield system
        finally:
            system.stop_if_running("api")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/repositories").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def throughput(url: str) -> float:
    """Return requests a second that wrk gets answered."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("wrk is wanted: apt-get install wrk")
    output = subprocess.run(
        [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"{url}/api/v1/repositories"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in output:
        sys.exit(output)
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        sys.exit(output)
    return float(found.group(1))


def cpu_s(system: System) -> float:
    """Return the processor time that the API and its children have taken, in seconds."""
    api = psutil.Process(system.processes["api"].pid)
    times = [process.cpu_times() for process in (api, *api.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _fill(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO repositories (url, owner, name, full_name)"
            " SELECT 'https://example.org/o/r' || n, 'o', 'r' || n, 'o/r' || n FROM generate_series(1, %s) n",
            [REPOSITORIES],
        )


def main() -> int:
    """Print the table; 1 where the goal is missed."""
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name, ExitStack() as stack:
        scratch = Path(name)
        server = stack.enter_context(postgres_server(scratch))
        redis_url = stack.enter_context(redis_server(scratch))
        database_url = create_database(server)
        on = stack.enter_context(api(scratch / "on", database_url, redis_url))
        off = stack.enter_context(api(scratch / "off", database_url, redis_url, **OFF))
        _fill(database_url)
        figures: dict[str, list[float]] = {"on": [], "off": []}
        cpu_ms: dict[str, list[float]] = {"on": [], "off": []}
        for system in (on, off):
            throughput(system.url)
        for run in range(RUNS):
            for key, system in [("on", on), ("off", off)] if run % 2 else [("off", off), ("on", on)]:
                before = cpu_s(system)
                figures[key].append(throughput(system.url))
                cpu_ms[key].append((cpu_s(system) - before) * 1000 / (figures[key][-1] * SECONDS))
    ratios = [with_layer / without for with_layer, without in zip(figures["on"], figures["off"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"{RUNS} pairs of {SECONDS} s, {CONNECTIONS} connections, 1 API process, {os.cpu_count()} CPUs")
    print(
        f"requests a second, off: {statistics.median(figures['off']):.0f}, on: {statistics.median(figures['on']):.0f}"
    )
    print(f"on / off, pair by pair: {min(ratios):.3f} … {ratio:.3f} (median) … {max(ratios):.3f}")
    off_ms, on_ms = statistics.median(cpu_ms["off"]), statistics.median(cpu_ms["on"])
    print(f"processor time a request, off: {off_ms:.3f} ms, on: {on_ms:.3f} ms; off / on: {off_ms / on_ms:.3f}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
