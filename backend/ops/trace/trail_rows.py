"""Draws a trail: a row a step, of a long one how it began and how it ended."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from ops.trace import text as say
from ops.trace.model import TrailStep

_HEAD_ROWS: Final = 10
_TAIL_ROWS: Final = 40
_TEXT_CHARS: Final = 120
_DETAIL_CHARS: Final = 80


def trail_rows(steps: Sequence[TrailStep], *, full: bool) -> Iterator[Text]:
    """Yield the rows; `full`: nothing shortened."""
    hidden = 0 if full else max(0, len(steps) - _HEAD_ROWS - _TAIL_ROWS)
    for index, step in enumerate(steps):
        if not hidden or not _HEAD_ROWS <= index < _HEAD_ROWS + hidden:
            yield _row(step, full=full)
        elif index == _HEAD_ROWS:
            yield Text(f"… {hidden} more: --full", "dim italic")


def _row(step: TrailStep, *, full: bool) -> Text:
    if step.steps is not None:
        return Text(f"… {say.plural(step.steps, 'step')} that no longer fitted into the line", "dim italic")
    label = Text.assemble((f"{say.offset(step.offset_ms) if step.offset_ms is not None else '?'}  ", "dim"))
    label.append(f"{say.one_line(step.kind, 20):<8} ", "cyan")
    # What is short goes first, so that a long text wraps alone.
    known = [say.duration(step.duration_ms)] if step.duration_ms is not None else []
    known += [_detail(step)] if step.detail is not None else []
    label.append("".join(f"{each}  " for each in known), "dim")
    if full:
        label.append(say.one_line(step.text), "none")
    elif step.kind == "sql":
        label.append(say.short_sql(step.text, say.SQL_CHARS), "none")
    else:
        label.append(say.one_line(step.text, _TEXT_CHARS), "none")
    return label


def _detail(step: TrailStep) -> str:
    detail = step.detail
    if step.kind == "sql" and isinstance(detail, int):
        return say.plural(detail, "row")
    if isinstance(detail, dict):
        detail = " ".join(f"{key}={value}" for key, value in detail.items())
    return say.one_line(str(detail), _DETAIL_CHARS)
