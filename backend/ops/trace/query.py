"""Answers questions to a folder of logs: one ID's stories, the errors of late."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ops.trace.failures import FAILED_EVENTS, failure_of
from ops.trace.model import ErrorGroup, Errors, Searched, SearchedFile, Story, Trace
from ops.trace.postgres_log import PgEntry, by_request_id, parse_entry, statements
from ops.trace.records import ID_KEYS, LogRecord, MalformedLineError, is_valid_id, parse_line
from ops.trace.source import Kind, log_files, scan
from ops.trace.story import build_story

# A trace ID may be shared by everything that one browser did in a day.
MAX_STORIES: Final = 20
_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(value: str, now: datetime) -> datetime:
    """Return the moment that `--since` names: a span before `now` (`90s`, `15m`, `1h`, `2d`, `1w`) or an ISO 8601 time.

    A time without a zone is taken for UTC, as in the logs.

    Raises:
        ValueError: neither.
    """
    span = _SPAN.fullmatch(value.strip())
    try:
        if span is not None:
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        at = datetime.fromisoformat(value.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("a span such as 15m, 1h or 2d, or a time such as 2026-11-24T08:00") from None


class Archive:
    """The log files of one folder.

    Args:
        folder: where they lie.
        since: nothing before this moment is looked at; None for everything.
    """

    def __init__(self, folder: Path, since: datetime | None = None) -> None:
        self.folder = folder
        self._since = since
        self._files = log_files(folder)
        for file in self._files:
            file.skipped = since is not None and file.modified_at < since
        self._malformed = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no log file at all."""
        return not self._files

    @property
    def searched(self) -> Searched:
        """Where was looked, as of now."""
        return Searched(
            folder=str(self.folder),
            since=self._since,
            files=[
                SearchedFile(
                    path=str(file.path),
                    service=file.service,
                    size_bytes=file.size_bytes,
                    first_at=file.first_at,
                    last_at=file.last_at,
                    skipped=file.skipped,
                    problem=file.problem,
                )
                for file in self._files
            ],
            malformed_lines=self._malformed + sum(file.oversized_records for file in self._files),
        )

    def trace(self, wanted: str) -> Trace:
        """Return the stories of all request IDs that `wanted` leads to: itself, or those of its task or trace.

        The logs are read once where `wanted` is a request ID, and once more where it led elsewhere.

        Raises:
            ValueError: `wanted` is no ID.
        """
        if not is_valid_id(wanted):
            raise ValueError("an ID is 1 to 63 characters out of A-Z a-z 0-9 . _ -")
        records, entries = self._read([wanted])
        keys: set[str] = set()
        owners: dict[str, None] = {}
        for record in sorted(records, key=lambda record: record.at):
            matched = {key for key, value in _values(record).items() if value == wanted}
            keys |= matched
            if matched and record.request_id is not None:
                owners.setdefault(record.request_id)
        found_as: list[str] = [key for key in ID_KEYS if key in keys]
        attributed = by_request_id(entries, [wanted])[wanted]
        if attributed:
            owners.setdefault(wanted)
            found_as = found_as or ["application_name"]
        request_ids = list(owners)[:MAX_STORIES]
        if request_ids and request_ids != [wanted]:
            records, entries = self._read(request_ids)
        return Trace(
            id=wanted,
            found_as=found_as,
            stories=_stories(request_ids, records, entries),
            more_request_ids=list(owners)[MAX_STORIES:],
            searched=self.searched,
        )

    def errors(self) -> Errors:
        """Return the failed requests and tasks by fingerprint, most recent first."""
        needles = [f'"{event}"'.encode() for event in FAILED_EVENTS]
        found, _ = self._scan(lambda kind: needles if kind == "json" else ())
        records = [record for record in found if record.event in FAILED_EVENTS]
        groups: dict[tuple[str, ...], list[LogRecord]] = {}
        for record in sorted(records, key=lambda record: (record.at, record.sequence)):
            groups.setdefault(_likeness(record), []).append(record)
        told = [_group(group) for group in groups.values()]
        told.sort(key=lambda group: group.last_at, reverse=True)
        return Errors(count=len(records), groups=told, searched=self.searched)

    def _read(self, ids: Sequence[str]) -> tuple[list[LogRecord], list[PgEntry]]:
        """Return the lines, and the entries of PostgreSQL's log, that hold one of these IDs as a whole value."""
        json = [f'"{one}"'.encode() for one in ids]
        text = [needle.encode() for one in ids for needle in (f" app={one} ", f"request_id='{one}'")]
        return self._scan(lambda kind: json if kind == "json" else text)

    def _scan(self, needles: Callable[[Kind], Sequence[bytes]]) -> tuple[list[LogRecord], list[PgEntry]]:
        records: list[LogRecord] = []
        entries: list[PgEntry] = []
        self._malformed = 0
        for sequence, (file, raw) in enumerate(scan([file for file in self._files if not file.skipped], needles)):
            try:
                if file.kind == "postgres":
                    entries.append(parse_entry(raw))
                else:
                    records.append(parse_line(raw, sequence))
            except MalformedLineError:
                self._malformed += 1
        since = self._since
        if since is not None:
            records = [record for record in records if record.at >= since]
            entries = [entry for entry in entries if entry.at >= since]
        return records, entries


def _stories(request_ids: Sequence[str], records: Sequence[LogRecord], entries: Sequence[PgEntry]) -> list[Story]:
    attributed = by_request_id(entries, request_ids)
    stories = []
    for request_id in request_ids:
        own = [record for record in records if record.request_id == request_id]
        seen = statements(attributed[request_id])
        if own or seen:
            stories.append(build_story(request_id, own, seen))
    return sorted(stories, key=lambda story: story.started_at)


def _values(record: LogRecord) -> dict[str, str | None]:
    """Return what stands under each key that may hold an ID."""
    own = {"request_id", "trace_id", "task_id", "root_id", "parent_id"}
    return {key: getattr(record, key) if key in own else record.text(key) for key in ID_KEYS}


def _likeness(record: LogRecord) -> tuple[str, ...]:
    fingerprint = record.text("fingerprint")
    return (fingerprint,) if fingerprint else (record.text("error_type") or "unknown", _where(record))


def _where(record: LogRecord) -> str:
    return record.text("route") or record.task or "unknown"


def _group(records: Sequence[LogRecord]) -> ErrorGroup:
    """Return errors of one kind, the records being in order of time."""
    last = records[-1]
    failure = failure_of(last, 0.0)
    return ErrorGroup(
        fingerprint=failure.fingerprint,
        count=len(records),
        first_at=records[0].at,
        last_at=last.at,
        type=failure.type,
        where=sorted({_where(record) for record in records}),
        statuses=sorted({record.text("status") or record.text("state") or "unknown" for record in records}),
        message=failure.message,
        request_id=last.request_id,
    )
