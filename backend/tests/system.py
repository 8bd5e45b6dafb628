"""The service as it runs: API, worker and beat as processes of their own, on the session's PostgreSQL and Redis."""

import functools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg

from ops.stack import loopback
from ops.stack.errors import last_lines
from ops.stack.ports import free_port
from tests import warm_python

BACKEND = Path(__file__).resolve().parents[1]
SECRET_KEY = "a test's key, long enough to be one"
_START_TIMEOUT_S = 60.0
# Stands in JSON as it is.
_PLAIN = re.compile(r"[A-Za-z0-9_ .:/-]*")
T = TypeVar("T")


def eventually(question: Callable[[], T | None], *, within_s: float = 20.0, what: str = "the condition") -> T:
    """Ask until the answer is truthy and return it; fail with the last answer after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:g} s; last answer: {answer!r}")
        time.sleep(0.05)


@dataclass
class System:
    """A running system: where it answers and where it logs."""

    url: str
    worker_metrics_url: str
    database_url: str
    redis_url: str
    directory: Path
    environment: dict[str, str]
    module: str = "app.serve"
    is_warm: bool = True
    processes: dict[str, subprocess.Popen[bytes] | warm_python.Process] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx.Client:
        """Return an HTTP client of the API."""
        return loopback.client(30, base_url=self.url, **options)

    def log_path(self, service: str) -> Path:
        """Return the file a service writes its lines to."""
        return self.directory / "log" / f"{service}.log"

    def log_lines(self, service: str, **match: Any) -> list[dict[str, Any]]:
        """Return a service's log lines in which every named key has the given value."""
        # The last may still be being written.
        whole, _, _ = self.log_path(service).read_text().rpartition("\n")
        # Asked many times over while it grows: a line without these words need not be read as JSON.
        words = [value for value in match.values() if isinstance(value, str) and _PLAIN.fullmatch(value)]
        lines = [
            json.loads(line)
            for line in whole.splitlines()
            if line.startswith("{") and all(word in line for word in words)
        ]
        return [line for line in lines if all(line.get(key) == value for key, value in match.items())]

    def wait_for_line(self, service: str, **match: Any) -> dict[str, Any]:
        """Return the first such line, waiting for it."""
        return eventually(lambda: self.log_lines(service, **match), what=f"a line of {service} with {match}")[0]

    def sync(self, client: httpx.Client, url: str, request_id: str | None = None) -> tuple[int, dict[str, Any]]:
        """Register `url`, sync it and return its ID and the finished job."""
        created = client.post("/api/v1/repositories", json={"url": url})
        assert created.status_code == 201, created.text
        repository_id = created.json()["id"]
        return repository_id, self.sync_again(client, repository_id, request_id)

    def sync_again(self, client: httpx.Client, repository_id: int, request_id: str | None = None) -> dict[str, Any]:
        """Sync a registered repository and return the finished job."""
        headers = {"X-Request-ID": request_id} if request_id else {}
        accepted = client.post(f"/api/v1/repositories/{repository_id}/sync", headers=headers)
        assert accepted.status_code == 202, accepted.text
        return self.finished_job(client, accepted.json()["job_id"])

    def finished_job(self, client: httpx.Client, job_id: str) -> dict[str, Any]:
        """Return a job once it is done."""

        def done() -> dict[str, Any] | None:
            job: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json()
            return job if job["status"] in {"succeeded", "failed"} else None

        return eventually(done, within_s=60, what=f"the end of job {job_id}")

    def start(self, service: str, **environment: str) -> None:
        """Start one service; its output goes to its log."""
        shared = self.directory / "metrics" / service
        own = {**self.environment, "PROMETHEUS_MULTIPROC_DIR": str(shared), **environment}
        start = warm_python.start if self.is_warm else warm_python.start_cold
        with self.log_path(service).open("ab") as output:
            self.processes[service] = start([self.module, service], cwd=BACKEND, env=own, stdout=output)

    def stop(self, service: str) -> int:
        """Stop one service in good order and return its exit code."""
        process = self.processes.pop(service)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def stop_if_running(self, service: str) -> None:
        """Stop one service unless a test did so already."""
        if service in self.processes:
            self.stop(service)

    def wait_until_ready(self) -> None:
        """Wait until the API says that all it needs is there."""
        with self.client() as client:
            eventually(lambda: self._is_ready(client), within_s=_START_TIMEOUT_S, what="a ready system")

    def _is_ready(self, client: httpx.Client) -> bool:
        for service, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{service} ended with {process.returncode}:\n{last_lines(self.log_path(service))}")
        try:
            return client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any setting of the service."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def migrate(database_url: str, revision: str = "head", command: str = "upgrade") -> subprocess.CompletedProcess[str]:
    """Run alembic on a database; the caller looks at how it ended."""
    return warm_python.run(
        ["alembic", command, revision], cwd=BACKEND, env={**clean_environment(), "DATABASE_URL": database_url}
    )


@functools.cache
def _schema() -> str:
    """What alembic runs on an empty database, as SQL; asked once a process."""
    environment = {**clean_environment(), "DATABASE_URL": "postgresql://nobody@127.0.0.1/none"}
    rendered = warm_python.run(["alembic", "upgrade", "head", "--sql"], cwd=BACKEND, env=environment)
    rendered.check_returncode()
    return rendered.stdout


def ensure_schema(database_url: str) -> None:
    """Bring an empty database to the newest schema; one that has a schema stays as it is."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        [found] = connection.execute("SELECT to_regclass('alembic_version')").fetchone() or (None,)
        if found is None:
            connection.execute(_schema().encode())


@contextmanager
def running_system(
    directory: Path,
    database_url: str,
    redis_url: str,
    services: tuple[str, ...] = ("api", "worker", "beat"),
    module: str = "app.serve",
    is_warm: bool = True,
    **settings: str,
) -> Iterator[System]:
    """Run the service on a migrated database until the block ends; wait until it is ready.

    Args:
        directory: logs and clones go here.
        database_url: an empty database, or one with the newest schema.
        redis_url: a Redis that nobody else uses.
        services: which of `api`, `worker`, `beat` to start.
        module: what starts them.
        is_warm: whether they begin with the libraries imported.
        settings: further settings, by the names of the environment.
    """
    ensure_schema(database_url)
    api_port, worker_port = free_port(), free_port()
    environment = {
        **clean_environment(),
        "ENVIRONMENT": "test",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": SECRET_KEY,
        "API_PORT": str(api_port),
        # Two are what runs by default; each takes seconds of the processor to start.
        "API_WORKERS": "1",
        "WORKER_METRICS_PORT": str(worker_port),
        "ALLOW_LOCAL_REPOSITORIES": "true",
        "REPOSITORY_DIR": str(directory / "repositories"),
        "BEAT_SCHEDULE_FILE": str(directory / "celerybeat-schedule"),
        **settings,
    }
    system = System(
        f"http://127.0.0.1:{api_port}",
        f"http://127.0.0.1:{worker_port}",
        database_url,
        redis_url,
        directory,
        environment,
        module,
        is_warm,
    )
    (directory / "log").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for service in services:
            system.start(service)
            stack.callback(system.stop_if_running, service)
        if "api" in services and "worker" in services:
            system.wait_until_ready()
        yield system
