"""docs/log-schema.md, the code, and the lines of a running system say the same: no key more, no key less."""

import ast
import asyncio
import contextlib
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.telemetry.logs import configure_logging
from app.telemetry.outbound import CorrelatedTransport
from app.telemetry.trail import trail_token
from tests.git import make_repository
from tests.layer_app import create_app
from tests.system import BACKEND, System
from tests.traffic import _ALERT as ALERT

PAGE = (BACKEND.parent / "docs" / "log-schema.md").read_text()
SERVICES = ("api", "worker", "beat")
EVERY_LINE = ["timestamp", "level", "logger", "event", "service", "pid"]
IN_REQUEST = {"request_id", "trace_id"}
IN_TASK = {"task_id", "task", "root_id", "attempt"}
_NAME = re.compile(r"[a-z]+\.[a-z_]+")
_TICKED = re.compile(r"`([^`]+)`")
_WRITERS = {"debug", "info", "warning", "error", "critical", "emit", "_tell"}


@dataclass
class Event:
    """What the page says of an event."""

    levels: set[str]
    always: set[str]
    sometimes: set[str]

    @property
    def keys(self) -> set[str]:
        """All keys."""
        return self.always | self.sometimes


def rows(section: str) -> list[list[str]]:
    """Return the cells of the table in a section of the page, without its head."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0] if section else PAGE.partition("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in table if row[1].strip() != "level"]


def documented() -> dict[str, Event]:
    """Return the table of events."""
    found = {}
    for name, levels, always, sometimes in rows("Events"):
        found[name.strip("`")] = Event(*(set(_TICKED.findall(cell)) for cell in (levels, always, sometimes)))
    return found


def meanings(section: str) -> set[str]:
    """Return the keys that a table explains."""
    return {key for row in rows(section) for key in _TICKED.findall(row[0])}


EVENTS = documented()


def in_code() -> dict[str, set[str]]:
    """Return the events that the code names, each with those keys that are spelled out beside it."""
    found: dict[str, set[str]] = {}
    for path in sorted((BACKEND / "app").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in _WRITERS:
                for name in (one.value for one in call.args if isinstance(one, ast.Constant)):
                    if isinstance(name, str) and _NAME.fullmatch(name):
                        found.setdefault(name, set()).update(_keys_of(call))
    return found


def _keys_of(call: ast.Call) -> Iterator[str]:
    values = list(call.args)
    for keyword in call.keywords:
        if keyword.arg == "extra":
            values.append(keyword.value)
        elif keyword.arg:
            yield "exception" if keyword.arg == "exc_info" else keyword.arg
    for value in values:
        if isinstance(value, ast.Dict):
            yield from (str(key.value) for key in value.keys if isinstance(key, ast.Constant))


def problems(line: dict[str, Any]) -> list[str]:
    """Return what is not as documented about one line."""
    found = []
    if list(line)[:6] != EVERY_LINE:
        found.append(f"does not begin with {EVERY_LINE}")
    rest = line.keys() - set(EVERY_LINE)
    if rest & IN_REQUEST and not rest >= IN_REQUEST:
        found.append(f"bears only {rest & IN_REQUEST}")
    if rest & (IN_TASK | {"parent_id"}) and not rest >= IN_TASK | IN_REQUEST:
        found.append(f"bears only {rest & IN_TASK} of a task")
    event = EVENTS.get(line["event"])
    if event is None:
        return [*found, "is ours and not documented"] if line["logger"].partition(".")[0] == "app" else found
    own = rest - IN_REQUEST - IN_TASK - {"parent_id"}
    found += [f"lacks {key}" for key in sorted(event.always - own)]
    found += [f"has {key}" for key in sorted(own - event.keys)]
    if line["level"] not in event.levels:
        found.append(f"is of level {line['level']}")
    return found


@pytest.fixture(scope="module")
def lines(system: System, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All that API, worker and beat wrote, after requests and syncs that go well and that don't."""
    folder = tmp_path_factory.mktemp("repositories")
    token = trail_token(system.environment["SECRET_KEY"], int(time.time()) + 600)
    with system.client() as client:
        client.get("/api/v1/repositories", headers={"X-Trail-Token": token})
        client.get("/api/v1/repositories/999999999")
        client.head("/api/v1/repositories", headers={"X-Request-ID": "not an ID"})
        client.post("/api/v1/repositories", json={"url": 1})
        client.post("/api/v1/alerts/webhook", json=ALERT)
        client.get("/nowhere")
        for path in ("/health", "/health/ready", "/metrics", "/api/v1/health", "/api/v1/metrics"):
            client.get(path, headers={"X-Request-ID": "a-probe"})
        client.headers["X-Trail-Token"] = token
        system.sync(client, make_repository(folder / "good", 2).as_uri(), "a-good-sync")
        del client.headers["X-Trail-Token"]
        lost = make_repository(folder / "lost")
        created = client.post("/api/v1/repositories", json={"url": lost.as_uri()}).json()
        lost.rename(folder / "moved")
        assert system.sync_again(client, created["id"], "a-failed-sync")["status"] == "failed"
    system.wait_for_line("worker", event="task.finished", request_id="a-good-sync")
    system.wait_for_line("worker", event="task.finished", request_id="a-failed-sync")
    system.wait_for_line("beat", logger="celery.beat")
    # The last line may be half written.
    texts = [system.log_path(service).read_text().rpartition("\n")[0] for service in SERVICES]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.fixture(scope="module")
