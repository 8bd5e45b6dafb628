"""A worker of one pool, and a hand that sends it tasks as a request of the API does."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

from app.broker import make_celery
from app.correlation import bind, for_request
from ops.stack import loopback
from tests.system import System, eventually, running_system

POOLS = ("prefork", "threads", "gevent", "solo")
MODULE = "tests.worker.run"
Line = dict[str, Any]


@dataclass
class Pool:
    """A running worker.

    `name`: `prefork`, `threads`, `gevent` or `solo`.
    `app`: the application as a sender has it.
    """

    name: str
    system: System
    app: Celery

    def send(self, request_id: str, task: str, *arguments: Any, **options: Any) -> str:
        """Send a task for a request and return the task's ID."""
        with bind(for_request(request_id)):
            return str(self.app.send_task(task, args=arguments, **options).id)

    def lines(self, request_id: str, *events: str, **match: Any) -> list[Line]:
        """Return the worker's lines that bear an ID, of these events."""
        found = self.system.log_lines("worker", request_id=request_id, **match)
        return [line for line in found if not events or line["event"] in events]

    def line(self, request_id: str, event: str) -> Line:
        """Return the one line of an event, once it is there: what one process wrote may come after another's."""
        [line] = eventually(lambda: self.lines(request_id, event), what=f"{event} of {request_id} in {self.name}")
        return line

    def finished(self, request_id: str, runs: int = 1) -> list[Line]:
        """Return the ends of a request's runs, once there are so many."""

        def ends() -> list[Line] | None:
            found = self.lines(request_id, "task.finished")
            return found if len(found) >= runs else None

        found = eventually(ends, what=f"the end of {runs} runs of {request_id} in {self.name}")
        assert len(found) == runs, found
        return found

    def started(self, request_id: str) -> list[Line]:
        """Return the beginnings of a request's runs."""
        return self.lines(request_id, "task.started")

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value as the worker tells it now, summed over the series that have these labels."""
        return metric_value(self.system, name, **labels)


def metric_value(system: System, name: str, **labels: str) -> float:
    """Return a metric of the worker, summed over the series that have these labels; 0 where there is none."""
    return sum(value for found, value in metric_series(system, name) if labels.items() <= found.items())


def metric_series(system: System, name: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and value of each series that the worker has of a metric."""
    text = loopback.get(f"{system.worker_metrics_url}/metrics", timeout_s=10).text
    matches = (re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line) for line in text.splitlines())
    return [(dict(re.findall(r'(\w+)="([^"]*)"', match[1])), float(match[2])) for match in matches if match]


@contextmanager
def running_pool(directory: Path, name: str, database_url: str, redis_url: str, **settings: str) -> Iterator[Pool]:
    """Run a worker with one pool until the block ends; `wait_until_up` is the caller's."""
    options: dict[str, Any] = {"module": MODULE, "TEST_POOL": name, **settings}
    # gevent puts its own in the place of what libraries import: it must come first.
    is_warm = name != "gevent"
    with running_system(directory, database_url, redis_url, services=(), is_warm=is_warm, **options) as system:
        system.start("worker")
        app = make_celery(redis_url)
        # Nobody here waits for a result; the client library would listen for each, longer than Redis lives.
        backend: Any = app.backend
        backend.on_task_call = lambda *_, **__: None
        backend.add_pending_result = backend.remove_pending_result = lambda result, *_, **__: result
        try:
            yield Pool(name, system, app)
        finally:
            app.close()
            system.stop_if_running("worker")


def wait_until_up(system: System) -> None:
    """Wait until the worker takes tasks: only then it serves its metrics."""

    def answers() -> bool:
        worker = system.processes["worker"]
        assert worker.poll() is None, system.log_path("worker").read_text()[-3000:]
        try:
            return loopback.get(f"{system.worker_metrics_url}/metrics").status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers, within_s=60, what="a worker that is up")
