"""What is built out of log lines: requests, tasks, runs, and what is missing."""

import io
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ops.trace.model import Story
from ops.trace.records import MalformedLineError, parse_line
from ops.trace.render import story_tree
from ops.trace.story import build_story

BASE = datetime(2026, 11, 24, 8, tzinfo=UTC)


def line(event: str, ms: float = 0, **keys: Any) -> dict[str, Any]:
    at = (BASE + timedelta(milliseconds=ms)).isoformat()
    return {"timestamp": at, "event": event, "service": "api", "pid": 1, "request_id": "r", "trace_id": "t"} | keys


def in_task(event: str, ms: float, task_id: str = "T", **keys: Any) -> dict[str, Any]:
    return line(event, ms, **{"service": "worker", "pid": 9, "task_id": task_id, "task": "work", "attempt": 1} | keys)


def story(*lines: dict[str, Any]) -> Story:
    return build_story("r", [parse_line(orjson.dumps(one), index) for index, one in enumerate(lines)], [])


def finished(ms: float, duration_ms: float, **keys: Any) -> dict[str, Any]:
    usual = {"status": 200, "method": "GET", "path": "/", "route": "/"}
    return line("request.finished", ms, **(usual | {"duration_ms": duration_ms} | keys))


def test_a_client_that_tries_again_has_two_requests():
    """The same X-Request-ID twice, one after the other: each keeps its own lines."""
    found = story(line("first", 5), finished(10, 10), line("second", 105), finished(110, 10, status=500))
    assert [[one.event for one in request.lines] for request in found.requests] == [["first"], ["second"]]
    assert [request.status for request in found.requests] == [200, 500]


def test_interleaved_requests_keep_their_own_lines():
    """Two processes serve the same ID at the same time."""
    found = story(
        line("a1", 1, pid=1, trace_id="t1"),
        line("b1", 2, pid=2, trace_id="t2"),
        line("a2", 3, pid=1, trace_id="t1"),
        finished(5, 5, pid=2, trace_id="t2"),
        finished(6, 6, pid=1, trace_id="t1"),
    )
    assert {request.pid: [one.event for one in request.lines] for request in found.requests} == {
        1: ["a1", "a2"],
        2: ["b1"],
    }
    assert found.trace_ids == ["t1", "t2"]


def test_equal_times_keep_the_order_of_the_file():
    """Clocks tick in microseconds, or coarser; the file knows which came first."""
    lines = [*(line(name, 1) for name in "dacb"), finished(1, 1)]
    records = [parse_line(orjson.dumps(one), index) for index, one in enumerate(lines)]
    found = build_story("r", reversed(records), [])
    assert [one.event for one in found.requests[0].lines] == list("dacb")


def test_times_of_other_zones_are_put_in_order():
    late = line("late") | {"timestamp": "2026-11-24T10:00:00.002+02:00"}
    early = line("early") | {"timestamp": "2026-11-24T08:00:00.001Z"}
    found = story(late, early, finished(3, 3))
    assert [one.event for one in found.requests[0].lines] == ["early", "late"]


def test_a_request_without_its_end_is_running():
    (request,) = story(line("something", 1)).requests
    assert (request.state, request.ended_at, request.started_at) == ("RUNNING", None, BASE + timedelta(milliseconds=1))


def test_a_task_that_was_sent_and_not_started_is_queued():
    """And it is said that no line of the worker tells of it."""
    found = story(line("task.sent", 1, sent_task="work", sent_task_id="T", queue="q"), finished(2, 2))
    (task,) = found.requests[0].tasks
    assert (task.state, task.queue, task.sent_at) == ("QUEUED", "q", BASE + timedelta(milliseconds=1))
    assert any("No line of the worker about work" in note for note in found.notes)
    assert found.ended_at is None