def layer_lines() -> list[dict[str, Any]]:
    """What the layer writes where a handler fails and where another host is called."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)

    async def fail() -> None:
        transport = httpx.ASGITransport(create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/boom/1")).status_code == 500
            assert (await client.get("/unavailable")).status_code == 503

    asyncio.run(fail())
    for answer in (httpx.Response(200), httpx.ConnectError("nobody there")):
        transport = CorrelatedTransport([], httpx.MockTransport(lambda _, answer=answer: _give(answer)))
        with httpx.Client(transport=transport) as client, contextlib.suppress(httpx.ConnectError):
            client.get("http://elsewhere.example")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _give(answer: httpx.Response | Exception) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_every_line_has_exactly_the_keys_of_the_page(
    lines: list[dict[str, Any]], layer_lines: list[dict[str, Any]], summary: list[str]
) -> None:
    """Dashboards, `commandcenter trace` and people read these lines by this page."""
    wrong = {json.dumps(line)[:1000]: found for line in (*lines, *layer_lines) if (found := problems(line))}
    assert wrong == {}
    seen = {line["event"] for line in (*lines, *layer_lines)} & EVENTS.keys()
    assert seen >= {"request.finished", "request.failed", "request.id_rejected", "task.sent", "task.started"}
    assert seen >= {"task.finished", "task.failed", "sync.progress", "outbound.finished", "alert.received"}
    summary.append(f"log lines held to their schema: {len(lines)}, with {len(seen)} of {len(EVENTS)} events of ours")


def test_the_page_lists_the_events_of_the_code_and_no_other() -> None:
    """One that isn't listed is never searched for; one that is no more is searched for in vain."""
    assert sorted(in_code()) == sorted(EVENTS)


def test_each_key_of_the_page_is_written_and_each_key_of_the_code_is_on_the_page(
    lines: list[dict[str, Any]], layer_lines: list[dict[str, Any]]
) -> None:
    """Also those of lines that nothing here provokes: a killed worker, a host that wants to be left alone."""
    for name, keys in in_code().items():
        written = set(keys)
        for line in (*lines, *layer_lines):
            if line["event"] == name:
                written |= line.keys() - set(EVERY_LINE) - IN_REQUEST - IN_TASK - {"parent_id"}
        assert written == EVENTS[name].keys, name


def test_each_key_has_a_meaning_and_each_meaning_a_key() -> None:
    """A name alone says neither unit nor when it is null."""
    assert meanings("Keys of events") == {key for event in EVENTS.values() for key in event.keys}
    assert meanings("") == {*EVERY_LINE, *IN_REQUEST, *IN_TASK, "parent_id"}


def test_a_trail_is_as_the_page_says(lines: list[dict[str, Any]]) -> None:
    """Of a request that asked for it, of its task, and of a task that failed."""
    told = [line for line in lines if line.get("trail")]
    assert {line["event"] for line in told} >= {"request.finished", "task.failed"}
    [synced] = [line for line in told if line["event"] == "task.finished"]
    assert (synced["request_id"], synced["state"]) == ("a-good-sync", "SUCCESS")
    waits = [step["text"] for line in told for step in line["trail"] if step["kind"] == "wait"]
    assert {"the queue", "git fetch", "git ls-remote"} <= set(waits)
    [kinds] = [row[1] for row in rows("The trail") if row[0] == "`kind`"]
    documented_kinds = set(_TICKED.findall(kinds))
    for step in (step for line in told for step in line["trail"]):
        assert step.keys() <= meanings("The trail")
        assert step["kind"] in documented_kinds
        left_out = step["kind"] == "left_out"
        assert step.keys() >= ({"steps"} if left_out else {"at_ms", "kind", "text"})
    asked = next(line for line in told if line["event"] == "request.finished" and line["level"] == "info")
    assert "sql" in {step["kind"] for step in asked["trail"]}


def test_probes_and_beat_are_quiet_as_the_page_says(lines: list[dict[str, Any]]) -> None:
    """Thousands a day that nobody reads hide the one that somebody needs."""
    probes = [line for line in lines if line.get("request_id") == "a-probe" and line["event"] == "request.finished"]
    assert [line["route"] for line in probes if line["level"] == "info"] == []
    beats = [line for line in lines if line["service"] == "beat"]
    assert beats
    assert not [line for line in beats if line["event"] in EVENTS]


def test_celerys_line_of_a_failed_task_is_not_there_beside_ours(lines: list[dict[str, Any]]) -> None:
    """A traceback twice is a page more to scroll at night."""
    of_it = [line for line in lines if line.get("request_id") == "a-failed-sync" and "exception" in line]
    assert [line["event"] for line in of_it] == ["task.failed"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"secret": 1}, "has secret"),
        ({"route": None}, "lacks route"),
        ({"trace_id": None}, "bears only {'request_id'}"),
        ({"task_id": "T"}, "bears only {'task_id'} of a task"),
        ({"level": "debug"}, "is of level debug"),
        ({"event": "request.unheard_of"}, "is ours and not documented"),
    ],
)
def test_the_check_finds_what_is_wrong(layer_lines: list[dict[str, Any]], change: dict[str, Any], problem: str) -> None:
    """A contract that can't be broken proves nothing."""
    good = next(line for line in layer_lines if line["event"] == "request.failed")
    assert problems(good) == []
    bad = {key: value for key, value in (good | change).items() if change.get(key, key) is not None}
    assert problem in problems(bad)
