"""What tests of releases on a real stack do with it."""

from typing import Any, Final

import httpx
import psycopg

from ops.release.journal import Journal
from ops.release.place import Releases
from ops.stack import loopback
from tests.native_stack import NativeStack

OLD_SCHEMA: Final = "d4dff12b63d6"
NEW_SCHEMA: Final = "d3e92d35ba2f"
KILLED: Final = "from tests.ops.release.killed import run; run()"
REHEARSED: Final = ("--without-baseline", "a rehearsal")


def connect(stack: NativeStack) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect as the application does."""
    secrets = dict(line.split("=", 1) for line in (stack.data / "secrets.env").read_text().splitlines()[1:])
    port = stack.ports["POSTGRES_PORT"]
    return psycopg.connect(f"postgresql://commandcenter:{secrets['DB_PASSWORD']}@127.0.0.1:{port}/commandcenter")


def schema(stack: NativeStack) -> str:
    with connect(stack) as connection:
        [[revision]] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(revision)


def rows(stack: NativeStack) -> dict[str, int]:
    with connect(stack) as connection:
        return {
            "repositories": connection.execute("SELECT count(*) FROM repositories").fetchall()[0][0],
            "jobs": connection.execute("SELECT count(*) FROM jobs").fetchall()[0][0],
        }


def journal(stack: NativeStack) -> Journal:
    return Releases(stack.data).journal()


def release(stack: NativeStack, *arguments: str, expected: int = 0, **options: str) -> str:
    """Run `commandcenter release …` and return what it printed."""
    done = stack.run("release", *arguments, **options)
    assert done.returncode == expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def api(stack: NativeStack) -> httpx.Client:
    return loopback.client(5, base_url=f"http://127.0.0.1:{stack.ports['API_PORT']}/api/v1")
