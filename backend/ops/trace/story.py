"""Builds the story of one request ID out of log records and PostgreSQL's statements. Pure: no files, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

from ops.trace import work
from ops.trace.failures import failure_of
from ops.trace.gaps import notes
from ops.trace.model import Database, Line, Request, Run, Statement, Story, Task, Work
from ops.trace.postgres_log import PgStatement
from ops.trace.records import LogRecord, earlier
from ops.trace.steps import put_trail

REQUEST_FINISHED: Final = "request.finished"
TASK_SENT: Final = "task.sent"
# The middleware's clock starts a moment after the ID was set.
_EARLY_MS: Final = 5.0


def build_story(request_id: str, records: Iterable[LogRecord], statements: Sequence[PgStatement]) -> Story:
    """Return the story of `request_id`.

    Args:
        request_id: whose.
        records: its lines, in any order.
        statements: its statements in PostgreSQL's log.

    Raises:
        ValueError: neither records nor statements.
    """
    ordered = sorted(records, key=lambda record: (record.at, record.sequence))
    builder = _Builder(_start_of(ordered, statements))
    builder.add(ordered)
    database = _database(statements, builder)
    ended_at = _end(builder)
    return Story(
        request_id=request_id,
        trace_ids=sorted({record.trace_id for record in ordered if record.trace_id}),
        started_at=builder.start,
        ended_at=ended_at,
        duration_ms=work.milliseconds(ended_at - builder.start) if ended_at else None,
        requests=builder.requests,
        tasks=builder.orphans,
        lines=builder.lines,
        database=database,
        notes=notes(builder.requests, list(builder.tasks.values()), builder.lines, database),
    )


class _Builder:
    """Sorts records into requests, tasks and runs."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.requests: list[Request] = []
        self.tasks: dict[str, Task] = {}
        self.orphans: list[Task] = []
        self.lines: list[Line] = []
        self._senders: dict[str, Request | Task] = {}

    def offset_ms(self, at: datetime) -> float:
        return work.milliseconds(at - self.start)

    def add(self, records: list[LogRecord]) -> None:
        """Take all records, by time."""
        by_task: dict[str, list[LogRecord]] = defaultdict(list)
        by_server: dict[tuple[str, int | None, str | None], list[LogRecord]] = defaultdict(list)
        for record in records:
            if record.task_id is not None:
                by_task[record.task_id].append(record)
            elif record.service == "api":
                by_server[record.service, record.pid, record.trace_id].append(record)
            else:
                self.lines.append(work.line_of(record, self.offset_ms(record.at)))
        for task_id, own in by_task.items():
            self._task(task_id, own[0]).runs = self._runs(own)
        for group in by_server.values():
            self._add_requests(group)
        self.requests.sort(key=lambda request: request.started_at)
        for record in records:
            if record.event == TASK_SENT and record.task_id is not None:
                self._note_sent(record, self.tasks[record.task_id])
        self._settle()

    # --- requests

    def _add_requests(self, records: list[LogRecord]) -> None:
        """Tell apart the requests of one process and trace: each ends with a line that says how long it took."""
        ends = [record for record in records if record.event == REQUEST_FINISHED]
        if not ends:
            first = records[0]
            running = self._request(first, first.at, None)
            for record in records:
                self._put(running, record)
            return
        spans = [(end, earlier(end.at, end.number("duration_ms"))) for end in ends]
        requests = {id(end): self._request(end, started_at, end) for end, started_at in spans}
        for record in records:
            if record.event == REQUEST_FINISHED:
                continue
            around = [(start, end) for end, start in spans if earlier(start, _EARLY_MS) <= record.at <= end.at]
            behind = [end for end, _ in spans if end.at >= record.at]
            # Not inside any: before its request began, or, at last, after the last answer went out.
            owner = max(around, key=lambda span: span[0])[1] if around else behind[0] if behind else ends[-1]
            self._put(requests[id(owner)], record)

    def _request(self, record: LogRecord, started_at: datetime, end: LogRecord | None) -> Request:
        status = end.number("status") if end else None
        request = Request(
            service=record.service,
            pid=record.pid,
            started_at=started_at,
            offset_ms=self.offset_ms(started_at),
            ended_at=end.at if end else None,
            duration_ms=end.number("duration_ms") if end else None,
            sql=work.sql_of(end) if end else None,
            state="FINISHED" if end else "RUNNING",
            trace_id=record.trace_id,
            method=record.text("method"),
            path=record.text("path"),
            route=record.text("route"),
            status=int(status) if status is not None else None,
            client=record.text("client"),
        )
        if end is not None:
            put_trail(request, end, self.start)
        self.requests.append(request)
        return request

    def _put(self, request: Request, record: LogRecord) -> None:
        if record.event == TASK_SENT:
            self._note_sent(record, request)
        elif record.event == "request.failed":
            request.error = failure_of(record, self.offset_ms(record.at))
            put_trail(request, record, self.start)
            request.method = request.method or record.text("method")
            request.route = request.route or record.text("route")
        else:
            work.put(request, record, self.offset_ms(record.at))

    # --- tasks

    def _task(self, task_id: str, record: LogRecord, name: str | None = None) -> Task:
        task = self.tasks.get(task_id)
        if task is None:
            is_own = record.task_id == task_id
            task = self.tasks[task_id] = Task(
                task_id=task_id,
                task=name or (record.task if is_own else None) or "unknown",
                queue=record.text("queue"),
                state="UNKNOWN",
                sent_at=None,
                offset_ms=self.offset_ms(record.at),
                parent_id=record.parent_id if is_own else record.task_id,
            )
        return task

    def _note_sent(self, record: LogRecord, sender: Request | Task) -> None:
        sent_id = record.text("sent_task_id")
        if sent_id is None:
            return
        task = self._task(sent_id, record, record.text("sent_task"))
        task.queue = task.queue or record.text("queue")
        # A retry is sent by the task itself: the same task, not a child.
        if sender is not task:
            self._senders.setdefault(sent_id, sender)
            task.sent_at = task.sent_at or record.at
            task.offset_ms = min(task.offset_ms, self.offset_ms(record.at))

    def _runs(self, records: list[LogRecord]) -> list[Run]:
        """Tell runs apart: by attempt and process, for a redelivered message may run twice at once."""
        runs: list[Run] = []
        open_runs: dict[tuple[int, int | None], Run] = {}
        for record in records:
            key = (record.attempt, record.pid)
            run = None if record.event == "task.started" else open_runs.get(key)
            if run is None and record.event != "task.started":
                # The parent process reports for a child that is no more.
                run = next((one for one in reversed(runs) if one.attempt == record.attempt), None)
            if run is None:
                run = Run(
                    service=record.service,
                    pid=record.pid,
                    started_at=record.at,
                    offset_ms=self.offset_ms(record.at),
                    attempt=record.attempt,
                    started=record.event == "task.started",
                    queue_wait_ms=record.number("queue_wait_ms"),
                )
                runs.append(run)
                open_runs[key] = run
            work.put_in_run(run, record, self.start)
        return sorted(runs, key=lambda run: run.started_at)

    def _settle(self) -> None:
        """Give each task its state and its place under who sent it."""
        for task in self.tasks.values():
            if task.runs:
                task.state = task.runs[-1].state
                task.offset_ms = min(task.offset_ms, task.runs[0].offset_ms)
            elif task.sent_at is not None:
                task.state = "QUEUED"
        for task in sorted(self.tasks.values(), key=lambda one: (one.offset_ms, one.task_id)):
            sender = self._senders.get(task.task_id) or self.tasks.get(task.parent_id or "")
            if sender is None or self._is_own_ancestor(task):
                self.orphans.append(task)
            else:
                sender.tasks.append(task)

    def _is_own_ancestor(self, task: Task) -> bool:
        """Tell whether the lines contradict themselves: a task that is said to be sent by its own child."""
        seen: set[str] = set()
        link: Request | Task | None = task
        while isinstance(link, Task):
            if link.task_id in seen:
                return True
            seen.add(link.task_id)
            link = self._senders.get(link.task_id) or self.tasks.get(link.parent_id or "")
        return False


