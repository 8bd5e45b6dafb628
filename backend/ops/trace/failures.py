"""Errors in log lines: what failed, in a line, and the part of a traceback that is ours."""

import re
from typing import Final

from ops.trace.model import Failure
from ops.trace.records import LogRecord

FAILED_EVENTS: Final = ("request.failed", "task.failed")
_FRAME: Final = re.compile(r'\s*\|?\s*File "(?P<path>[^"]*)", line \d+')
_FOREIGN: Final = re.compile(r"(?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\]python\d|^<")
_MAX_MESSAGE: Final = 500


def failure_of(record: LogRecord, offset_ms: float) -> Failure:
    """Return the failure that a `request.failed` or `task.failed` line tells of."""
    kind = record.text("error_type") or "unknown"
    traceback = record.text("exception")
    message = record.text("reason") or (message_of(traceback, kind) if traceback else None)
    return Failure(
        at=record.at,
        offset_ms=offset_ms,
        type=kind,
        message=message[:_MAX_MESSAGE] if message else None,
        fingerprint=record.text("fingerprint"),
        traceback=traceback,
    )


def message_of(traceback: str, error_type: str) -> str | None:
    """Return what the exception said: the text behind its name at the end of the traceback; None if it said nothing."""
    lines = traceback.split("\n")
    for index in range(len(lines) - 1, -1, -1):
        name, colon, rest = lines[index].partition(": ")
        if name.rpartition(".")[2] == error_type:
            return "\n".join([rest, *lines[index + 1 :]]).strip() or None if colon else None
    return None


def own_frames(traceback: str) -> list[str]:
    """Return the traceback without the frames of libraries; where some were, a line says how many."""
    kept: list[str] = []
    hidden = 0
    is_foreign = False
    for line in traceback.split("\n"):
        frame = _FRAME.match(line)
        if frame is not None:
            is_foreign = _FOREIGN.search(frame["path"]) is not None
            hidden += is_foreign
        elif not line.startswith(("    ", "\t")):
            is_foreign = False
        if is_foreign:
            continue
        if hidden:
            kept.append(f"  … {hidden} frame{'s' if hidden > 1 else ''} of libraries")
            hidden = 0
        kept.append(line)
    if hidden:
        kept.append(f"  … {hidden} frame{'s' if hidden > 1 else ''} of libraries")
    return kept
