"""PostgreSQL's text log: entries, and the statements they tell of.

The prefix is the one of docs/log-schema.md. Parameters, row values (DETAIL, CONTEXT, a plan's conditions) are people's
data: they are never taken out of the log.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal
from urllib.parse import unquote

from ops.trace.records import MalformedLineError

_TIME: Final = rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) (?P<zone>[A-Za-z0-9+:/_-]{1,40})"
_TIMED: Final = re.compile(_TIME + rb" \[")
_ENTRY: Final = re.compile(
    _TIME + rb" \[(?P<pid>\d{1,10})\] app=(?P<app>.*?) user=(?P<user>.*?) db=(?P<db>.*?) (?P<severity>[A-Z]+[1-5]?):  ?"
    rb"(?P<message>.*)",
    re.DOTALL,
)
_DURATION: Final = re.compile(r"duration: (?P<ms>\d{1,15}\.\d+) ms(?:  (?P<rest>.*))?", re.DOTALL)
_STEP: Final = re.compile(
    r"(?P<step>statement|parse|bind|execute(?: fetch from)?)(?P<name> [^:\n]{1,200})?: (?P<text>.*)", re.DOTALL
)
_TAG: Final = re.compile(r"([A-Za-z0-9_%.-]{1,64})='([^'\n]{0,2000})'")
_TRANSACTION: Final = re.compile(
    r"(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|SET|RESET|PREPARE TRANSACTION)\b",
    re.IGNORECASE,
)
_OPENS: Final = re.compile(r"(BEGIN|START TRANSACTION)\b", re.IGNORECASE)
_OFFSET: Final = re.compile(rb"([+-])(\d{1,2})(?::?(\d\d))?")
_FAILED: Final = frozenset({"ERROR", "FATAL", "PANIC"})
_PLAN_NODE: Final = re.compile(r"\s*(?:->  .*|[A-Z][^:]*\(cost=.*|[A-Z][^:]*\(actual .*)")


@dataclass(frozen=True, slots=True)
class PgEntry:
    """One entry of the log, its continuation lines included."""

    at: datetime
    pid: int
    application: str
    severity: str
    message: str


@dataclass(slots=True, kw_only=True)
class PgStatement:
    """One statement as the server saw it.

    `at`: when it ended. `duration_ms`: its parse, bind and execute steps together; None where the log tells none.
    `text`: without its leading comment; `tags`: what that comment said. `kind`: `transaction` for BEGIN, SET and the
    like. `plan`: the nodes of auto_explain's plan, without conditions, for those may hold values.
    """

    at: datetime
    pid: int
    text: str
    tags: dict[str, str]
    kind: Literal["statement", "transaction"]
    duration_ms: float | None = None
    error: str | None = None
    plan: list[str] = field(default_factory=list)

    @property
    def opens_transaction(self) -> bool:
        """Whether this is a BEGIN."""
        return _OPENS.match(self.text) is not None


def entry_time(line: bytes) -> datetime | None:
    """Return the time that an entry starts with, in UTC; None where there is none. Zones unknown to us count as UTC."""
    match = _TIMED.match(line)
    return _moment(match["time"], match["zone"]) if match else None


def parse_entry(record: bytes) -> PgEntry:
    """Return the entry that `record` holds.

    Raises:
        MalformedLineError: it has not our prefix.
    """
    match = _ENTRY.match(record)
    at = _moment(match["time"], match["zone"]) if match else None
    if match is None or at is None:
        raise MalformedLineError("not our prefix")
    # PostgreSQL puts a tab before each further line of a message.
    message = match["message"].decode("utf-8", "replace").replace("\n\t", "\n").rstrip()
    return PgEntry(at, int(match["pid"]), match["app"].decode("utf-8", "replace"), match["severity"].decode(), message)


def _moment(time: bytes, zone: bytes) -> datetime | None:
    try:
        at = datetime.fromisoformat(time.decode())
        offset = _OFFSET.fullmatch(zone)
        if offset is None:
            return at.replace(tzinfo=UTC)
        delta = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return at.replace(tzinfo=timezone(-delta if offset[1] == b"-" else delta)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def split_comment(text: str) -> tuple[dict[str, str], str]:
    """Return what a leading sqlcommenter comment says, decoded, and the statement without it."""
    text = text.strip()
    if not text.startswith("/*"):
        return {}, text
    comment, closed, rest = text[2:].partition("*/")
    if not closed:
        return {}, text
    return {unquote(key): unquote(value) for key, value in _TAG.findall(comment)}, rest.strip()


def request_id_of(entry: PgEntry) -> str | None:
    """Return the ID in the entry's leading comment, if any: a statement outside a transaction bears it there."""
    step = _STEP.match(_DURATION.sub(lambda match: match["rest"] or "", entry.message, count=1))
    text = step["text"] if step else entry.message
    if text.startswith("plan:"):
        text = text.partition("Query Text: ")[2]
    return split_comment(text)[0].get("request_id")