def test_a_task_that_was_started_and_not_finished_is_running():
    found = story(in_task("task.started", 1, queue_wait_ms=4))
    assert [(task.state, task.runs[0].queue_wait_ms) for task in found.tasks] == [("RUNNING", 4.0)]
    assert any("No line of a request" in note for note in found.notes)


def test_a_retry_is_a_second_run_of_the_same_task():
    """It is sent by the task itself, and is no child of its own."""
    found = story(
        line("task.sent", 0, sent_task="work", sent_task_id="T"),
        finished(1, 1),
        in_task("task.started", 2),
        in_task("task.retry", 3, error_type="Busy", reason="later"),
        in_task("task.sent", 4, sent_task="work", sent_task_id="T"),
        in_task("task.finished", 5, state="RETRY", duration_ms=3),
        in_task("task.started", 9, attempt=2),
        in_task("task.finished", 11, attempt=2, state="SUCCESS", duration_ms=2),
    )
    (task,) = found.requests[0].tasks
    assert [(run.attempt, run.state) for run in task.runs] == [(1, "RETRY"), (2, "SUCCESS")]
    assert (task.state, task.tasks, found.tasks) == ("SUCCESS", [], [])


def test_a_retry_is_not_when_the_task_was_sent():
    """Where the line of who sent it first is gone, nobody knows when that was."""
    found = story(in_task("task.started", 1), in_task("task.sent", 4, sent_task="work", sent_task_id="T"))
    assert [(task.sent_at, task.tasks) for task in found.tasks] == [(None, [])]


@pytest.mark.parametrize("number", [9e14, -9e14, 1e308, 2**64 - 1, -(2**63)])
def test_numbers_beyond_all_measure_are_survived(number):
    """A date has limits, a JSON number has none."""
    huge = dict.fromkeys(("status", "duration_ms", "queue_wait_ms", "progress", "pid", "attempt"), number)
    sql = {"count": number, "time_ms": number, "slowest_ms": number, "slowest": "x"}
    found = story(
        line("request.finished", 1, sql=sql, **huge),
        in_task("task.started", 2, **huge),
        in_task("sync.progress", 2, **huge),
        in_task("task.finished", 3, sql=sql, **huge),
    )
    Console(file=io.StringIO()).print(story_tree(found, BASE))
    orjson.dumps(found)


def test_a_message_delivered_twice_at_once_has_two_runs():
    """The broker may give one message to two workers; both count as the same attempt."""
    found = story(
        in_task("task.started", 1, pid=1),
        in_task("task.started", 2, pid=2),
        in_task("one", 3, pid=1),
        in_task("two", 4, pid=2),
        in_task("task.finished", 5, pid=1, state="SUCCESS"),
        in_task("task.finished", 6, pid=2, state="SUCCESS"),
    )
    assert [[one.event for one in run.lines] for run in found.tasks[0].runs] == [["one"], ["two"]]


def test_a_killed_child_fails_by_its_parents_word():
    """Past its hard time limit: the child is no more; the parent process, with another pid, tells the end."""
    killed: dict[str, Any] = {"error_type": "TimeLimitExceeded", "state": "FAILURE"}
    found = story(in_task("task.started", 1), in_task("task.failed", 9, pid=8, **killed))
    (run,) = found.tasks[0].runs
    assert run.error is not None
    assert (run.state, run.error.type, run.pid) == ("FAILURE", "TimeLimitExceeded", 9)


LOST: dict[str, Any] = {
    "state": "LOST",
    "error_type": "WorkerLostError",
    "fingerprint": "f",
    "reason": "signal 9 (SIGKILL)",
    "pid": 8,
}


