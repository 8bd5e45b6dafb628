"""A database that answers as told, and what a release is asked before it begins."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

from ops.release.compose import ComposeTarget
from ops.release.findings import Finding
from ops.release.preflight import preflight
from tests.ops.release.engine import Programs

COMMIT: Final = "aaaaaaaaaaaa"
OLD: Final = "d4dff12b63d6"
NEW: Final = "d3e92d35ba2f"


class Database:
    """Answers by a word of the question."""

    def __init__(self) -> None:
        self.revision = NEW
        self.size_bytes = 10_000_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, asked: str) -> Self:
        """Take a question."""
        answers = {
            "pg_database_size": self.size_bytes,
            "clock_timestamp": time.time(),
            "alembic_version": self.revision,
        }
        [self._answer] = [answer for word, answer in answers.items() if word in asked]
        return self

    def fetchall(self) -> list[tuple[Any]]:
        """Return its one row."""
        return [(self._answer,)]


def give_disk(programs: Programs, free_bytes: int) -> None:
    """Let df tell so much room."""
    programs.answer(
        "df", out=f"Filesystem 1024-blocks Used Available Capacity Mounted\n/d 1 1 {free_bytes // 1024} 1% /v\n"
    )


def found(target: ComposeTarget) -> dict[str, Finding]:
    return {each.check: each for each in preflight(target, COMMIT)}


Ask = Callable[[ComposeTarget], Iterator[Finding]]


def whole(target: ComposeTarget) -> Iterator[Finding]:
    return preflight(target, COMMIT)


def one(target: ComposeTarget, check: str, ask: Ask = whole) -> Finding:
    """Return the finding of one check; what comes after it is not asked."""
    return next(each for each in ask(target) if each.check == check)


def refused(target: ComposeTarget, check: str, said: str, ask: Ask = whole) -> Finding:
    """Return a finding that fails, says this and gives a way out."""
    finding = one(target, check, ask)
    assert finding.verdict == "failed", finding
    assert re.search(said, finding.value), finding.value
    assert finding.advice
    return finding
