"""Tasks that run where they are called, by .apply() or in eager mode: nothing is sent, and nothing stays behind."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task

from app.broker import make_celery
from app.correlation import bind, current, for_request, request_id
from app.telemetry.logs import configure_logging
from app.utils.metrics import CELERY_TASKS

Lines = Callable[..., list[dict[str, Any]]]
BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application with tasks of each outcome; a second one beside it, as where a process makes several."""
    make_celery(BROKER)
    app = make_celery(BROKER)
    app.conf.task_store_eager_result = False
    app.conf.task_ignore_result = True

    @app.task(shared=False, name="spot.tell")
    def tell() -> tuple[str | None, int]:
        correlation = current()
        assert correlation is not None
        return correlation.request_id, correlation.attempt

    @app.task(shared=False, name="spot.fail")
    def fail() -> None:
        raise LookupError("it is not there")

    @app.task(shared=False, name="spot.retry", bind=True, max_retries=3)
    def retry(self: "Task[Any, Any]") -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        correlation = current()
        assert correlation is not None
        return correlation.attempt

    @app.task(shared=False, name="spot.nested")
    def nested() -> list[Any]:
        before = request_id()
        answers = [tell.apply().result, fail.apply().state, request_id()]
        assert before == request_id()
        return answers

    @app.task(shared=False, name="spot.exit")
    def leave() -> None:
        raise SystemExit(3)

    yield app
    app.close()


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far and bears the given values."""
    stream = io.StringIO()
    configure_logging("worker", "info", stream)

    def read(**match: Any) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in lines if all(line.get(key) == value for key, value in match.items())]

    return read


def run(app: Celery, name: str) -> Any:
    """Run a task where we stand."""
    return app.tasks[name].apply(task_id=f"id-of-{name}")


@pytest.mark.parametrize("eager", [False, True], ids=["apply", "eager"])
def test_a_task_on_the_spot_is_part_of_the_request(app: Celery, log_lines: Lines, eager: bool) -> None:
    """Whichever way it is called, and told once, however many applications there are."""
    app.conf.task_always_eager = eager
    with bind(for_request("on-the-spot")):
        task = app.tasks["spot.tell"]
        answer = task.delay() if eager else task.apply()
        assert answer.result == ("on-the-spot", 1)
        assert current() is not None
        assert current().task_id is None  # type: ignore[union-attr]
    lines = log_lines(request_id="on-the-spot")
    assert [line["event"] for line in lines] == ["task.started", "task.finished"]
    assert {(line["task_id"], line["root_id"], line["attempt"]) for line in lines} == {(answer.id, answer.id, 1)}
    assert current() is None


def test_each_attempt_on_the_spot_is_counted(app: Celery, log_lines: Lines) -> None:
    """A retry in eager mode is a call within the call: its attempt is its own."""
    with bind(for_request("tried-thrice")):
        assert run(app, "spot.retry").result == 3
    started = log_lines(event="task.started", request_id="tried-thrice")
    assert [line["attempt"] for line in started] == [1, 2, 3]
    assert {line["task_id"] for line in started} == {"id-of-spot.retry"}
    assert current() is None


def test_a_task_within_a_task_names_its_parent(app: Celery, log_lines: Lines) -> None:
    """And what runs inside leaves the outer one's ID as it was, also where it failed."""
    with bind(for_request("one-in-another")):
        assert run(app, "spot.nested").result == [("one-in-another", 1), "FAILURE", "one-in-another"]
    inner = [line for line in log_lines(event="task.started") if line["task"] in {"spot.tell", "spot.fail"}]
    assert {(line["parent_id"], line["root_id"]) for line in inner} == {("id-of-spot.nested", "id-of-spot.nested")}
    [failed] = log_lines(event="task.failed")
    assert (failed["request_id"], failed["task"]) == ("one-in-another", "spot.fail")


@pytest.mark.parametrize("name", ["spot.tell", "spot.fail", "spot.retry", "spot.nested", "spot.exit"])
def test_nothing_stays_behind(app: Celery, log_lines: Lines, name: str) -> None:
    """Outside of a request each run has an ID of its own; the next one, or a line between them, has another or none."""
    for _ in range(2):
        try:
            run(app, name)
        except SystemExit:
            assert name == "spot.exit"
        assert current() is None
    started = log_lines(event="task.started", task=name)
    assert len({line["request_id"] for line in started}) == 2


def test_another_application_is_left_alone(app: Celery, log_lines: Lines) -> None:
    """Celery's signals are those of the whole process; its tasks are not all ours."""
    other = Celery("other", broker="memory://", set_as_current=False)

    @other.task(shared=False, name="other.tell")
    def tell() -> str | None:
        return request_id()

    with bind(for_request("ours")):
        assert tell.apply().result == "ours"
    assert tell.apply().result is None
    assert log_lines(task="other.tell") == []
    assert 'task="other.tell"' not in str(list(CELERY_TASKS.collect()))
    assert run(app, "spot.tell").state == "SUCCESS"
