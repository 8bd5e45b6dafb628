"""What a release is refused for before it begins: one thing broken at a time."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.release.compose import ComposeTarget
from ops.release.findings import Finding
from ops.stack import programs as installed
from ops.stack.errors import StackError
from tests.ops.release.engine import Programs
from tests.ops.release.preflight.asked import OLD, Database, found, give_disk, one, refused


def test_all_is_well_where_nothing_is_broken(target: ComposeTarget) -> None:
    """Else the refusals below might be of something else."""
    said = found(target)
    assert {name: each.value for name, each in said.items() if each.verdict != "ok"} == {}
    assert {"rules, alerts.yml", "rules, recording.yml", "time to detect, HighErrorRate"} <= said.keys()


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave one program out of all that this host has, and the stand-ins for its engine."""

    def leave_out(missing: str) -> None:
        folder = tmp_path / "path"
        folder.mkdir()
        for name in {"git", "promtool", "amtool", "engine", "composer"} - {missing}:
            program = shutil.which(name)
            assert program
            (folder / name).symlink_to(program)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(installed, "_FURTHER_FOLDERS", ())

    return leave_out


@pytest.mark.parametrize(
    ("missing", "untold"),
    [
        ("git", set()),
        ("promtool", {"Prometheus's configuration", "rules, alerts.yml", "rules, recording.yml"}),
        ("amtool", {"Alertmanager's configuration"}),
    ],
)
def test_a_missing_tool_is_named(
    target: ComposeTarget, without: Callable[[str], None], missing: str, untold: set[str]
) -> None:
    """And what it would have checked is not called well."""
    without(missing)
    said = found(target)
    assert said["tools"].verdict == "failed"
    assert said["tools"].value == f"missing: {missing}"
    assert {name for name, each in said.items() if each.verdict == "inconclusive"} == untold


def test_a_missing_linter_is_named(
    target: ComposeTarget, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that nobody looked at is not well."""
    monkeypatch.setattr("ops.release.preflight.python", lambda: tmp_path / "python")
    database.revision = OLD
    said = found(target)
    assert (said["tools"].verdict, said["tools"].value) == ("failed", "missing: squawk")
    assert said["migrations"].verdict == "inconclusive"
    assert "rules, alerts.yml" in said


def test_a_part_that_does_not_answer_is_named(target: ComposeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release begins on a system that is well; else it is blamed for what was there before."""
    monkeypatch.setattr(
        ComposeTarget, "_answers", lambda *_: {"backend": "", "redis": "does not run", "loki": "is ill"}
    )
    assert refused(target, "reachability", "redis").value == "redis: does not run; loki: is ill"


@pytest.mark.parametrize(
    ("error", "value", "advice"),
    [
        (StackError("PostgreSQL can't be reached", "make up"), "PostgreSQL can't be reached", "make up"),
        (
            PermissionError(13, "Permission denied", "/x"),
            "A check failed: Permission denied (/x).",
            "Remove the cause, and run the same again: it goes on.",
        ),
    ],
)
def test_a_check_that_gets_no_answer_fails_and_the_others_are_asked(
    target: ComposeTarget, monkeypatch: pytest.MonkeyPatch, error: Exception, value: str, advice: str
) -> None:
    """A release needs all of them; a person wants to know all that is wrong at once."""

    def silent(*_: object) -> None:
        raise error

    monkeypatch.setattr(ComposeTarget, "connect", silent)
    said = found(target)
    assert said["preflight"] == Finding("preflight", "failed", value, "an answer", advice)
    assert {"secrets", "rules, alerts.yml", "time to detect, HighErrorRate"} <= said.keys()


def test_a_disk_without_room_for_the_backup_is_told(target: ComposeTarget, database: Database) -> None:
    """A backup that fills the disk stops PostgreSQL, or ends in the middle."""
    database.size_bytes = shutil.disk_usage(target.checkout).free
    refused(target, "disk", r"^[\d.]+ GB free$")
    # The limit itself is enough.
    assert one(target, "disk of PostgreSQL").verdict == "ok"


@pytest.mark.parametrize(
    ("size_bytes", "free_bytes", "verdict"),
    [
        (2 * 1024**3, 6 * 1024**3, "ok"),
        (2 * 1024**3, 6 * 1024**3 - 1024, "failed"),
        # However small a database is, what grows meanwhile wants a gigabyte.
        (1, 1024**3, "ok"),
        (1, 1024**3 - 1024, "failed"),
    ],
)
def test_a_disk_without_room_for_the_restored_copy_is_told(
    target: ComposeTarget, database: Database, programs: Programs, size_bytes: int, free_bytes: int, verdict: str
) -> None:
    """It is PostgreSQL's own: full, it takes the service down."""
    database.size_bytes = size_bytes
    give_disk(programs, free_bytes)
    finding = one(target, "disk of PostgreSQL")
    assert (finding.verdict, bool(finding.advice)) == (verdict, verdict == "failed")


def test_a_database_that_cannot_be_dumped_is_told(target: ComposeTarget, programs: Programs) -> None:
    """It must be known before anything is stopped."""
    programs.answer("pg_dump", err="permission denied for table jobs", rc=1)
    refused(target, "a backup is possible", "permission denied for table jobs")


def test_a_folder_that_takes_no_backup_is_told(target: ComposeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **given: mode != os.W_OK and real(path, mode, **given))
    refused(target, "a backup is possible", f"{target.checkout} can't be written to")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE INDEX jobs_by_state ON jobs (state);", "require-concurrent-index-creation"),
        ("ALTER TABLE jobs ALTER COLUMN id TYPE bigint;", "changing-column-type"),
        ("ALTER TABLE jobs ADD COLUMN note text NOT NULL;", "adding-required-field"),
        ("ALTER TABEL jobs;", "syntax-error"),
    ],
)
def test_a_migration_that_stops_everybody_is_refused(
    target: ComposeTarget, database: Database, programs: Programs, sql: str, said: str
) -> None:
    """An index that is built under a lock keeps every request waiting for as long."""
    database.revision = OLD
    programs.answer("upgrade", out=sql)
    refused(target, "migrations", said)


def test_a_harmless_migration_passes(target: ComposeTarget, database: Database, programs: Programs) -> None:
    database.revision = OLD
    programs.answer("upgrade", out="ALTER TABLE jobs ADD COLUMN note text;")
    assert one(target, "migrations").verdict == "ok"


def test_a_newer_schema_than_the_version_knows_is_refused(target: ComposeTarget, database: Database) -> None:
    """Older code on a newer schema fails request by request."""
    database.revision = "ffffffffffff"
    refused(target, "migrations", "ffffffffffff, which aaaaaaaaaaaa does not know")
