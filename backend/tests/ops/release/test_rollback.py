"""The way back: what it refuses, what it must not hide, and what is said of it afterwards."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.console import Console

from ops.release import apply, changes, rollback, schema
from ops.release.history import windows_of
from ops.release.journal import Journal
from ops.release.place import Releases
from ops.release.scrubbing import SecretRefused
from ops.release.steps import Runner, Step
from ops.release.watch import taken_back
from ops.stack import accounts
from ops.stack.errors import StackError
from tests.alerting_live.faults import small_disk

OLD, NEW = "old-schema", "new-schema"


@dataclass
class System:
    """A target that has just been brought from version a to version b."""

    commit: str = "b"
    at: str = NEW
    rows: dict[str, int] = field(default_factory=lambda: {"jobs": 5000})
    is_halted: bool = False
    # What the migration back does besides.
    on_downgrade: Callable[[], None] = lambda: None

    def running(self) -> Mapping[str, Any]:
        """What runs now."""
        return {"commit": self.commit}

    def revisions(self, commit: str) -> list[str]:
        """The schemas that a version knows, the newest first."""
        return {"a": [OLD], "b": [NEW, OLD], "c": ["newest", NEW, OLD]}[commit]

    def answers(self) -> Mapping[str, str]:
        """Each part's trouble."""
        return {"api": "stopped" if self.is_halted else ""}

    def halt(self) -> None:
        """Stop our services."""
        self.is_halted = True

    def deploy(self, wanted: Mapping[str, Any]) -> None:
        """Run a version."""
        self.commit, self.is_halted = wanted["commit"], False

    def migrate(self, _target: object, _commit: str, _direction: str, goal: str) -> dict[str, Any]:
        """Take the schema somewhere."""
        self.on_downgrade()
        self.at = goal
        return {}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    made = System()
    monkeypatch.setattr(schema, "revision", lambda target: target.at)
    monkeypatch.setattr(schema, "has_exporter_role", lambda _: True)
    monkeypatch.setattr(schema, "migrate", made.migrate)
    monkeypatch.setattr(rollback, "_rows", lambda target: dict(target.rows))
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of a release that is in service."""
    made = Journal(tmp_path, "r1")
    made.append("done", "remember", evidence={"running": {"commit": "a"}, "schema": OLD})
    made.append("done", "prepare", evidence={"commit": "b"})
    for step in ("backup", "restore-test", "migrate", "start"):
        made.append("done", step)
    return made


def go_back(system: System, journal: Journal, accepted: str | None = None) -> None:
    runner = Runner(journal, Console(quiet=True))
    rollback.full(system, journal, runner, accepted=accepted)  # type: ignore[arg-type] # what it needs of a target


def test_a_way_back_that_stopped_halfway_is_none(system, journal):
    """The services are stopped: who reads "rolled back" goes to bed."""

    def fail() -> None:
        raise StackError("the migration can't be taken back", "see its log")

    system.on_downgrade = fail
    with pytest.raises(StackError, match="API, worker and beat were stopped") as told:
        go_back(system, journal)
    assert "commandcenter release apply --yes" in told.value.way_out
    assert taken_back(journal) == "rollback-schema: failed"
    system.on_downgrade = lambda: None
    go_back(system, journal)
    assert taken_back(journal) == "rollback-full: done"
    assert (system.commit, system.at, system.is_halted) == ("a", OLD, False)


def test_a_killed_way_back_is_none_before_its_last_word(system, journal):
    """All steps done is not all written."""
    go_back(system, journal)
    content = journal.path.read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(content) if b'"kind":"undo"' in line]
    journal.path.write_bytes(b"".join(content[: ends[0]]))
    again = Journal(journal.path.parent, "r1")
    assert taken_back(again) == "rollback-start: unknown"
    go_back(system, again)
    assert taken_back(again) == "rollback-full: done"


def test_rows_that_were_lost_are_not_forgotten(system, journal):
    """Run again, only what was counted before the migration can show them."""

    def lose() -> None:
        system.rows["jobs"] = 4997

    system.on_downgrade = lose
    for _ in range(2):
        with pytest.raises(StackError, match="jobs had 5000, has 4997"):
            go_back(system, journal)
    go_back(system, journal, accepted="three test rows")
    (approval,) = journal.state().approvals["rollback-full"]
    assert approval.evidence == {"reason": "three test rows", "rows": {"jobs": [5000, 4997]}}


def test_rows_that_come_before_the_migration_are_counted(system, journal):
    """A way back that failed at once, and was given up: the service went on writing."""
    system.commit = "b"
    runner = Runner(journal, Console(quiet=True))
    runner.run(rollback._counting(system, journal))
    system.rows["jobs"] = 6000
    go_back(system, journal)
    assert journal.state().steps["rollback-count"].entry.evidence["rows"] == {"jobs": 6000}


def test_the_backup_of_before_is_none_for_the_next_time(system, journal):
    """Rows have come since."""
    go_back(system, journal)
    assert {step: journal.state().steps[step].status for step in rollback.TAKEN_BACK} == dict.fromkeys(
        rollback.TAKEN_BACK, "undone"
    )


@pytest.mark.parametrize("after", [timedelta(minutes=59), timedelta(hours=2)])
@pytest.mark.parametrize("is_migrated", [True, False])
def test_a_backup_lasts_an_hour_or_until_the_migration(tmp_path, after, is_migrated):
    """Later it would lack what was written meanwhile; after the migration it is what there was."""
    journal = Journal(tmp_path, "r1", clock=lambda: datetime.now(UTC) - after)
    journal.append("done", "backup")
    if is_migrated:
        journal.append("done", "migrate")
    assert apply._is_of_now(journal) == (is_migrated or after < timedelta(hours=1))


@pytest.mark.parametrize(("commit", "at"), [("c", NEW), ("b", "newest")])
def test_another_release_in_service_is_left_alone(system, journal, commit, at):
    """Its schema is not this one's to take back; all that would come of it is an outage."""
    system.commit, system.at = commit, at
    with pytest.raises(StackError, match="nothing was touched"):
        go_back(system, journal)
    assert (system.is_halted, len(journal.entries)) == (False, 6)


