"""Every way from a task to the next, with a real worker of each pool: the ID goes along, and nothing stays behind."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group, uuid

from app.correlation import bind, for_request
from tests.system import eventually
from tests.worker.pool import Line, Pool


def ids(lines: list[Line], *keys: str) -> list[tuple[Any, ...]]:
    """Return these keys of each line."""
    return [tuple(line.get(key) for key in keys) for line in lines]


def test_nested_tasks_keep_root_and_parent(pool: Pool) -> None:
    """However deep, each names its parent, and all of them their root."""
    root = pool.send("nested", "test.nested", 3)
    pool.finished("nested", runs=4)
    first, *rest = pool.started("nested")
    assert (first["task_id"], first["root_id"], first.get("parent_id"), first["attempt"]) == (root, root, None, 1)
    above = root
    for line in rest:
        assert (line["root_id"], line["parent_id"], line["attempt"]) == (root, above, 1)
        above = line["task_id"]
    sent = pool.lines("nested", "task.sent")
    assert [line["sent_task_id"] for line in sent] == [line["task_id"] for line in rest]


def test_the_wish_for_a_trail_goes_along(pool: Pool) -> None:
    """To each attempt, and to the tasks that they send."""
    with bind(for_request("asked-for")) as correlation:
        correlation.wants_trail = True
        pool.app.send_task("test.retry", args=[1])
    told = {(line["task"], line["state"]): line for line in pool.finished("asked-for", runs=3)}
    for state in ("RETRY", "SUCCESS"):
        assert [step["kind"] for step in told["test.retry", state]["trail"]] == ["task"]
    assert told.keys() == {("test.retry", "RETRY"), ("test.retry", "SUCCESS"), ("test.note", "SUCCESS")}


def test_each_attempt_is_the_same_task(pool: Pool) -> None:
    """Retried, it goes on under its ID, its request's and its parent's; the attempt counts."""
    task_id = pool.send("retried", "test.retry", 2)
    pool.finished("retried", runs=4)
    *attempts, note = pool.started("retried")
    assert ids(attempts, "task_id", "root_id", "parent_id", "attempt") == [
        (task_id, task_id, None, number) for number in (1, 2, 3)
    ]
    assert ids([note], "task", "root_id", "parent_id", "attempt") == [("test.note", task_id, task_id, 1)]
    # Where tasks run side by side, one may end before the one that sent it.
    assert sorted(ids(pool.lines("retried", "task.retry"), "attempt", "error_type", "reason")) == [
        (number, "ConnectionError", "not yet") for number in (1, 2)
    ]
    ends = {(line["task"], line["attempt"]): line["state"] for line in pool.lines("retried", "task.finished")}
    assert ends == {
        ("test.retry", 1): "RETRY",
        ("test.retry", 2): "RETRY",
        ("test.retry", 3): "SUCCESS",
        ("test.note", 1): "SUCCESS",
    }


def test_a_nested_task_that_is_retried_keeps_its_parent(pool: Pool) -> None:
    """Celery would name it its own parent."""
    with bind(for_request("chain-retried")):
        first = chain(pool.app.signature("test.note"), pool.app.signature("test.retry", args=[1], immutable=True))()
    pool.finished("chain-retried", runs=4)
    runs = [line for line in pool.started("chain-retried") if line["task"] == "test.retry"]
    assert ids(runs, "parent_id", "root_id", "attempt") == [(first.parent.id, first.parent.id, n) for n in (1, 2)]


def test_the_wait_for_an_eta_is_no_wait_in_the_queue(pool: Pool) -> None:
    """Else each delayed task and each retry would look like a jam."""
    count = pool.metric("celery_task_queue_wait_seconds_count", task="test.note")
    before = pool.metric("celery_task_queue_wait_seconds_sum", task="test.note")
    eta = datetime.now(UTC) + timedelta(seconds=1.5)
    pool.send("with-eta", "test.note", eta=eta)
    # Its own is a little later: it is counted from when it is sent.
    pool.send("with-countdown", "test.note", countdown=1.5)
    [finished] = pool.finished("with-eta")
    [delayed] = pool.finished("with-countdown")
    waits_ms = []
    for line in (*pool.started("with-eta"), *pool.started("with-countdown")):
        since_ms = (datetime.fromisoformat(line["timestamp"]) - eta) / timedelta(milliseconds=1)
        # Celery's clock is not that fine. On a busy machine both grow; counted from the sending only one would.
        assert since_ms > -100
        assert 0 <= line["queue_wait_ms"] <= max(since_ms, 0) + 1
        waits_ms.append(line["queue_wait_ms"])
    assert (finished["attempt"], delayed["attempt"]) == (1, 1)
    eventually(lambda: pool.metric("celery_task_queue_wait_seconds_count", task="test.note") == count + 2)
    measured_ms = (pool.metric("celery_task_queue_wait_seconds_sum", task="test.note") - before) * 1000
    assert measured_ms == pytest.approx(sum(waits_ms), abs=1)


def test_a_chain_goes_on_with_the_id(pool: Pool) -> None:
    """Each link is sent by the worker when the one before it is done."""
    note = pool.app.signature("test.note", immutable=True)
    with bind(for_request("chain")):
        last = chain(note, note, note)()
    pool.finished("chain", runs=3)
    one, two, three = last.parent.parent.id, last.parent.id, last.id
    assert ids(pool.started("chain"), "task_id", "parent_id", "root_id") == [
        (one, None, one),
        (two, one, one),
        (three, two, one),
    ]


def test_a_groups_tasks_share_the_id(pool: Pool) -> None:
    """They are sent at once; each is told."""
    note = pool.app.signature("test.note", immutable=True)
    with bind(for_request("group")):
        result = group(note, note, note)()
    pool.finished("group", runs=3)
    assert {line["task_id"] for line in pool.started("group")} == {each.id for each in result.results}
    assert {line.get("parent_id") for line in pool.started("group")} == {None}


def test_a_chords_body_is_part_of_the_request(pool: Pool) -> None:
    """It is sent by whichever of its tasks ends last."""
    note = pool.app.signature("test.note", immutable=True)
    with bind(for_request("chord")):
        body = chord([note, note])(note)
    pool.finished("chord", runs=3)
    *header, last = pool.started("chord")
    assert last["task_id"] == body.id
    assert last["parent_id"] in {line["task_id"] for line in header}


@pytest.mark.parametrize(("kind", "tasks"), [("chain", 2), ("group", 2), ("chord", 3)])
def test_a_canvas_within_a_task_has_it_as_root(pool: Pool, kind: str, tasks: int) -> None:
    """From the request to the last part of it, one root."""
    request_id = f"inner-{kind}"
    root = pool.send(request_id, "test.canvas", kind)
    pool.finished(request_id, runs=tasks + 1)
    first, *rest = pool.started(request_id)
    assert first["task_id"] == root
    assert {line["root_id"] for line in rest} == {root}
    assert None not in {line.get("parent_id") for line in rest}


def test_a_chord_whose_part_fails_calls_its_error_handler_with_the_id(pool: Pool) -> None:
    """Nobody waits for such a body; what is left is the line."""
    handler = pool.app.signature("test.on_error")
    with bind(for_request("chord-failed")):
        chord([pool.app.signature("test.note", immutable=True), pool.app.signature("test.fail")])(
            pool.app.signature("test.note").on_error(handler)
        )
    eventually(lambda: pool.lines("chord-failed", "test.error_seen"), what="the error handler's line")
    failed = pool.line("chord-failed", "task.failed")
    assert failed["error_type"] == "LookupError"


def test_a_link_bears_the_id(pool: Pool) -> None:
    """What is called when it went well has the one it went well for as its parent."""
    note = pool.app.signature("test.note", immutable=True)
    one = pool.send("linked", "test.note", link=note, link_error=pool.app.signature("test.on_error"))
    pool.finished("linked", runs=2)
    assert ids(pool.started("linked"), "task", "parent_id", "root_id") == [
        ("test.note", None, one),
        ("test.note", one, one),
    ]


def test_a_link_error_bears_the_id(pool: Pool) -> None:
    """Whether Celery calls it where the task failed, or sends it as one more task."""
    later, on_the_spot = pool.app.signature("test.on_error_later"), pool.app.signature("test.on_error")
    one = pool.send("link-error", "test.fail", link_error=[on_the_spot, later])
    pool.finished("link-error", runs=2)
    failed = pool.line("link-error", "task.failed")
    assert (failed["task_id"], failed["failed_task_id"], failed["error_type"]) == (one, one, "LookupError")
    assert {line["task_id"] for line in pool.lines("link-error", "test.error_seen") if line["task"] == "test.fail"} == {
        one
    }
    assert ids(pool.started("link-error"), "task", "parent_id", "root_id") == [
        ("test.fail", None, one),
        ("test.on_error_later", one, one),
    ]


def test_tasks_on_the_spot_belong_to_the_one_that_calls_them(pool: Pool) -> None:
    """And give the ID back to it, also where they fail."""
    root = pool.send("spot", "test.on_the_spot")
    pool.finished("spot", runs=3)
    assert ids(pool.started("spot"), "task", "parent_id", "root_id") == [
        ("test.on_the_spot", None, root),
        ("test.note", root, root),
        ("test.fail", root, root),
    ]
    back = pool.line("spot", "test.back")
    assert (back["task"], back["task_id"]) == ("test.on_the_spot", root)


def revoke(pool: Pool, task_id: str) -> None:
    """Revoke a task, and wait until the worker has noted it."""
    assert pool.app.control.revoke(task_id, reply=True, limit=1, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def revoked(pools: dict[str, Pool]) -> dict[str, str]:
    """In each pool, a task that was revoked while it waited for its time; it comes beside the other tests. Its ID."""
    ids = {name: pool.send("revoked", "test.on_error", None, countdown=15) for name, pool in pools.items()}
    for name, pool in pools.items():
        revoke(pool, ids[name])
    return ids


def test_a_task_that_was_revoked_while_it_waited_is_told_and_counted(pool: Pool, revoked: dict[str, str]) -> None:
    """By the ID in its message, when its time comes: it never ran."""
    [line] = pool.finished("revoked")
    assert (line["state"], line["expired"], line["task_id"]) == ("REVOKED", False, revoked[pool.name])
    assert line["queue"] == "default"
    assert pool.started("revoked") == []


def test_a_task_that_was_revoked_before_it_began_is_told_and_counted(pool: Pool) -> None:
    """As above, where it was still in its queue: told when it comes."""
    counted = pool.metric("celery_tasks_total", task="test.note", state="REVOKED", queue="default")
    task_id = uuid()
    revoke(pool, task_id)
    pool.send("revoked-before", "test.note", task_id=task_id)
    [line] = pool.finished("revoked-before")
    assert (line["state"], line["expired"], line["task_id"], line["queue"]) == ("REVOKED", False, task_id, "default")
    assert pool.started("revoked-before") == []
    assert pool.metric("celery_tasks_total", task="test.note", state="REVOKED", queue="default") == counted + 1


def test_a_task_that_waited_too_long_is_told_as_expired(pool: Pool) -> None:
    """So that nobody looks for its run."""
    pool.send("expired", "test.note", expires=datetime.now(UTC) - timedelta(seconds=1))
    [line] = pool.finished("expired")
    assert (line["state"], line["expired"]) == ("REVOKED", True)


def test_a_rejected_message_is_counted_once(pool: Pool) -> None:
    """As rejected, not as failed too."""
    failed = pool.metric("celery_tasks_total", task="test.reject", state="FAILURE")
    pool.send("rejected", "test.reject")
    [line] = pool.finished("rejected")
    assert line["state"] == "REJECTED"
    eventually(lambda: pool.metric("celery_tasks_total", task="test.reject", state="REJECTED") == 1)
    assert pool.metric("celery_tasks_total", task="test.reject", state="FAILURE") == failed


def test_many_at_once_do_not_cross(pool: Pool) -> None:
    """Whether they share a process, a thread or a loop."""
    for number in range(20):
        pool.send(f"many-{number}", "test.nested", 1)
    for number in range(20):
        pool.finished(f"many-{number}", runs=2)
        roots = {line["root_id"] for line in pool.lines(f"many-{number}")}
        assert len(roots) == 1


def test_nothing_stays_behind(pool: Pool) -> None:
    """Not in the process that hands tasks out, and not where they ran: after whatever the tests above did."""
    for number in range(4):
        pool.send(f"last-{number}", "test.fail" if number % 2 else "test.note")
        pool.finished(f"last-{number}")
    lines = pool.system.log_lines("worker")
    outside = [line for line in lines if line["event"] in {"test.between", "test.received"}]
    assert {line["event"] for line in outside} == {"test.between", "test.received"}
    assert [line for line in outside if "request_id" in line or "task_id" in line] == []
    assert pool.metric("commandcenter_observability_failures_total") == 0
