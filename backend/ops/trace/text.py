"""Turns values into text for a terminal: log values are strangers' input."""

import re
from datetime import datetime
from typing import Final

# Control characters (C0, DEL, C1), and those that turn the direction of text or are not seen at all: with them a log
# value could move the cursor, recolour the terminal, set its title, or read as another text than it is.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_BLANKS: Final = re.compile(r"[ \t\r\n]+")
# Where the part of a statement begins that tells it from others.
_TURN: Final = re.compile(r" (?:FROM|WHERE|ON CONFLICT) ", re.IGNORECASE)
_HEAD_CHARS: Final = 24
# How much of a statement a row shows.
SQL_CHARS: Final = 96
_MS_PER_S: Final = 1000.0
_S_PER_MIN: Final = 60
_MIN_PER_H: Final = 60
_H_PER_DAY: Final = 24
_EXACT_BELOW_MS: Final = 10.0


def safe(value: str) -> str:
    """Return `value` with what a terminal would obey, or not show, spelled out as an escape."""
    return _UNSAFE.sub(_escape, value)


def escaped_json(document: str) -> str:
    r"""Return a JSON document with the same characters as `\u` escapes; they stand in strings only."""
    return re.sub(
        "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", document
    )


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - what two hex digits hold


def one_line(value: str, limit: int | None = None) -> str:
    """Return `value` safe, its blanks and line breaks as single spaces, cut to `limit` characters."""
    line = safe(_BLANKS.sub(" ", value).strip())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def short_sql(statement: str, limit: int) -> str:
    """Return SQL in one line of at most `limit` characters that still says of which table and where.

    What is cut is the list of columns or of assignments, in the middle.
    """
    line = one_line(statement)
    if len(line) <= limit:
        return line
    turn = _TURN.search(line, _HEAD_CHARS)
    tail = line[turn.start() :] if turn else ""
    head_chars = max(_HEAD_CHARS, limit - len(tail) - len(" …"))
    return one_line(f"{line[:head_chars].rstrip(' ,')} …{tail}", limit) if tail else one_line(line, limit)


def duration(value_ms: float) -> str:
    """Return a duration as people say it: `0.21 ms`, `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`, `4 d 3 h`."""
    if value_ms < _EXACT_BELOW_MS:
        return f"{value_ms:.2g} ms" if value_ms else "0 ms"
    if value_ms < _MS_PER_S:
        return f"{value_ms:.0f} ms"
    seconds = value_ms / _MS_PER_S
    if seconds < _S_PER_MIN:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), _S_PER_MIN)
    if minutes < _MIN_PER_H:
        return f"{minutes} min {rest_s} s"
    hours, minutes = divmod(minutes, _MIN_PER_H)
    if hours < _H_PER_DAY:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, _H_PER_DAY)
    return f"{days} d {hours} h"


def since(start: datetime, now: datetime) -> str:
    """Return how long ago `start` was; nothing is ever in the future, whatever a clock says."""
    seconds = max(0, round((now - start).total_seconds()))
    return f"{seconds} s" if seconds < _S_PER_MIN else duration(seconds * _MS_PER_S)


def offset(value_ms: float) -> str:
    """Return a point of the story: `+12 ms`, `+3.51 s`. A clock that is behind makes it negative."""
    size_ms = abs(value_ms)
    in_seconds = _MS_PER_S <= size_ms < _S_PER_MIN * _MS_PER_S
    return f"{'-' if value_ms < 0 else '+'}{f'{size_ms / _MS_PER_S:.2f} s' if in_seconds else duration(size_ms)}"


def moment(at: datetime) -> str:
    """Return a time with its zone: `2026-11-24 08:00:00.123 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"


def size(size_bytes: float) -> str:
    """Return a size in binary units: `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:  # noqa: PLR2004 - the unit's own step
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def plural(count: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
