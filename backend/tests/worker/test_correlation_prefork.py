"""What a worker's parent process does to its children, and they to themselves: told by the ID, counted once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.system import eventually
from tests.worker.pool import Pool

STATES = ("SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED", "LOST")


def counts(prefork: Pool, task: str) -> dict[str, float]:
    """Return how many runs of a task ended in each state."""
    found = {state: prefork.metric("celery_tasks_total", task=task, state=state) for state in STATES}
    return {state: number for state, number in found.items() if number}


@contextmanager
def child_ends(prefork: Pool) -> Iterator[None]:
    """In the block a child ends; wait until its parent has put another one in its place.

    By then it has told and counted all that it has to say of the one that ended.
    """
    parent = psutil.Process(prefork.system.processes["worker"].pid)
    before = {child.pid for child in parent.children()}
    yield

    def replaced() -> bool:
        now = {child.pid for child in parent.children()}
        return bool(before - now and now - before)

    eventually(replaced, what="another child in the place of the one that ended")


def test_what_is_terminated_while_it_runs_is_revoked_and_nothing_else(prefork: Pool) -> None:
    """Its process is ended for it; that is no failure, and no lost run."""
    task_id = prefork.send("terminated", "test.sleep", 60)
    eventually(lambda: prefork.lines("terminated", "test.sleeping"), what="a task that runs")
    with child_ends(prefork):
        prefork.app.control.revoke(task_id, terminate=True, signal="SIGTERM")
        [line] = prefork.finished("terminated")
    assert (line["state"], line["task_id"], line["attempt"]) == ("REVOKED", task_id, 1)
    prefork.send("after-terminated", "test.sleep", 0)
    prefork.finished("after-terminated")
    assert prefork.lines("terminated", "task.failed") == []
    assert counts(prefork, "test.sleep") == {"REVOKED": 1, "SUCCESS": 1}


def test_what_is_killed_while_it_runs_is_revoked_and_nothing_else(prefork: Pool) -> None:
    """The same where it gets no chance to clean up."""
    before = counts(prefork, "test.sleep").get("REVOKED", 0)
    task_id = prefork.send("killed", "test.sleep", 60)
    eventually(lambda: prefork.lines("killed", "test.sleeping"), what="a task that runs")
    with child_ends(prefork):
        prefork.app.control.revoke(task_id, terminate=True, signal="SIGKILL")
        [line] = prefork.finished("killed")
    assert line["state"] == "REVOKED"
    prefork.send("after-killed", "test.sleep", 0)
    prefork.finished("after-killed")
    assert prefork.lines("killed", "task.failed") == []
    assert counts(prefork, "test.sleep")["REVOKED"] == before + 1
    assert "LOST" not in counts(prefork, "test.sleep")


def test_a_soft_time_limit_is_a_failure_with_the_id(prefork: Pool) -> None:
    """The child tells it; the parent's warning bears the ID too."""
    task_id = prefork.send("soft", "test.soft")
    [line] = prefork.finished("soft")
    assert (line["state"], line["task_id"]) == ("FAILURE", task_id)
    failed = prefork.line("soft", "task.failed")
    assert failed["error_type"] == "SoftTimeLimitExceeded"
    warned = eventually(
        lambda: [line for line in prefork.lines("soft") if line["event"].startswith("Soft time limit")],
        what="the parent's warning",
    )
    assert [line["task_id"] for line in warned] == [task_id]
    assert failed["pid"] not in {line["pid"] for line in warned}
    assert counts(prefork, "test.soft") == {"FAILURE": 1}


def test_a_hard_time_limit_is_a_failure_with_the_id(prefork: Pool) -> None:
    """The child is killed in the middle: its parent tells it, once."""
    task_id = prefork.send("hard", "test.hard", link_error=prefork.app.signature("test.on_error_later"))
    failed = eventually(lambda: prefork.lines("hard", "task.failed"), what="the failure")
    assert [(line["error_type"], line["task_id"], line["attempt"], line["state"]) for line in failed] == [
        ("TimeLimitExceeded", task_id, 1, "FAILURE")
    ]
    [handled] = prefork.finished("hard")
    assert (handled["task"], handled["parent_id"], handled["state"]) == ("test.on_error_later", task_id, "SUCCESS")
    [started] = [line for line in prefork.started("hard") if line["task"] == "test.hard"]
    assert started["pid"] != failed[0]["pid"]
    eventually(lambda: counts(prefork, "test.hard"))
    assert counts(prefork, "test.hard") == {"FAILURE": 1}
    assert prefork.metric("celery_task_failures_total", task="test.hard", exception="TimeLimitExceeded") == 1


