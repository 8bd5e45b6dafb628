"""What the commands make of what happens below them: which release they mean, which exit code they end with."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.cli import cli
from ops.release import changes, exits, judgements, rollback
from ops.release.at_work import Work
from ops.release.journal import Journal
from ops.release.place import Releases
from ops.release.watch import Look
from ops.stack.errors import LOCKED, StackError

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Places:
    """A disk that is full `full` times more."""

    full: int = 0

    def free_reserve(self) -> bool:
        """Give the reserve back, once where the disk is full."""
        self.full -= 1
        return self.full >= 0

    def at_stake(self) -> str:
        """Return the release that is in service."""
        return "r1"


@dataclass
class Target:
    """A system that is only asked for its releases."""

    releases: Any = field(default_factory=Places)
    name: str = "native"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    choose: Callable[[object], Target] = lambda _: made  # noqa: E731 - one line, twice
    monkeypatch.setattr(changes, "choose_target", choose)
    monkeypatch.setattr(judgements, "choose_target", choose)
    return made


@pytest.fixture
def _at_work(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def work(*_: object, **__: object) -> Iterator[Any]:
        yield Work(target, None, None, Path())  # type: ignore[arg-type] # only handed on

    monkeypatch.setattr(changes, "at_work", work)


def refuse(*_: object, **__: object) -> Any:
    """Say what is said to a second operator."""
    raise StackError("Another one is at work on this stack.", "Wait until it is done.", LOCKED)


def test_the_release_begun_last_is_meant_whatever_is_written_to_another(tmp_path: Path) -> None:
    """`verify` and `watch` write to the one in service; the baseline of the next must not be lost by that."""
    places = Releases(tmp_path)
    in_service = Journal(places.of("b"), "b", clock=lambda: BEGUN)
    in_service.append("done", "start")
    Journal(places.of("a"), "a", clock=lambda: BEGUN + timedelta(hours=1)).append("done", "baseline")
    in_service.append("verdict", "verify")
    os.utime(in_service.path, (2**32, 2**32))
    assert (places.ids(), places.journal().release) == (["b", "a"], "a")
    assert places.at_stake() == "b"


def test_a_journal_that_cannot_be_read_is_told_and_no_crash(tmp_path: Path) -> None:
    """Which one was begun last is asked before any is opened."""
    places = Releases(tmp_path)
    places.journal("r1").append("done", "baseline")
    places.of("r2").mkdir()
    (places.of("r2") / "journal.jsonl").write_bytes(b"\xff no line\n")
    assert places.ids() == ["r2", "r1"]
    with pytest.raises(StackError, match="was changed after it was written"):
        places.journals()


@pytest.mark.usefixtures("target")
def test_another_operator_keeps_a_way_back_from_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 7: nothing was touched."""
    monkeypatch.setattr(changes, "at_work", refuse)
    assert CliRunner().invoke(cli, ["release", "rollback", "quick", "--yes"]).exit_code == exits.LOCKED


@pytest.mark.usefixtures("_at_work")
def test_a_way_back_that_another_operator_stopped_halfway_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 6: who reads 7 thinks that nothing was touched, and the services are down."""
    monkeypatch.setattr(rollback, "quick", refuse)
    ended = CliRunner().invoke(cli, ["release", "rollback", "quick", "--yes"])
    assert ended.exit_code == exits.ROLLBACK_FAILED


def test_a_watch_frees_what_was_kept_where_the_disk_is_full(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must write that it holds the lock before it can go back by itself."""
    target.releases.full = 1
    looks: list[str] = []

    def look(*_: object) -> Look:
        looks.append("look")
        if len(looks) == 1:
            raise StackError("lock.json can't be written: No space left on device", "Make room.")
        return Look("rolled back", "health failed")

    monkeypatch.setattr(judgements, "_look", look)
    ended = CliRunner().invoke(cli, ["release", "watch", "--once"])
    assert (ended.exit_code, len(looks)) == (exits.ROLLED_BACK, 2)
    assert "The disk is full" in ended.output


def test_a_watch_without_a_reserve_says_what_is_wrong(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not look for ever."""

    def look(*_: object) -> Look:
        raise StackError("lock.json can't be written", "Make room.")

    monkeypatch.setattr(judgements, "_look", look)
    assert target.releases.full == 0
    assert CliRunner().invoke(cli, ["release", "watch"]).exit_code == exits.FAILED
