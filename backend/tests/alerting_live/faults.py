"""What really goes wrong: each fault lasts as long as its block."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx
import psutil
import psycopg

from ops.stack import programs
from tests.monitoring_stack import MonitoredSystem, Watcher
from tests.services import PostgresServer
from tests.system import System

_LOCK_S = 1.5


@contextmanager
def _over_and_over(act: Callable[[], object], threads: int, pause_s: float) -> Iterator[None]:
    done = threading.Event()

    def work() -> None:
        while not done.wait(pause_s):
            act()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        done.set()
        for worker in workers:
            worker.join()


@contextmanager
def requests_for(system: System, path: str, *, threads: int, pause_s: float = 0.05) -> Iterator[None]:
    """Ask for a path from several threads, whatever the answer."""
    with system.client() as client:

        def ask() -> None:
            with suppress(httpx.HTTPError):
                client.get(path)

        with _over_and_over(ask, threads, pause_s):
            yield


@contextmanager
def locked_table(system: System, table: str) -> Iterator[None]:
    """Lock a table, over and over: whoever reads it waits up to a second and a half."""
    with psycopg.connect(system.database_url, autocommit=True) as connection:

        def hold() -> None:
            with connection.transaction():
                connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                connection.execute("SELECT pg_sleep(%s)", [_LOCK_S])

        with _over_and_over(hold, 1, 0.02):
            yield


def queue_syncs_that_fail(system: System, count: int) -> None:
    """Register repositories that are not there, and ask for a sync of each."""
    with system.client() as client:
        for number in range(count):
            url = f"file://{system.directory}/nowhere/{time.time_ns()}-{number}"
            created = client.post("/api/v1/repositories", json={"url": url})
            assert created.status_code == 201, created.text
            accepted = client.post(f"/api/v1/repositories/{created.json()['id']}/sync")
            assert accepted.status_code == 202, accepted.text


@contextmanager
def hung_workers(system: System) -> Iterator[None]:
    """Stop the processes that run tasks; their parent goes on and answers Prometheus."""
    children = psutil.Process(system.processes["worker"].pid).children(recursive=True)
    assert children
    for child in children:
        child.suspend()
    try:
        yield
    finally:
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.resume()


@contextmanager
def killed_worker(system: System) -> Iterator[None]:
    """Kill the worker with all its processes; start one afterwards."""
    process = system.processes.pop("worker")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    try:
        yield
    finally:
        system.start("worker")


@contextmanager
def stopped(watched: MonitoredSystem, name: Watcher) -> Iterator[None]:
    """Stop a watcher; start it afterwards."""
    watched.stop(name)
    try:
        yield
    finally:
        watched.start(name)


class Postmaster:
    """A server's first process, which can be stopped and started again by the same command line.

    The second one is nobody else's, so it ends with the block.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._log = server.log
        [found] = [
            process
            for process in psutil.process_iter(["name"])
            if process.info["name"] == "postgres" and _listens(process, server.port)
        ]
        self._process = found
        self._command, self._account = found.cmdline(), found.uids().real

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it as an administrator would: quickly, and in good order."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=15)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it; start it afterwards."""
        self.stop()
        try:
            yield
        finally:
            with self._log.open("ab") as log:
                groups: list[int] | None = [] if os.geteuid() == 0 else None
                self._process = psutil.Popen(
                    self._command, stdout=log, stderr=log, cwd="/", user=self._account, extra_groups=groups
                )


def _listens(process: psutil.Process, port: int) -> bool:
    with suppress(psutil.Error):
        return any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in process.net_connections("tcp")
        )
    return False


@contextmanager
def small_disk(*, in_memory: bool = False) -> Iterator[Path]:
    """Mount a filesystem of 24 MiB and yield where. Needs root; in memory, root of a namespace will do."""
    folder = Path(tempfile.mkdtemp(prefix="cc-disk-"))
    # node-exporter runs under another account.
    folder.chmod(0o755)
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir(mode=0o755)
    if in_memory:
        _run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mounted))
    else:
        with image.open("wb") as file:
            file.truncate(24 * 2**20)
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
    try:
        yield mounted
    finally:
        _run("umount", str(mounted))
        shutil.rmtree(folder)


@contextmanager
def filled(mounted: Path) -> Iterator[None]:
    """Write until no byte more fits; delete it afterwards."""
    filler = mounted / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**20))
    try:
        yield
    finally:
        filler.unlink()


def _run(name: str, *arguments: str) -> None:
    program = programs.find(name)
    assert program, f"{name} is not installed"
    subprocess.run([program, *arguments], check=True, capture_output=True)
