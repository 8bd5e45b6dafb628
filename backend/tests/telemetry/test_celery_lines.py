"""What Celery says of a failed task is said once: by our `task.failed`, which has more to tell."""

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import LOG_INTERNAL_ERROR, log_policy_internal

from app.correlation import bind, for_request
from app.telemetry.logs import configure_logging

Lines = Callable[[], list[dict[str, Any]]]
CELERYS = "celery.app.trace"


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("worker", "info", stream)
    configure_logging("worker", "info", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def run_a_task_that_fails(task_id: str) -> None:
    app = Celery("tests", broker="memory://", set_as_current=False)

    # Else it would be a task of every application that is made later.
    @app.task(shared=False)
    def fail() -> None:
        raise RuntimeError("what it says")

    assert fail.apply(task_id=task_id).state == "FAILURE"


def test_a_failed_task_of_ours_is_told_once(log_lines: Lines) -> None:
    """Its own line has type, fingerprint, trail and traceback; a second traceback only hides the next line."""
    correlation = for_request("the-id")
    correlation.task_id = "T"
    with bind(correlation):
        run_a_task_that_fails("T")
    assert log_lines() == []


def test_without_the_layer_celerys_line_is_all_there_is(log_lines: Lines) -> None:
    """Where CORRELATION_ENABLED is false nobody else tells; nor does anyone for a task within our task."""
    run_a_task_that_fails("T")
    correlation = for_request("the-id")
    correlation.task_id = "another"
    with bind(correlation):
        run_a_task_that_fails("T")
    assert [(line["logger"], line["level"]) for line in log_lines()] == [(CELERYS, "error")] * 2
    assert all("RuntimeError: what it says" in line["exception"] for line in log_lines())


def test_celerys_other_errors_stay(log_lines: Lines) -> None:
    """An error of Celery itself has the same template, and no line of ours."""
    correlation = for_request("the-id")
    correlation.task_id = "T"
    context = {"name": "work", "id": "T", "exc": "ValueError()", "description": log_policy_internal.description}
    logger = logging.getLogger(CELERYS)
    with bind(correlation):
        logger.log(log_policy_internal.severity, LOG_INTERNAL_ERROR.strip(), context)
        logger.error("Something else of %(name)s", context | {"description": "raised unexpected"})
        logger.error("Task %s raised unexpected: %s", "work", "something")
        logger.error("Process cleanup failed: %r", ValueError())
        logging.getLogger("celery.other").error("Task %(name)s[%(id)s] %(description)s: %(exc)s", context)
    assert [line["event"] for line in log_lines()] == [
        "Task work[T] INTERNAL ERROR: ValueError()",
        "Something else of work",
        "Task work raised unexpected: something",
        "Process cleanup failed: ValueError()",
        "Task work[T] INTERNAL ERROR: ValueError()",
    ]
