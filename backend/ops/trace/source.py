"""Log files: which there are, in which order, and the records in them that hold a needle.

Looks for bytes first and leaves parsing to others: of gigabytes, a story is a few kilobytes.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Literal, cast

from ops.trace.postgres_log import entry_time
from ops.trace.records import MalformedLineError, parse_line

Kind = Literal["json", "postgres"]

_NAME: Final = re.compile(r"(?P<base>.+?\.log)(?:[.-](?P<suffix>[0-9A-Za-z_-]+))?(?P<gz>\.gz)?")
_CHUNK_BYTES: Final = 4 << 20
# A line longer than this is none of ours; it must not fill the memory.
_MAX_RECORD_BYTES: Final = 32 << 20
_PERIOD_TRIES: Final = 50
_TAB: Final = 9
_LOOKBACK_ENTRIES: Final = 4


@dataclass(slots=True)
class LogFile:
    """One file; `first_at` and `last_at` are known once it was scanned."""

    path: Path
    service: str
    kind: Kind
    size_bytes: int
    modified_at: datetime
    identity: tuple[int, int]
    order: tuple[int, int, str]
    first_at: datetime | None = None
    last_at: datetime | None = None
    problem: str | None = None
    skipped: bool = False
    oversized_records: int = field(default=0, repr=False)


def log_files(folder: Path) -> list[LogFile]:
    """Return the log files of `folder` by service, each service's oldest first; what can't be seen is left out."""
    found: dict[tuple[int, int], LogFile] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            status = path.stat()
        except OSError:
            continue
        if not path.is_file():
            continue
        service = match["base"].removesuffix(".log")
        identity = (status.st_dev, status.st_ino)
        found.setdefault(
            identity,
            LogFile(
                path=path,
                service=service,
                kind="postgres" if service.startswith("postgres") else "json",
                size_bytes=status.st_size,
                modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
                identity=identity,
                order=_age(match["suffix"]),
            ),
        )
    return sorted(found.values(), key=lambda file: (file.service, file.order))


def _age(suffix: str | None) -> tuple[int, int, str]:
    """Return a key that sorts rotated files oldest first: dated ones, then .5 to .1, then the current one."""
    if suffix is None:
        return (2, 0, "")
    if suffix.isascii() and suffix.isdecimal() and len(suffix) < len("20261124"):
        return (1, -int(suffix), "")
    return (0, 0, suffix)


def scan(files: Sequence[LogFile], needles: Callable[[Kind], Sequence[bytes]]) -> Iterator[tuple[LogFile, bytes]]:
    """Yield the records that hold one of the needles for their kind of file, and note each file's period.

    All files are opened before the first is read, so that a rotation meanwhile neither hides nor doubles a line.
    """
    with ExitStack() as stack:
        opened: list[tuple[LogFile, IO[bytes]]] = []
        for file in files:
            try:
                stream: IO[bytes] = stack.enter_context(file.path.open("rb"))
            except OSError as error:
                file.problem = error.strerror or type(error).__name__
                continue
            if file.path.suffix == ".gz":
                stream = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=stream)))
            opened.append((file, stream))
        for file, stream in opened:
            wanted = needles(file.kind)
            for block in _blocks(file, stream):
                for record in _matches(block, wanted, file.kind):
                    yield file, record


def _blocks(file: LogFile, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the file in blocks of whole records."""
    rest = b""
    last = b""
    while True:
        try:
            chunk = stream.read(_CHUNK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            file.problem = f"unreadable from here on: {type(error).__name__}"
            chunk = b""
        if not chunk:
            break
        block = rest + chunk
        cut = _last_boundary(block, file.kind)
        if cut == 0:
            rest = block
            if len(rest) > _MAX_RECORD_BYTES:
                file.oversized_records += 1
                rest = b""
            continue
        block, rest = block[:cut], block[cut:]
        if file.first_at is None:
            file.first_at = _first_time(block, file.kind)
        last = block
        yield block
    if rest:
        if file.first_at is None:
            file.first_at = _first_time(rest, file.kind)
        yield rest
    file.last_at = _last_time(rest, file.kind) or _last_time(last, file.kind) or file.first_at


def _last_boundary(block: bytes, kind: Kind) -> int:
    """Return where the last record of `block` starts that might go on behind it; 0 if that is the only one."""
    end = block.rfind(b"\n")
    if kind == "postgres":
        # A line that starts with a tab goes on with the one before. Of the byte behind the block nothing is known.
        while end >= 0 and (end + 1 == len(block) or block[end + 1] == _TAB):
            end = block.rfind(b"\n", 0, end)
    return end + 1


def _matches(block: bytes, needles: Iterable[bytes], kind: Kind) -> Iterator[bytes]:
    """Yield each record with a needle once, in the block's order."""
    spans: set[tuple[int, int]] = set()
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            start, end = _span(block, at, kind)
            spans.add((start, end))
            if kind == "postgres":
                spans.update(_error_before(block, start))
            at = block.find(needle, end)
    for start, end in sorted(spans):
        yield block[start:end]


def _span(block: bytes, at: int, kind: Kind) -> tuple[int, int]:
    start = block.rfind(b"\n", 0, at) + 1
    end = block.find(b"\n", at)
    if kind == "postgres":
        while start > 0 and block[start] == _TAB:
            start = block.rfind(b"\n", 0, start - 1) + 1
        while 0 <= end < len(block) - 1 and block[end + 1] == _TAB:
            end = block.find(b"\n", end + 1)
    return start, len(block) if end < 0 else end


def _error_before(block: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield the entries above a STATEMENT that it belongs to.

    Where only the statement's comment bears the ID, the ERROR itself does not. PostgreSQL writes both at once.
    """
    prefix, marker, _ = block[start : start + 400].partition(b" STATEMENT:  ")
    if not marker or b"\n" in prefix:
        return
    for _ in range(_LOOKBACK_ENTRIES):
        if start == 0:
            return
        start, end = _span(block, start - 1, "postgres")
        if not block.startswith(prefix, start):
            return
        yield start, end


def _first_time(block: bytes, kind: Kind) -> datetime | None:
    for line in block[: 64 << 10].split(b"\n", _PERIOD_TRIES)[:_PERIOD_TRIES]:
        at = _time_of(line, kind)
        if at is not None:
            return at
    return None


def _last_time(block: bytes, kind: Kind) -> datetime | None:
    for line in reversed(block[-(64 << 10) :].rsplit(b"\n", _PERIOD_TRIES)):
        at = _time_of(line, kind)
        if at is not None:
            return at
    return None


def _time_of(line: bytes, kind: Kind) -> datetime | None:
    if kind == "postgres":
        return entry_time(line)
    try:
        return parse_line(line).at
    except MalformedLineError:
        return None
