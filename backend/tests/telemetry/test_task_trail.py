"""A run that fails, is slow, or belongs to a request that asked tells its trail once; all others tell none."""

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task

from app.correlation import Correlation, bind, for_request
from app.telemetry.celery_message import correlation_of, put_ids
from app.telemetry.celery_signals import CelerySignals
from app.telemetry.logs import configure_logging
from app.telemetry.trail import note

Lines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns the lines of an event so far."""
    stream = io.StringIO()
    configure_logging("worker", "info", stream)
    return lambda event: [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == event]


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application whose tasks leave a step each; slow is what takes more than 50 ms."""
    app = Celery("tests", broker="memory://", set_as_current=False)
    CelerySignals(["celery"], quiet={"trail.quiet"}, slow_ms=50).install(app)

    @app.task(shared=False, name="trail.work")
    def work(wait_s: float = 0) -> None:
        note("sql", "SELECT 1", 0.001, 1)
        time.sleep(wait_s)

    @app.task(shared=False, name="trail.quiet")
    def quiet(wait_s: float = 0) -> None:
        work(wait_s)

    @app.task(shared=False, name="trail.fail")
    def fail(wait_s: float = 0) -> None:
        work(wait_s)
        raise LookupError("it is not there")

    @app.task(shared=False, name="trail.again", bind=True, max_retries=3)
    def again(self: "Task[Any, Any]") -> None:
        work()
        if self.request.retries < 2:
            raise self.retry(countdown=0)

    @app.task(shared=False, name="trail.nested")
    def nested() -> None:
        work.apply()

    yield app
    app.close()


def asking() -> Correlation:
    """Return the correlation of a request whose trail is wanted."""
    correlation = for_request(None)
    correlation.wants_trail = True
    return correlation


def steps(line: dict[str, Any]) -> list[str] | None:
    """Return the texts of a line's trail; None where it bears none."""
    return [step["text"] for step in line["trail"]] if "trail" in line else None


def test_an_ordinary_run_leaves_no_trail(app: Celery, log_lines: Lines) -> None:
    """Nobody would read them, and they cost disk."""
    with bind(for_request(None)):
        app.tasks["trail.work"].apply()
        app.tasks["trail.quiet"].apply()
    [line] = log_lines("task.finished")
    assert (line["task"], line["level"], steps(line)) == ("trail.work", "info", None)


@pytest.mark.parametrize("name", ["trail.work", "trail.quiet"])
def test_a_slow_run_tells_its_steps(app: Celery, log_lines: Lines, name: str) -> None:
    """Nothing failed, and yet its queue waited; of a task that is quiet, too."""
    app.tasks[name].apply(args=(0.06,))
    [line] = log_lines("task.finished")
    assert (line["level"], line["state"], steps(line)) == ("warning", "SUCCESS", ["SELECT 1"])


@pytest.mark.parametrize("wait_s", [0, 0.06])
def test_a_failed_run_tells_its_steps_once(app: Celery, log_lines: Lines, wait_s: float) -> None:
    """Slow or asked for as it may be: 16 KiB are worth writing once."""
    with bind(asking()):
        app.tasks["trail.fail"].apply(args=(wait_s,))
    assert [steps(line) for line in log_lines("task.failed")] == [["SELECT 1"]]
    assert [steps(line) for line in log_lines("task.finished")] == [None]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("trail.work", [("trail.work", "SUCCESS")]),
        ("trail.quiet", [("trail.quiet", "SUCCESS")]),
        ("trail.again", [("trail.again", "RETRY"), ("trail.again", "RETRY"), ("trail.again", "SUCCESS")]),
        ("trail.nested", [("trail.work", "SUCCESS")]),
    ],
)
def test_the_runs_of_a_request_that_asked_tell_their_steps(
    app: Celery, log_lines: Lines, name: str, told: list[tuple[str, str]]
) -> None:
    """However they end, and each attempt its own. One on the spot within another has a trail of its own, too."""
    with bind(asking()):
        app.tasks[name].apply()
    found = [(line["task"], line["state"]) for line in log_lines("task.finished") if steps(line) == ["SELECT 1"]]
    assert found == told


@pytest.mark.parametrize("wanted", [True, False])
def test_a_message_bears_the_wish(wanted: bool) -> None:
    """The header was signed for the request; its tasks are a part of it."""
    sender = asking() if wanted else for_request(None)
    headers: dict[str, Any] = {"id": "T"}
    put_ids(headers, sender)
    message = type("Context", (), dict.fromkeys(("id", "root_id", "parent_id", "delivery_info", "retries")))()
    message.headers = headers
    assert correlation_of(message, "a.task").wants_trail is wanted


@pytest.mark.parametrize("value", ["true", 1, None, [True]])
def test_only_our_own_word_is_a_wish(value: object) -> None:
    """What another sender means by a header of that name, nobody knows."""
    headers: dict[str, Any] = {"id": "T"}
    put_ids(headers, for_request(None))
    message = type("Context", (), dict.fromkeys(("id", "root_id", "parent_id", "delivery_info", "retries")))()
    message.headers = headers | {"wants_trail": value}
    assert correlation_of(message, "a.task").wants_trail is False
