"""What a bare clone says about its repository: commits, people, weeks, languages.

Two passes over git's output, read in pieces: memory does not grow with the number of commits or files. Every byte that
comes from a repository is some stranger's, so the parsers take any bytes.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

from app.repositories.git_process import Git
from app.repositories.languages import LanguageCounter

WEEKS: Final = 52
MAX_MESSAGE_CHARACTERS: Final = 500
MAX_AUTHOR_CHARACTERS: Final = 255

_WEEK_S: Final = 7 * 24 * 3600
_MONDAY_S: Final = 3 * 24 * 3600  # 1970-01-01 was a Thursday.
_MAX_FIELD_BYTES: Final = 64 * 1024
_MAX_MAILMAP_BYTES: Final = 1024**2
_MAX_TIMESTAMP: Final = 253402300799  # The last second of the year 9999, where `datetime` ends.
_TREE_ENTRY = re.compile(rb"(\d+) (\w+) [0-9a-f]+ +(\d{1,18}|-)\t(.*)", re.DOTALL)
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is computed from one commit and all before it.

    Args:
        commit_sha: the commit.
        message: its first line, at most 500 characters.
        author: the author's name, by the repository's mailmap.
        committed_at: seconds since 1970, or None where the commit has no date, or one before 1970 or after 9999.
        commits: reachable from it, merges included.
        contributors: different author addresses, by the repository's mailmap, regardless of case.
        weeks: commits by committer date in the weeks (Monday to Sunday, UTC) since 1970, from a year back on.
        languages: bytes by language in its tree, the largest first.
    """

    commit_sha: str
    message: str
    author: str
    committed_at: int | None
    commits: int
    contributors: int
    weeks: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)

    def activity(self, now_s: float) -> list[int]:
        """Return the commits of each of the last 52 weeks, the oldest first; the last one is the week of `now_s`."""
        current = week_of(int(now_s))
        return [self.weeks.get(str(week), 0) for week in range(current - WEEKS + 1, current + 1)]

    def to_json(self) -> dict[str, object]:
        """Return what JSON has words for, and what `Statistics(**…)` takes."""
        return asdict(self)


def week_of(timestamp_s: int) -> int:
    """Return the number of the week, Monday to Sunday in UTC, since the one of 1970-01-01."""
    return (timestamp_s + _MONDAY_S) // _WEEK_S


def collect(git: Git, revision: str) -> Statistics:
    """Return the statistics of `revision` in the clone that `git` works on.

    Raises:
        GitExitError: the clone is damaged.
        GitError: a limit was reached.
    """
    git.on_progress("reading", 0)
    tree = TreeParser()
    git.run("ls-tree", "-r", "-l", "-z", "--full-tree", revision, sink=tree.feed)
    git.on_progress("reading", 50)
    # The mailmap is the repository's own word on who is who. An absurdly large one is left alone.
    email, name = ("%aE", "%aN") if tree.mailmap_bytes <= _MAX_MAILMAP_BYTES else ("%ae", "%an")
    head = git.output(
        "log", "-1", "-z", "--no-show-signature", "--no-color", f"--format=tformat:%H%x00%ct%x00{name}%x00%B", revision,
        max_bytes=_MAX_FIELD_BYTES,
    )  # fmt: skip
    sha, timestamp, author, message = (head.split(b"\0") + [b""] * 4)[:4]
    log = LogParser(time.time())
    git.run(
        "log", "-z", "--no-show-signature", "--no-color", f"--format=tformat:%ct%x00{email}%x00{name}", revision,
        sink=log.feed,
    )  # fmt: skip
    log.finish()
    git.on_progress("reading", 100)
    return Statistics(
        commit_sha=sha.decode("ascii", "replace"),
        message=first_line(message, MAX_MESSAGE_CHARACTERS),
        author=first_line(author, MAX_AUTHOR_CHARACTERS),
        committed_at=parse_timestamp(timestamp),
        commits=log.commits,
        contributors=len(log.authors),
        weeks={str(week): count for week, count in sorted(log.weeks.items())},
        languages=tree.languages.result(),
    )


def parse_timestamp(value: bytes) -> int | None:
    """Return seconds since 1970, or None for what no calendar has."""
    # The length first: converting a number of a million digits takes minutes, and Python refuses it.
    if not value.isdigit() or len(value) > len(str(_MAX_TIMESTAMP)) or int(value) > _MAX_TIMESTAMP:
        return None
    return int(value)


def parse_datetime(timestamp_s: int | None) -> datetime | None:
    """Return the moment in UTC."""
    return None if timestamp_s is None else datetime.fromtimestamp(timestamp_s, UTC)


def first_line(value: bytes, max_characters: int) -> str:
    """Return the first line that is not blank, without what a database or a terminal could choke on."""
    line = value.strip().partition(b"\n")[0]
    return _INVISIBLE.sub(" ", line.decode("utf-8", "replace")).strip()[:max_characters]


class _Records:
    """Cuts a stream at NUL bytes; of a record longer than any sensible one, only the beginning is kept."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\0")
        self._rest = (self._rest + first)[:_MAX_FIELD_BYTES]
        for other in others:
            self._take(self._rest)
            self._rest = other[:_MAX_FIELD_BYTES]


class LogParser:
    """Reads `committer time NUL author address NUL author name NUL` for each commit, in pieces of any size.

    Args:
        now_s: the time; commits of more than a year before or after it count in no week.
    """

    def __init__(self, now_s: float) -> None:
        self.commits = 0
        self.weeks: Counter[int] = Counter()
        # Half a hash of each: one size whatever a repository holds, and no addresses kept in memory.
        self.authors: set[bytes] = set()
        self._current_week = week_of(int(now_s))
        self._fields: list[bytes] = []
        self._last: tuple[bytes, bytes] | None = None
        self._records = _Records(self._take)

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of git's output."""
        self._records.feed(chunk)

    def finish(self) -> None:
        """Forget a commit that was cut off."""
        self._fields.clear()

    def _take(self, value: bytes) -> None:
        self._fields.append(value)
        if len(self._fields) < 3:  # noqa: PLR2004 - time, address, name
            return
        timestamp, email, name = self._fields
        self._fields.clear()
        self.commits += 1
        if (email, name) != self._last:
            self._last = (email, name)
            key = email.strip().lower() or name.strip()
            self.authors.add(hashlib.blake2b(key, digest_size=8).digest())
        moment = parse_timestamp(timestamp)
        if moment is not None and abs((week := week_of(moment)) - self._current_week) <= WEEKS:
            self.weeks[week] += 1


class TreeParser:
    """Reads what `git ls-tree -r -l -z` prints, in pieces of any size.

    Only regular files count: a symbolic link has no language, and a submodule is another repository.
    """

    def __init__(self) -> None:
        self.languages = LanguageCounter()
        self.mailmap_bytes = 0
        self._records = _Records(self._take)

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of git's output."""
        self._records.feed(chunk)

    def _take(self, record: bytes) -> None:
        match = _TREE_ENTRY.fullmatch(record)
        if match is None or match[2] != b"blob" or match[1] == b"120000":
            return
        size = 0 if match[3] == b"-" else int(match[3])
        if match[4] == b".mailmap":
            self.mailmap_bytes = size
        self.languages.add(match[4].decode("utf-8", "replace"), size)