def _start_of(records: Sequence[LogRecord], statements: Sequence[PgStatement]) -> datetime:
    starts = [
        earlier(record.at, record.number("duration_ms")) if record.event == REQUEST_FINISHED else record.at
        for record in records
    ]
    return min(starts) if starts else min(earlier(one.at, one.duration_ms) for one in statements)


def _end(builder: _Builder) -> datetime | None:
    """Return when the last of it ended; None while something still runs or waits."""
    runs = [run for task in builder.tasks.values() for run in task.runs]
    if any(task.state in {"RUNNING", "QUEUED", "RETRY", "LOST"} for task in builder.tasks.values()):
        return None
    ends: list[datetime | None] = [one.ended_at for one in chain[Work](builder.requests, runs)]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _database(statements: Sequence[PgStatement], builder: _Builder) -> Database:
    counted = [one for one in statements if one.kind == "statement"]
    return Database(
        count=len(counted),
        transactions=_transactions(statements),
        time_ms=round(sum(one.duration_ms or 0.0 for one in counted), 3),
        statements=[
            Statement(
                at=one.at,
                offset_ms=builder.offset_ms(one.at),
                pid=one.pid,
                duration_ms=one.duration_ms,
                kind=one.kind,
                name=one.tags.get("route") or one.tags.get("task"),
                text=one.text,
                error=one.error,
                plan=one.plan,
            )
            for one in statements
        ],
    )


def _transactions(statements: Sequence[PgStatement]) -> int:
    """Count transactions that did something; a pool's ping opens one for nothing."""
    count = 0
    is_empty: dict[int, bool] = {}
    for one in statements:
        if one.opens_transaction:
            is_empty[one.pid] = True
        elif one.kind == "statement" and is_empty.get(one.pid):
            is_empty[one.pid] = False
            count += 1
    return count