def test_the_release_at_stake_is_the_one_that_changed_what_runs(tmp_path):
    """Not the one whose baseline was begun since."""
    places = Releases(tmp_path)
    assert places.at_stake() is None
    first, second = places.journal("first"), places.journal("second")
    for step in ("migrate", "start"):
        first.append("done", step)
    second.append("done", "baseline")
    assert places.at_stake() == "first"
    second.append("intent", "migrate")
    assert places.at_stake() == "second"
    first.append("verdict", "verify")
    assert places.at_stake() == "second"


def test_a_full_disk_has_room_for_a_way_back(request):
    """A full disk is a reason to go back, and each step wants to be written down.

    Only root mounts a disk to fill; everybody is root in a namespace of their own.
    """
    if not accounts.is_root():
        alone = ["unshare", "--user", "--map-root-user", "--mount"]
        command = [*alone, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
        done = subprocess.run(
            command,
            cwd=request.config.rootpath,
            env={**os.environ, "IN_A_NAMESPACE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    with small_disk(in_memory="IN_A_NAMESPACE" in os.environ) as mounted:
        places = Releases(mounted)
        places.folder.mkdir(parents=True)
        places.keep_reserve()
        assert not places.free_reserve(), "there is room without it"
        for number, size in enumerate((65536, 1)):
            with suppress(OSError), (mounted / f"log.{number}").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(size))
        with pytest.raises(StackError, match="can't be written"):
            places.journal("r1").append("intent", "start")
        assert places.free_reserve()
        places.journal("r1").append("intent", "start")
        places.keep_reserve()
        assert not (places.folder / "reserve").exists(), "kept of what is not there"


def test_what_was_given_up_does_not_swallow_history(tmp_path):
    """An intent that nobody ended was a deployment for an hour, not for ever."""
    begun = datetime(2026, 11, 1, tzinfo=UTC)
    given_up = Journal(tmp_path / "r1", "r1", clock=lambda: begun)
    given_up.append("intent", "backup")
    [window] = windows_of([given_up], begun + timedelta(days=20))
    assert (window.start, window.end) == (begun, begun + timedelta(hours=1))
    soon = Journal(tmp_path / "r2", "r2", clock=lambda: begun + timedelta(minutes=10))
    soon.append("done", "backup")
    [window, _] = windows_of([soon, given_up], begun + timedelta(days=20))
    assert window.end == begun + timedelta(minutes=10)


@pytest.mark.parametrize(
    "trouble",
    [
        psycopg.OperationalError("server closed the connection"),
        OSError(28, "No space left on device"),
        subprocess.TimeoutExpired(["pg_dump", "postgresql://u:hunter2@h/d"], 5),
        subprocess.CalledProcessError(3, ["alembic", "hunter2"]),
    ],
)
def test_trouble_of_any_kind_is_told_in_words_and_written_down(tmp_path, trouble):
    """A traceback at 3 a.m. helps nobody, and an `unknown` step even less."""

    def fail() -> dict[str, Any]:
        raise trouble

    journal = Journal(tmp_path, "r1")
    with pytest.raises(StackError, match="count the rows failed") as told:
        Runner(journal, Console(quiet=True)).run(Step("s", "count the rows", fail, dict, lambda: False))
    assert journal.state().steps["s"].status == "failed"
    assert "hunter2" not in told.value.problem


def test_a_version_that_nothing_could_be_held_against_is_refused(tmp_path):
    """Unless a person says why; once is enough."""
    journal = Journal(tmp_path, "r1")
    for reason in (None, " "):
        with pytest.raises(StackError, match="No baseline was kept"):
            changes._want_baseline(journal, reason)
    changes._want_baseline(journal, "the first of all")
    changes._want_baseline(journal, None)
    assert len(journal.state().approvals["apply without baseline"]) == 1
    kept = Journal(tmp_path / "kept", "r2")
    kept.append("done", "baseline")
    changes._want_baseline(kept, None)


def test_how_many_rows_a_table_of_tokens_has_is_no_secret(tmp_path):
    """It stopped a way back after the services were."""
    journal = Journal(tmp_path, "r1")
    journal.append("done", "rollback-count", evidence={"rows": {"api_tokens": 5}})
    with pytest.raises(SecretRefused):
        journal.append("done", "rollback-count", evidence={"api_token": "5f2c"})