def test_a_killed_process_is_lost_and_its_message_comes_again():
    """Its parent process tells; the next delivery is another attempt."""
    found = story(
        line("task.sent", 0, sent_task="work", sent_task_id="T"),
        finished(1, 1),
        in_task("task.started", 2),
        in_task("task.failed", 5, **LOST),
        in_task("task.started", 7, attempt=2, pid=10),
        in_task("task.finished", 9, attempt=2, pid=10, state="SUCCESS"),
    )
    (task,) = found.requests[0].tasks
    first, second = task.runs
    assert (first.state, first.ended_at, second.state) == ("LOST", BASE + timedelta(milliseconds=5), "SUCCESS")
    assert first.error is not None
    assert (first.error.type, first.error.message) == ("WorkerLostError", "signal 9 (SIGKILL)")
    assert (task.state, second.error) == ("SUCCESS", None)


def test_a_run_that_was_lost_keeps_the_story_open_until_it_failed_for_good():
    """Its message is in the queue again; or it was the last time, and the parent says so too."""
    lost = [in_task("task.started", 2), in_task("task.failed", 5, **LOST)]
    assert (story(*lost).tasks[0].state, story(*lost).ended_at) == ("LOST", None)
    failed = story(*lost, in_task("task.failed", 6, **(LOST | {"state": "FAILURE"})))
    assert (failed.tasks[0].state, failed.ended_at) == ("FAILURE", BASE + timedelta(milliseconds=6))


def test_a_nested_task_keeps_its_parent_when_it_is_tried_again():
    found = story(
        in_task("task.started", 1, "A"),
        in_task("task.started", 2, "B", parent_id="A"),
        in_task("task.sent", 3, "B", parent_id="A", sent_task="work", sent_task_id="B"),
        in_task("task.started", 4, "B", parent_id="A", attempt=2),
    )
    (a,) = found.tasks
    assert [(task.task_id, task.parent_id, len(task.runs)) for task in a.tasks] == [("B", "A", 2)]


def test_a_revoked_task_never_started():
    (run,) = story(in_task("task.finished", 1, state="REVOKED")).tasks[0].runs
    assert (run.state, run.started) == ("REVOKED", False)


def test_nested_tasks_stand_under_the_one_that_sent_them():
    """By the line that says so, or else by parent_id."""
    found = story(
        line("task.sent", 0, sent_task="work", sent_task_id="A"),
        finished(1, 1),
        in_task("task.started", 2, "A"),
        in_task("task.sent", 3, "A", sent_task="work", sent_task_id="B"),
        in_task("task.started", 4, "B", parent_id="A"),
        in_task("task.started", 5, "C", parent_id="B"),
    )
    (a,) = found.requests[0].tasks
    (b,) = a.tasks
    (c,) = b.tasks
    assert (a.task_id, b.task_id, c.task_id) == ("A", "B", "C")


def test_tasks_that_claim_to_be_each_others_parents_are_told_all_the_same():
    """Lines may lie. Nothing is lost, and nothing loops."""
    found = story(in_task("x", 1, "A", parent_id="B"), in_task("x", 2, "B", parent_id="A"))
    assert {task.task_id for task in found.tasks} == {"A", "B"}


def test_lines_of_neither_request_nor_task_are_kept():
    assert [one.event for one in story(line("tick", service="beat")).lines] == ["tick"]


def test_a_statement_missing_in_postgresqls_log_is_said():
    found = story(finished(2, 2, sql={"count": 3, "time_ms": 1.5}))
    assert any("counted 3 statements" in note for note in found.notes)


STEPS = [
    {"at_ms": 2.5, "kind": "sql", "text": "SELECT 1", "duration_ms": 1.5, "detail": 3},
    {"kind": "left_out", "steps": 7},
    {"at_ms": 8.0, "kind": "log", "text": "looked up key=value", "detail": "debug"},
]


def test_a_trail_stands_in_its_requests_time():
    """Its steps count from when the request began, the story from its first line."""
    found = story(line("before", 0, trace_id="other", pid=2), finished(20, 10, trail=STEPS))
    (request,) = [one for one in found.requests if one.trail]
    assert [(one.kind, one.offset_ms, one.duration_ms, one.detail, one.steps) for one in request.trail] == [
        ("sql", 12.5, 1.5, 3, None),
        ("left_out", None, None, None, 7),
        ("log", 18.0, None, "debug", None),
    ]
    assert request.trail[0].at == BASE + timedelta(milliseconds=12.5)


