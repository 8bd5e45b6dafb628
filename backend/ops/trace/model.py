"""What a trace says: the shapes behind the tree, and behind `--json` (docs/trace.md).

Times are in UTC; `offset_ms` counts from the story's start.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(slots=True, kw_only=True)
class Sql:
    """SQL of one request or run as the application counted it."""

    count: int
    time_ms: float
    slowest_ms: float | None
    slowest: str | None


@dataclass(slots=True, kw_only=True)
class Line:
    """A log line that has no place of its own in the tree. `fields`: what it bears beyond the common keys."""

    at: datetime
    offset_ms: float
    level: str
    service: str
    logger: str
    event: str
    fields: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Outbound:
    """A call to another host. `status` is None where no answer came; `error_type` then says why."""

    at: datetime
    offset_ms: float
    method: str
    host: str
    path: str
    status: int | None
    error_type: str | None
    duration_ms: float | None


@dataclass(slots=True, kw_only=True)
class Step:
    """How far a sync was; `progress` in percent."""

    at: datetime
    offset_ms: float
    stage: str
    progress: float | None


@dataclass(slots=True, kw_only=True)
class TrailStep:
    """A step of a trail, as docs/log-schema.md describes it. `at` is its end.

    Of `left_out`, `steps` is how many there were, and `at` is None.
    """

    at: datetime | None
    offset_ms: float | None
    kind: str
    text: str
    duration_ms: float | None
    detail: Any
    steps: int | None


@dataclass(slots=True, kw_only=True)
class Failure:
    """Why a request or a run failed. `traceback` is whole here; the tree shortens it."""

    at: datetime
    offset_ms: float
    type: str
    message: str | None
    fingerprint: str | None
    traceback: str | None


@dataclass(slots=True, kw_only=True)
class Work:
    """What requests and runs have in common."""

    service: str
    pid: int | None
    started_at: datetime
    offset_ms: float
    ended_at: datetime | None = None
    duration_ms: float | None = None
    sql: Sql | None = None
    lines: list[Line] = field(default_factory=list)
    outbound: list[Outbound] = field(default_factory=list)
    progress: list[Step] = field(default_factory=list)
    trail: list[TrailStep] = field(default_factory=list)
    error: Failure | None = None


@dataclass(slots=True, kw_only=True)
class Run(Work):
    """One attempt at a task. `state`: Celery's, `LOST` for a killed process, `RUNNING` where no line tells an end."""

    attempt: int
    state: str = "RUNNING"
    started: bool = True
    queue_wait_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class Task:
    """A task: its runs, and the tasks it sent.

    `state`: that of its last run; `QUEUED` where it was sent and no line tells of a run; `UNKNOWN` where not even that.
    """

    task_id: str
    task: str
    queue: str | None
    state: str
    sent_at: datetime | None
    offset_ms: float
    parent_id: str | None
    runs: list[Run] = field(default_factory=list)
    tasks: list["Task"] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Request(Work):
    """One HTTP request. One ID may have several, where a client tried again."""

    state: Literal["FINISHED", "RUNNING"]
    trace_id: str | None
    method: str | None = None
    path: str | None = None
    route: str | None = None
    status: int | None = None
    client: str | None = None
    tasks: list[Task] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Statement:
    """A statement in PostgreSQL's own log. `at` is its end; `name` the route or task in its comment."""

    at: datetime
    offset_ms: float
    pid: int
    duration_ms: float | None
    kind: Literal["statement", "transaction"]
    name: str | None
    text: str
    error: str | None
    plan: list[str]


@dataclass(slots=True, kw_only=True)
class Database:
    """What PostgreSQL itself saw. `count` and `time_ms` leave BEGIN, SET and their like out."""

    count: int
    transactions: int
    time_ms: float
    statements: list[Statement]


@dataclass(slots=True, kw_only=True)
class Story:
    """All there is about one request ID. `tasks`: those that no request of it sent; `lines`: those of neither."""

    request_id: str
    trace_ids: list[str]
    started_at: datetime
    ended_at: datetime | None
    duration_ms: float | None
    requests: list[Request]
    tasks: list[Task]
    lines: list[Line]
    database: Database
    notes: list[str]


@dataclass(slots=True, kw_only=True)
class SearchedFile:
    """A log file and the period it covers; `problem` where it could not be read to its end."""

    path: str
    service: str
    size_bytes: int
    first_at: datetime | None
    last_at: datetime | None
    skipped: bool
    problem: str | None


@dataclass(slots=True, kw_only=True)
class Searched:
    """Where a command looked."""

    folder: str
    since: datetime | None
    files: list[SearchedFile]
    malformed_lines: int


@dataclass(slots=True, kw_only=True)
class Trace:
    """The answer of `commandcenter trace`. `found_as`: the keys under which the ID stands in the logs."""

    id: str
    found_as: list[str]
    stories: list[Story]
    more_request_ids: list[str]
    searched: Searched


@dataclass(slots=True, kw_only=True)
class ErrorGroup:
    """Errors of one fingerprint. `where`: route templates and task names; `message` and `request_id` of the last."""

    fingerprint: str | None
    count: int
    first_at: datetime
    last_at: datetime
    type: str
    where: list[str]
    statuses: list[str]
    message: str | None
    request_id: str | None


@dataclass(slots=True, kw_only=True)
class Errors:
    """The answer of `commandcenter errors`, most recent first. `new_since`: only what was not seen before that."""

    count: int
    groups: list[ErrorGroup]
    searched: Searched
    new_since: datetime | None = None
