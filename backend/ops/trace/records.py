"""One line of our services' logs, typed. What a line may hold: docs/log-schema.md.

Takes any bytes: what is no line of the schema is refused with `MalformedLineError`, never with another error.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")
# Where an ID that somebody has at hand may stand. `client_request_id` is one that we refused and replaced.
ID_KEYS: Final = (
    "request_id",
    "trace_id",
    "task_id",
    "sent_task_id",
    "failed_task_id",
    "root_id",
    "parent_id",
    "job_id",
    "client_request_id",
)
_LARGEST: Final = 1e15
# orjson reads 1024 levels and writes 254, of which a story's own document takes some.
_DEEPEST: Final = 100
_TOLD_APART: Final = frozenset(
    {
        "timestamp",
        "level",
        "logger",
        "event",
        "service",
        "pid",
        "request_id",
        "trace_id",
        "task_id",
        "task",
        "root_id",
        "parent_id",
        "attempt",
    }
)


class MalformedLineError(ValueError):
    """A line that is cut off, or was never one of the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One log line.

    `at` is in UTC. `sequence` is the line's place in the order of reading, which decides between equal times.
    `fields` holds what the schema has no column for here, as it came.
    """

    at: datetime
    sequence: int
    level: str
    logger: str
    event: str
    service: str
    pid: int | None
    request_id: str | None
    trace_id: str | None
    task_id: str | None
    task: str | None
    root_id: str | None
    parent_id: str | None
    attempt: int
    fields: dict[str, Any]

    def text(self, key: str) -> str | None:
        """Return a further field as text, None where it is absent."""
        return as_text(self.fields.get(key))

    def number(self, key: str) -> float | None:
        """Return a further field that is a number, None where it is absent or something else."""
        return as_number(self.fields.get(key))


def is_valid_id(value: str) -> bool:
    """Tell whether the whole of `value` is of the ID's alphabet."""
    return ID_PATTERN.fullmatch(value) is not None


def parse_line(line: bytes, sequence: int = 0) -> LogRecord:
    """Return the record that `line` holds.

    Raises:
        MalformedLineError: no JSON object, one without a time, or deeper than any of ours.
    """
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MalformedLineError(str(error)) from None
    if not isinstance(data, dict):
        raise MalformedLineError("not an object")
    if line.count(b"[") + line.count(b"{") > _DEEPEST and _is_too_deep(data):
        raise MalformedLineError(f"nested deeper than {_DEEPEST} levels")
    return LogRecord(
        at=parse_time(data.get("timestamp")),
        sequence=sequence,
        level=as_text(data.get("level")) or "info",
        logger=as_text(data.get("logger")) or "",
        event=as_text(data.get("event")) or "",
        service=as_text(data.get("service")) or "",
        pid=_as_int(data.get("pid")),
        request_id=as_text(data.get("request_id")),
        trace_id=as_text(data.get("trace_id")),
        task_id=as_text(data.get("task_id")),
        task=as_text(data.get("task")),
        root_id=as_text(data.get("root_id")),
        parent_id=as_text(data.get("parent_id")),
        attempt=_as_int(data.get("attempt")) or 1,
        fields={key: value for key, value in data.items() if key not in _TOLD_APART},
    )


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, dict | list) for each in level)


def parse_time(value: object) -> datetime:
    """Return the moment that an RFC 3339 text names, in UTC; one without a zone is taken for UTC.

    Raises:
        MalformedLineError: no such text.
    """
    if not isinstance(value, str):
        raise MalformedLineError("no timestamp")
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedLineError("no timestamp") from None


def as_text(value: object) -> str | None:
    """Return a JSON value as text: a string as it is, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str).decode()


def as_number(value: object) -> float | None:
    """Return a JSON number; None for anything else, and for one too large to be a measure of ours."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _LARGEST:
        return None
    return float(value)


def earlier(at: datetime, by_ms: float | None) -> datetime:
    """Return the moment `by_ms` milliseconds before `at`; `at` itself where there is none."""
    try:
        return at - timedelta(milliseconds=by_ms or 0.0)
    except OverflowError:
        return at


def _as_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
