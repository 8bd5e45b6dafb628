"""Puts a log record into its place within a request or a run."""

from datetime import datetime, timedelta
from typing import Final

from ops.trace.failures import failure_of
from ops.trace.model import Line, Outbound, Run, Sql, Step, Work
from ops.trace.records import LogRecord, as_number, as_text
from ops.trace.steps import put_trail

# A run whose process is gone, by its parent's word. Its message goes back to the queue.
_LOST: Final = "LOST"
_TOLD_BY_THE_RUN: Final = frozenset({"task.started", "task.sent"})


def milliseconds(span: timedelta) -> float:
    """Return `span` in milliseconds, to the microsecond."""
    return round(span / timedelta(milliseconds=1), 3)


def put_in_run(run: Run, record: LogRecord, story_start: datetime) -> None:
    """Add a record of a task to its run."""
    offset_ms = milliseconds(record.at - story_start)
    if record.event == "task.finished":
        run.state = record.text("state") or "UNKNOWN"
        run.ended_at = record.at
        run.duration_ms = record.number("duration_ms")
        run.sql = sql_of(record)
        put_trail(run, record, story_start)
    elif record.event == "task.failed":
        run.error = failure_of(record, offset_ms)
        put_trail(run, record, story_start)
        if run.ended_at is None or run.state == _LOST:
            # A killed child tells no end of its own; if one comes after all, it overwrites this. Lost for the last
            # time it has failed.
            run.state = record.text("state") or "FAILURE"
            run.ended_at = record.at
    elif record.event not in _TOLD_BY_THE_RUN:
        put(run, record, offset_ms)


def put(work: Work, record: LogRecord, offset_ms: float) -> None:
    """Add a record that requests and runs alike may have."""
    if record.event == "outbound.finished":
        status = record.number("status")
        work.outbound.append(
            Outbound(
                at=record.at,
                offset_ms=offset_ms,
                method=record.text("method") or "?",
                host=record.text("host") or "?",
                path=record.text("path") or "",
                status=int(status) if status is not None else None,
                error_type=record.text("error_type"),
                duration_ms=record.number("duration_ms"),
            )
        )
    elif record.event == "sync.progress":
        work.progress.append(
            Step(
                at=record.at,
                offset_ms=offset_ms,
                stage=record.text("stage") or "?",
                progress=record.number("progress"),
            )
        )
    else:
        work.lines.append(line_of(record, offset_ms))


def line_of(record: LogRecord, offset_ms: float) -> Line:
    """Return the record as a line of the story."""
    return Line(
        at=record.at,
        offset_ms=offset_ms,
        level=record.level,
        service=record.service,
        logger=record.logger,
        event=record.event,
        fields=record.fields,
    )


def sql_of(record: LogRecord) -> Sql | None:
    """Return the `sql` object of a line; None where there is none."""
    sql = record.fields.get("sql")
    if not isinstance(sql, dict):
        return None
    return Sql(
        count=int(as_number(sql.get("count")) or 0),
        time_ms=as_number(sql.get("time_ms")) or 0.0,
        slowest_ms=as_number(sql.get("slowest_ms")),
        slowest=as_text(sql.get("slowest")),
    )