def test_a_trail_that_is_told_twice_is_shown_once():
    """request.failed tells it up to the error, request.finished to the end; whichever knows more counts."""
    failed = line("request.failed", 9, error_type="E", trail=STEPS[:2])
    for end in (finished(10, 10, trail=STEPS), finished(10, 10)):
        (request,) = story(failed, end).requests
        assert len(request.trail) == len(STEPS if "trail" in end else STEPS[:2])
        assert not request.lines


def test_a_run_has_a_trail_of_its_own():
    """A task that is tried again begins a new one; one that was slow, or asked for, tells it when it ends."""
    found = story(
        in_task("task.started", 100),
        in_task("task.failed", 120, error_type="E", state="FAILURE", trail=STEPS),
        in_task("task.started", 200, attempt=2),
        in_task("task.failed", 220, attempt=2, error_type="E", state="FAILURE", trail=STEPS[2:]),
        in_task("task.finished", 221, attempt=2, state="FAILURE", duration_ms=21),
        in_task("task.started", 300, attempt=3),
        in_task("task.finished", 320, attempt=3, state="SUCCESS", duration_ms=20, trail=STEPS[:1]),
    )
    assert [[one.offset_ms for one in run.trail] for run in found.tasks[0].runs] == [
        [2.5, None, 8.0],
        [108.0],
        [202.5],
    ]


def test_no_step_ends_after_its_line_was_written():
    """Where the line of the beginning is gone, the trail's own says when that was at the latest."""
    found = story(in_task("earlier", 0, "other"), in_task("task.failed", 50, error_type="E", trail=STEPS))
    (run,) = next(task for task in found.tasks if task.task_id == "T").runs
    assert [one.offset_ms for one in run.trail] == [44.5, None, 50.0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
EVENTS = st.sampled_from(
    [
        "request.finished",
        "request.failed",
        "task.sent",
        "task.started",
        "task.finished",
        "task.failed",
        "outbound.finished",
        "sync.progress",
        "else",
    ]
)
KEYS = ["service", "pid", "task_id", "task", "root_id", "parent_id", "attempt", "trace_id", "level", "logger", "sql"]
KEYS += ["sent_task", "sent_task_id", "queue", "queue_wait_ms", "duration_ms", "status", "state", "route", "exception"]
KEYS += ["error_type", "stage", "progress", "method", "path", "client"]
STEP_KEYS = ["at_ms", "kind", "text", "duration_ms", "detail", "steps"]
TRAILS = JSON | st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(STEP_KEYS, JSON)) | JSON, max_size=3)
NAMES = st.sampled_from(["A", "B", "C", "api", "worker"])
LINES = st.fixed_dictionaries(
    {"timestamp": st.datetimes().map(datetime.isoformat), "event": EVENTS},
    optional=dict.fromkeys(KEYS, JSON | NAMES) | {"trail": TRAILS},
)


@given(st.lists(LINES, min_size=1, max_size=8))
def test_any_lines_make_a_story(lines):
    """Whatever an older or newer version logs, or somebody forges: no line is lost, and none breaks it."""
    found = story(*lines)
    Console(file=io.StringIO()).print(story_tree(found, BASE))
    orjson.dumps(found)
    told: set[str] = set()
    pending = [*found.tasks, *(task for request in found.requests for task in request.tasks)]
    while pending:
        task = pending.pop()
        assert task.task_id not in told
        told.add(task.task_id)
        pending += task.tasks
    known = {parse_line(orjson.dumps(one)).task_id for one in lines} - {None}
    assert known <= told


@given(st.binary())
def test_any_bytes_are_a_line_or_malformed(raw):
    with suppress(MalformedLineError):
        parse_line(raw)
