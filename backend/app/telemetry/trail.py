"""The trail: what a request or task did, kept in memory while it runs.

It is told when the request or run fails, is slow, or when a signed header of the request asks for it; of all others it
is forgotten.
Noting a step must cost next to nothing, so texts are kept as they come and scrubbed when they are written.
"""

import hashlib
import hmac
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

import orjson

from app.correlation import Correlation, current
from app.telemetry.scrub import scrub, scrub_pair
from app.utils.metrics import hook_failed

MAX_STEPS: Final = 100
MAX_BYTES: Final = 16 * 1024
# How it began is kept whatever follows; of the rest, the end matters most.
_HEAD_STEPS: Final = 20
_LEFT_OUT_BYTES: Final = 48
_MAX_TEXT: Final = 500
# More is kept than is told: half a secret at the cut would not be known as one.
_KEPT_TEXT: Final = 1000
_MAX_DETAIL: Final = 200
_TOKEN_CONTEXT: Final = b"commandcenter trail"
_LONGEST_TOKEN_LIFE_S: Final = 24 * 3600

Step = tuple[float, str, str, float | None, Any]


class Trail:
    """Steps of one request or task, and a sum of its SQL.

    A step is when it ended (seconds since the request or run began), its kind (`sql`, `log`, `outbound`, `task`,
    `wait`), a text, how long it took in seconds, and a detail: rows of a statement, status of a call, level of a line.

    Args:
        began: when the request or run began, on the clock of `time.perf_counter`; now unless given.
    """

    __slots__ = (
        "_began",
        "_head",
        "_size",
        "_tail",
        "_total",
        "sql_count",
        "sql_slowest",
        "sql_slowest_s",
        "sql_time_s",
    )

    def __init__(self, began: float | None = None) -> None:
        self._began = perf_counter() if began is None else began
        self._head: list[Step] = []
        self._tail: deque[Step] = deque()
        self._size = 0
        self._total = 0
        self.sql_count = 0
        self.sql_time_s = 0.0
        self.sql_slowest_s = 0.0
        self.sql_slowest = ""

    def add(self, kind: str, text: str, duration_s: float | None = None, detail: Any = None) -> None:
        """Add a step that ended now; the oldest but for the first 20 make room for it."""
        if len(text) > _KEPT_TEXT:
            text = text[:_KEPT_TEXT]
        step = (perf_counter() - self._began, kind, text, duration_s, detail)
        self._total += 1
        self._size += min(len(text), _MAX_TEXT)
        if len(self._head) < _HEAD_STEPS:
            self._head.append(step)
        else:
            self._tail.append(step)
        while self._tail and (self._size > MAX_BYTES or len(self._tail) > MAX_STEPS - _HEAD_STEPS):
            self._size -= min(len(self._tail.popleft()[2]), _MAX_TEXT)

    def add_statement(self, text: str, duration_s: float, rows: int | None = None) -> None:
        """Add one SQL statement, its text without parameters."""
        self.sql_count += 1
        self.sql_time_s += duration_s
        if duration_s >= self.sql_slowest_s:
            self.sql_slowest_s = duration_s
            self.sql_slowest = text
        self.add("sql", text, duration_s, rows if rows is not None and rows >= 0 else None)

    def sql_summary(self) -> dict[str, Any]:
        """Return the `sql` object of the log schema."""
        if not self.sql_count:
            return {"count": 0, "time_ms": 0.0}
        return {
            "count": self.sql_count,
            "time_ms": round(self.sql_time_s * 1000, 3),
            "slowest_ms": round(self.sql_slowest_s * 1000, 3),
            "slowest": _cut(self.sql_slowest),
        }

    def steps(self) -> list[dict[str, Any]]:
        """Return the `trail` of the log schema: steps by time, and where some were left out, how many.

        At most 16 KiB as JSON: how it began takes half of that at most, and what came last the rest.
        """
        head, left = _fitting(self._head, MAX_BYTES // 2)
        tail, _ = _fitting(reversed(self._tail), MAX_BYTES - _LEFT_OUT_BYTES - MAX_BYTES // 2 + left)
        left_out = self._total - len(head) - len(tail)
        between = [{"kind": "left_out", "steps": left_out}] if left_out else []
        return [*head, *between, *reversed(tail)]


def _fitting(steps: Iterable[Step], budget: int) -> tuple[list[dict[str, Any]], int]:
    """Return the first steps that fit into so many bytes of JSON, and how many bytes are left."""
    found: list[dict[str, Any]] = []
    for step in steps:
        entry = _as_dict(step)
        size = len(orjson.dumps(entry, default=str)) + 1
        if size > budget:
            break
        budget -= size
        found.append(entry)
    return found, budget


def _cut(text: str) -> str:
    """Return a text as it may be told: secrets out first, for half of one is not known as one."""
    return text if len(text) <= _MAX_TEXT else scrub(text[:_KEPT_TEXT])[:_MAX_TEXT]


def _as_dict(step: Step) -> dict[str, Any]:
    at_s, kind, text, duration_s, detail = step
    entry: dict[str, Any] = {"at_ms": round(at_s * 1000, 3), "kind": kind, "text": _cut(text)}
    if duration_s is not None:
        entry["duration_ms"] = round(duration_s * 1000, 3)
    if detail is not None:
        entry["detail"] = scrub(detail)[:_MAX_DETAIL] if isinstance(detail, str) else detail
    return entry


def trail_of(correlation: Correlation) -> Trail:
    """Return the trail of a request or task; a new one at first."""
    trail = correlation.trail
    if trail is None:
        trail = correlation.trail = Trail(correlation.began)
    assert isinstance(trail, Trail)  # noqa: S101 - nobody else sets it
    return trail


def note(kind: str, text: str, duration_s: float | None = None, detail: Any = None) -> None:
    """Add a step to the trail of who is at work now; nothing outside any request and task."""
    correlation = current()
    if correlation is not None:
        trail_of(correlation).add(kind, text, duration_s, detail)


def note_line(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Add a log line that is below the level that is written."""
    correlation = current()
    if correlation is not None:
        values = " ".join(f"{key}={scrub_pair(key, value)}" for key, value in fields.items())
        trail_of(correlation).add("log", f"{event} {values}" if values else event, detail=level)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Note the time that the block takes as a wait: for a lock, a cache, a connection."""
    started = perf_counter()
    try:
        yield
    finally:
        try:
            note("wait", what, perf_counter() - started)
        except Exception:  # noqa: BLE001 - who waited has what it waited for
            hook_failed("trail_wait")


def trail_token(secret: str, expires_at: int) -> str:
    """Return a token that asks for the trail of a request, good until `expires_at` (seconds since 1970)."""
    key = hmac.new(secret.encode(), _TOKEN_CONTEXT, hashlib.sha256).digest()
    return f"{expires_at}.{hmac.new(key, str(expires_at).encode(), hashlib.sha256).hexdigest()}"


def asks_for_trail(token: str, secret: str) -> bool:
    """Tell whether `token` was made with `secret` and still holds. None holds for more than a day."""
    expires_at = token.partition(".")[0]
    if not (expires_at.isascii() and expires_at.isdecimal() and len(expires_at) <= len("9999999999")):
        return False
    left_s = int(expires_at) - time.time()
    if not 0 < left_s <= _LONGEST_TOKEN_LIFE_S:
        return False
    return hmac.compare_digest(token.encode("utf-8", "replace"), trail_token(secret, int(expires_at)).encode())