@pytest.mark.parametrize("how", ["_exit", "exit", "kill"])
def test_a_task_that_ends_its_own_process_is_lost_and_run_again(prefork: Pool, how: str) -> None:
    """Each way to die: told by the parent, counted as lost, and the next attempt goes on under the same ID."""
    before = counts(prefork, "test.end_process")
    task_id = prefork.send(f"lost-{how}", "test.end_process", how)
    [finished] = prefork.finished(f"lost-{how}")
    assert (finished["state"], finished["attempt"], finished["task_id"]) == ("SUCCESS", 2, task_id)
    lost = prefork.line(f"lost-{how}", "task.failed")
    assert (lost["state"], lost["error_type"], lost["attempt"]) == ("LOST", "WorkerLostError", 1)
    assert [line["attempt"] for line in prefork.started(f"lost-{how}")] == [1, 2]
    assert prefork.line(f"lost-{how}", "task.retry")
    eventually(lambda: counts(prefork, "test.end_process").get("SUCCESS", 0) == before.get("SUCCESS", 0) + 1)
    assert counts(prefork, "test.end_process") == {
        "SUCCESS": before.get("SUCCESS", 0) + 1,
        "LOST": before.get("LOST", 0) + 1,
    }


def test_a_task_that_always_ends_its_process_comes_to_an_end(prefork: Pool) -> None:
    """Tried four times; then it is a failure, and the queue is free of it."""
    task_id = prefork.send("always-lost", "test.always_end_process")
    eventually(lambda: prefork.lines("always-lost", "task.failed", state="FAILURE"), what="the end of it")
    assert [line["attempt"] for line in prefork.started("always-lost")] == [1, 2, 3, 4]
    assert {line["task_id"] for line in prefork.lines("always-lost") if "task_id" in line} == {task_id}
    assert counts(prefork, "test.always_end_process") == {"LOST": 4, "FAILURE": 1}
    depth = prefork.metric("celery_queue_depth", queue="default")
    assert depth == 0


def test_a_child_that_is_killed_while_idle_takes_nothing_along(prefork: Pool) -> None:
    """No task, no line, and the next one runs."""
    prefork.send("before-idle", "test.note")
    prefork.finished("before-idle")
    [line] = prefork.started("before-idle")
    failures = prefork.metric("celery_task_failures_total")
    with child_ends(prefork):
        os.kill(line["pid"], signal.SIGKILL)
    for number in range(4):
        prefork.send(f"after-idle-{number}", "test.note")
        prefork.finished(f"after-idle-{number}")
    assert prefork.metric("celery_task_failures_total") == failures


def test_nothing_stays_behind_in_parent_and_children(prefork: Pool) -> None:
    """After all that the tests above did to them."""
    for number in range(4):
        prefork.send(f"last-{number}", "test.note")
        prefork.finished(f"last-{number}")
    outside = [
        line for line in prefork.system.log_lines("worker") if line["event"] in {"test.between", "test.received"}
    ]
    assert [line for line in outside if "request_id" in line or "task_id" in line] == []
    assert prefork.metric("commandcenter_observability_failures_total") == 0


def test_every_line_of_the_worker_is_json(prefork: Pool) -> None:
    """Also what its libraries say of children that ended; nothing writes past the log."""
    prefork.send("ends-a-child", "test.end_process", "_exit")
    prefork.finished("ends-a-child")
    ended = eventually(
        lambda: [line for line in prefork.system.log_lines("worker") if "exited with" in line["event"]],
        what="the library's line",
    )
    assert {line["logger"] for line in ended} == {"multiprocessing"}
    lines = prefork.system.log_path("worker").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("{")] == []
