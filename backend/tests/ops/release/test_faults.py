"""What can be wrong before a release begins, on a real stack: said in words, and nothing is left of it."""

import os
import resource
from pathlib import Path

import pytest
from rich.console import Console

from ops.release import backup
from ops.release.native import NativeTarget
from ops.release.place import Releases
from ops.release.prometheus import Prometheus, Value
from ops.stack.errors import StackError
from tests.native_stack import NativeStack
from tests.ops.release.rehearsed import connect, release
from tests.system import eventually

pytestmark = pytest.mark.timeout(480)


def test_a_clock_that_is_off_is_said(stack: NativeStack) -> None:
    """Else hours are judged that nobody meant, and a journal tells what was not."""
    launcher = "import time; real = time.time; time.time = lambda: real() - 90; from ops.cli import main; main()"
    done = stack.run("release", "preflight", "new", launcher=launcher)
    assert done.returncode == 1, done.stdout + done.stderr
    for whose in ("PostgreSQL", "Prometheus"):
        assert f"✗ clock, {whose}: 90.0 s apart" in done.stdout


def test_a_full_disk_ends_an_apply_in_words(stack: NativeStack) -> None:
    """Exit code 1, and no release is there that nobody began."""
    launcher = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); from ops.cli import main; main()"
    done = stack.run("release", "apply", "new", "--yes", launcher=launcher)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not Releases(stack.data).lock.exists()
    assert not Releases(stack.data).ids()


def test_a_weak_secret_is_named_and_not_shown(stack: NativeStack) -> None:
    printed = release(stack, "preflight", "new", expected=1, SECRET_KEY="changeme-123")
    assert "SECRET_KEY is " in printed
    assert "changeme-123" not in printed


def test_a_wrong_password_is_said(stack: NativeStack) -> None:
    printed = release(stack, "plan", "new", expected=1, POSTGRES_PASSWORD="not-the-password-of-it")
    assert "password authentication failed" in printed
    assert "not-the-password-of-it" not in printed


@pytest.fixture
def target(stack: NativeStack, monkeypatch: pytest.MonkeyPatch) -> NativeTarget:
    """The stack, as the steps see it."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    return NativeTarget(Console(quiet=True))


def databases(stack: NativeStack) -> set[str]:
    with connect(stack) as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_a_backup_that_cannot_be_restored_is_none(stack: NativeStack, target: NativeTarget, tmp_path: Path) -> None:
    """It must be known before anything is changed."""
    file = tmp_path / "backup.dump"
    taken = backup.take(target, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert backup.restore_test(target, file, taken["rows"])["tables"] == 3
    with pytest.raises(StackError, match="lacks rows in jobs"):
        backup.restore_test(target, file, {**taken["rows"], "jobs": 4711})
    os.truncate(file, taken["size_bytes"] // 2)
    assert not backup.is_whole(file, taken["sha256"])
    with pytest.raises(StackError, match="can't be restored"):
        backup.restore_test(target, file, taken["rows"])
    assert databases(stack) == {"commandcenter", "postgres", "template0", "template1"}


def test_a_disk_that_is_full_leaves_no_half_backup(target: NativeTarget, tmp_path: Path) -> None:
    """Half a backup looks like one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StackError, match=r"pg_dump failed|can't be written"):
            backup.take(target, tmp_path / "backup.dump")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_exporter_password_is_seen(target: NativeTarget) -> None:
    """The exporter goes on answering; what it says is pg_up 0."""
    with target.connect() as connection:
        connection.execute("ALTER ROLE exporter_user PASSWORD 'another'")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'exporter_user'")
    with Prometheus(target.prometheus_url) as prometheus:
        eventually(lambda: prometheus.instant("min(pg_up)") == Value(0.0), within_s=60, what="pg_up 0")
    target.set_exporter_password()
    with Prometheus(target.prometheus_url) as prometheus:
        eventually(lambda: prometheus.instant("min(pg_up)") == Value(1.0), within_s=60, what="pg_up 1")
