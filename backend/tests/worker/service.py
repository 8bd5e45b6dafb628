"""The whole service with short pauses, and what tests ask of it: its jobs, its rows, its metrics."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from app.broker import make_celery
from app.repositories.sync_message import send_sync
from app.vault import TokenVault
from tests.system import SECRET_KEY, System, running_system
from tests.worker.pool import MODULE, metric_value, wait_until_up

Row = dict[str, Any]
FORMER_KEY = "the key of last year and long enough to be one"
# What minutes are in production, a test has seconds for.
_SHORT = {
    "TEST_BEAT_S": "1",
    "SYNC_RETRY_S": "0.5",
    "JOB_LOST_AFTER_S": "4",
    "ALLOW_PRIVATE_ADDRESSES": "true",
    "SYNC_INTERVAL_S": "86400",
    "SECRET_KEY_FALLBACKS": FORMER_KEY,
}


@dataclass
class Service:
    """A running API, worker and beat."""

    system: System
    client: httpx.Client

    def register(self, url: str, **fields: Any) -> int:
        """Register a repository and return its ID."""
        created = self.client.post("/api/v1/repositories", json={"url": url, **fields})
        assert created.status_code == 201, created.text
        return int(created.json()["id"])

    def ask(self, repository_id: int, request_id: str | None = None) -> str:
        """Ask for a sync and return its job's ID."""
        headers = {"X-Request-ID": request_id} if request_id else {}
        accepted = self.client.post(f"/api/v1/repositories/{repository_id}/sync", headers=headers)
        assert accepted.status_code == 202, accepted.text
        return str(accepted.json()["job_id"])

    def sync(self, repository_id: int, request_id: str | None = None) -> Row:
        """Ask for a sync and return its job once it is done."""
        return self.system.finished_job(self.client, self.ask(repository_id, request_id))

    def job(self, job_id: str) -> Row:
        """Return a job as the API shows it."""
        return dict(self.client.get(f"/api/v1/jobs/{job_id}").json())

    def repository(self, repository_id: int) -> Row:
        """Return a repository as the API shows it."""
        return dict(self.client.get(f"/api/v1/repositories/{repository_id}").json())

    def rows(self, query: str, *values: Any) -> list[Row]:
        """Run a statement on the database; return its rows, if it has any."""
        with psycopg.connect(self.system.database_url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(query, values)
            return list(cursor.fetchall()) if cursor.description else []

    def runs(self, job_id: str) -> list[Row]:
        """Return the beginnings of a job's runs, as the worker told them."""
        return self.system.log_lines("worker", event="task.started", task_id=job_id)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of the worker, summed over the series with these labels."""
        return metric_value(self.system, name, **labels)

    def wait_for_run(self, job_id: str, event: str = "task.started") -> Row:
        """Return the first line of a kind of a job's run, once it is there."""
        return self.system.wait_for_line("worker", event=event, task_id=job_id)

    def send_again(self, job_id: str) -> None:
        """Send a job's message once more."""
        app = make_celery(self.system.redis_url)
        try:
            send_sync(app, uuid.UUID(job_id))
        finally:
            app.close()

    def encrypt_with_former_key(self, repository_id: int, token: str) -> None:
        """Store a token as it was before SECRET_KEY was changed."""
        ciphertext = TokenVault([FORMER_KEY]).encrypt(token)
        self.rows("UPDATE repositories SET access_token = %s WHERE id = %s", ciphertext, repository_id)

    def is_current(self, repository_id: int) -> bool:
        """Tell whether the current key alone opens a repository's token."""
        [row] = self.rows("SELECT access_token FROM repositories WHERE id = %s", repository_id)
        return not TokenVault([SECRET_KEY]).needs_rotation(row["access_token"])

    def kill(self, service: str) -> None:
        """End a service with all its processes by SIGKILL, as the kernel does where memory is short."""
        process = self.system.processes.pop(service)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def start_worker(self, **environment: str) -> None:
        """Start the worker and wait until it takes tasks."""
        self.system.start("worker", **environment)
        wait_until_up(self.system)


@contextmanager
def running_service(directory: Path, database_url: str, redis_url: str, **settings: str) -> Iterator[Service]:
    """Run API, worker and beat until the block ends."""
    options: dict[str, Any] = {**_SHORT, **settings}
    with (
        running_system(directory, database_url, redis_url, module=MODULE, **options) as system,
        system.client() as client,
    ):
        yield Service(system, client)
