"""The native stack as a release sees it, on a real PostgreSQL."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from rich.console import Console

from ops.release.native import NativeTarget
from ops.stack import accounts
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from tests.system import eventually


@pytest.fixture
def target(tmp_path: Path, postgres_admin_url: str, monkeypatch: pytest.MonkeyPatch) -> NativeTarget:
    """A stack that was up once, and whose PostgreSQL is that of the tests."""
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    monkeypatch.setenv("COMMANDCENTER_DATA", str(tmp_path / "data"))
    server = urlsplit(postgres_admin_url)
    monkeypatch.setenv("POSTGRES_PORT", str(server.port))
    monkeypatch.setenv("POSTGRES_PASSWORD", server.password or "")
    Layout.from_environment().make()
    return NativeTarget(Console(quiet=True))


@pytest.mark.parametrize(
    ("statement", "ends"),
    [
        ("SELECT 'Zebra9Quilt'", nullcontext()),
        ("SELECT 'Zebra9Quilt' FROM nowhere", pytest.raises(StackError, match="nowhere")),
    ],
)
def test_what_a_backup_says_stays_out_of_the_log(
    target: NativeTarget,
    postgres_admin_url: str,
    postgres_log: Path,
    statement: str,
    ends: AbstractContextManager[object],
) -> None:
    """Statements of pg_restore hold people's data; those that fail were logged in full."""
    before, end = postgres_log.stat().st_size, "the end of this test"
    with ends:
        target.postgres_tool("psql", "--dbname=postgres", "--command", statement)
    with psycopg.connect(postgres_admin_url) as connection:
        connection.execute(f"SELECT '{end}'".encode())
    eventually(lambda: end in postgres_log.read_bytes()[before:].decode(), what="the log's last line")
    assert "Zebra9Quilt" not in postgres_log.read_bytes()[before:].decode()