def by_request_id(entries: Iterable[PgEntry], request_ids: Collection[str]) -> dict[str, list[PgEntry]]:
    """Return the entries that belong to each of these IDs.

    An ERROR outside a transaction bears no ID itself; the STATEMENT that PostgreSQL writes right behind it does.
    """
    found: dict[str, list[PgEntry]] = {request_id: [] for request_id in request_ids}
    unclaimed: dict[int, PgEntry] = {}
    for entry in entries:
        owner = entry.application if entry.application in found else request_id_of(entry)
        if owner in found:
            error = unclaimed.pop(entry.pid, None)
            if error is not None and entry.severity == "STATEMENT" and error.at == entry.at:
                found[owner].append(error)
            found[owner].append(entry)
        elif entry.severity in _FAILED:
            unclaimed[entry.pid] = entry
    return found


def statements(entries: Iterable[PgEntry]) -> list[PgStatement]:
    """Return the statements that entries of one ID tell of, by time.

    A statement with parameters is logged as up to three steps (parse, bind, execute) and, by auto_explain, a plan that
    stands before or behind the last of them: one statement all the same.
    """
    reader = _Reader()
    for entry in entries:
        reader.add(entry)
    return reader.finish()


class _Reader:
    """Puts steps together, connection by connection."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}

    def add(self, entry: PgEntry) -> None:
        session = self._sessions.setdefault(entry.pid, _Session())
        if entry.severity in _FAILED:
            self._fail(entry, session)
        elif entry.severity == "STATEMENT":
            if session.failed is not None:
                session.failed.tags, session.failed.text = split_comment(entry.message)
                session.failed = None
        elif entry.severity == "LOG":
            duration = _DURATION.fullmatch(entry.message)
            rest = (duration["rest"] or "") if duration else entry.message
            duration_ms = float(duration["ms"]) if duration else None
            if duration and rest.startswith("plan:"):
                self._plan(entry, session, rest, duration_ms or 0.0)
            elif step := _STEP.fullmatch(rest):
                self._step(entry, session, step, duration_ms)
            elif duration and session.last is not None and session.last.duration_ms is None:
                # log_statement has told the text already.
                session.last.duration_ms = duration_ms

    def finish(self) -> list[PgStatement]:
        for session in self._sessions.values():
            for plan in session.plans:
                bare = next((one for one in session.done if one.text == plan.text and not one.plan), None)
                if bare is not None:
                    bare.plan = plan.plan
                else:
                    # Told by auto_explain alone: log_min_duration_statement was over its time.
                    session.done.append(plan)
        done = (statement for session in self._sessions.values() for statement in session.done)
        return sorted(done, key=lambda statement: statement.at)

    @staticmethod
    def _fail(entry: PgEntry, session: "_Session") -> None:
        first_line = entry.message.partition("\n")[0]
        failed = _statement(entry, "", None)
        failed.error = f"{entry.severity}: {first_line}"
        session.steps_ms = 0.0
        session.failed = session.last = failed
        session.done.append(failed)

    @staticmethod
    def _step(entry: PgEntry, session: "_Session", step: re.Match[str], duration_ms: float | None) -> None:
        if step["step"] in {"parse", "bind"}:
            session.steps_ms += duration_ms or 0.0
            return
        statement = _statement(entry, step["text"], duration_ms)
        if step["step"] != "statement" and duration_ms is not None:
            statement.duration_ms = round(duration_ms + session.steps_ms, 3)
        session.steps_ms = 0.0
        session.is_simple = step["step"] == "statement"
        for plan in session.plans:
            if plan.text == statement.text:
                statement.plan = plan.plan
                session.plans.remove(plan)
                break
        session.last = statement
        session.done.append(statement)

    @staticmethod
    def _plan(entry: PgEntry, session: "_Session", rest: str, duration_ms: float) -> None:
        _, _, body = rest.partition("Query Text: ")
        text: list[str] = []
        nodes: list[str] = []
        for line in body.split("\n"):
            if _PLAN_NODE.fullmatch(line):
                nodes.append(line)
            elif not nodes and not line.startswith("Query Parameters: "):
                text.append(line)
        planned = _statement(entry, "\n".join(text), duration_ms)
        planned.plan = nodes
        last = session.last
        is_behind = (
            last is not None
            and not session.is_simple
            and last.text == planned.text
            and (last.duration_ms is None or duration_ms <= last.duration_ms)
        )
        if last is not None and is_behind and not last.plan:
            last.plan = nodes
        else:
            session.plans.append(planned)


class _Session:
    """What is known of one connection so far."""

    __slots__ = ("done", "failed", "is_simple", "last", "plans", "steps_ms")

    def __init__(self) -> None:
        self.done: list[PgStatement] = []
        self.steps_ms = 0.0
        self.last: PgStatement | None = None
        self.is_simple = False
        self.failed: PgStatement | None = None
        self.plans: list[PgStatement] = []


def _statement(entry: PgEntry, sql: str, duration_ms: float | None) -> PgStatement:
    tags, text = split_comment(sql)
    return PgStatement(
        at=entry.at,
        pid=entry.pid,
        text=text,
        tags=tags,
        kind="transaction" if _TRANSACTION.match(text) else "statement",
        duration_ms=duration_ms,
    )
