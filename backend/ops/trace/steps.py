"""The trail of a request or run: what it did until it failed, was slow, or was asked."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from ops.trace.model import TrailStep, Work
from ops.trace.records import LogRecord, as_number, as_text, earlier


def put_trail(work: Work, record: LogRecord, story_start: datetime) -> None:
    """Take the trail that a line bears, if it knows more than the one of an earlier line.

    A request that fails bears it twice: when it failed, and when its answer was out. A run bears it once: when it
    failed, or else when it ended.
    """
    raw = record.fields.get("trail")
    told = [one for one in raw if isinstance(one, dict)] if isinstance(raw, list) else []
    known_ms = [at_ms for one in told if (at_ms := as_number(one.get("at_ms"))) is not None]
    # Steps count from when the work began; whatever the lines say of that, none ended after the line was written.
    began = min(work.started_at, earlier(record.at, max(known_ms, default=0.0)))
    steps = [_step(one, began, story_start) for one in told]
    if count(steps) >= count(work.trail):
        work.trail = steps


def _step(raw: dict[str, Any], began: datetime, story_start: datetime) -> TrailStep:
    at_ms = as_number(raw.get("at_ms"))
    at = earlier(began, -at_ms) if at_ms is not None else None
    left_out = as_number(raw.get("steps"))
    return TrailStep(
        at=at,
        offset_ms=round((at - story_start) / timedelta(milliseconds=1), 3) if at else None,
        kind=as_text(raw.get("kind")) or "?",
        text=as_text(raw.get("text")) or "",
        duration_ms=as_number(raw.get("duration_ms")),
        detail=raw.get("detail"),
        steps=int(left_out) if left_out is not None else None,
    )


def count(steps: Iterable[TrailStep]) -> int:
    """Return how many steps there were, those included that were left out."""
    return sum(1 if step.steps is None else step.steps for step in steps)
