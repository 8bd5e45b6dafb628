"""`python -m ops.containers.migrate`: the one shot before a release's services start.

Waits for the server, makes role and database where it is given the superuser's password, brings the schema up to date
with alembic (in the working folder, as by hand), and sets the passwords. Each step looks for what is done already, so
it may be run again at any time. `python -m ops.containers.migrate passwords` leaves the schema alone.

Reads DATABASE_URL, and where they are set POSTGRES_PASSWORD (the superuser's) and EXPORTER_PASSWORD, each also from the
file that `…_FILE` names.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ops import lock_timeout, roles
from ops.stack import exporter
from ops.stack.errors import StackError

_SUPERUSER: Final = "postgres"
_DEADLINE_S: Final = 120.0
_PAUSE_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 5
T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """Do it and return the exit code."""
    if arguments not in ([], ["passwords"]):
        _say("usage: python -m ops.containers.migrate [passwords]")
        return 2
    try:
        owner, superuser = _owner(_secret("DATABASE_URL")), _secret("POSTGRES_PASSWORD")
        if superuser:
            _prepare(owner, superuser)
        else:
            _patiently(lambda: _connect(owner).close())
        if not arguments:
            _patiently(_upgrade)
        password = _secret("EXPORTER_PASSWORD")
        if password:
            _let_exporter_in(owner, superuser, password)
    except (StackError, roles.NoExporterError, psycopg.Error) as error:
        _say(f"failed: {error}")
        return 1
    return 0


def _secret(name: str) -> str:
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise StackError(f"{name}_FILE: {path} can't be read ({type(error).__name__}).") from None


def _owner(url: str) -> dict[str, Any]:
    """Return how to connect as the owner; the message of a wrong URL holds none of it."""
    scheme, _, rest = url.partition("://")
    try:
        found = conninfo_to_dict(f"{scheme.partition('+')[0]}://{rest}")
    except psycopg.Error:
        found = {"port": "wrong"}
    if not str(found.get("port", "5432")).isdecimal():
        raise StackError("DATABASE_URL must read postgresql://user:password@host:port/name.")
    if not all(found.get(part) for part in ("user", "password", "dbname")):
        raise StackError("DATABASE_URL must name user, password and database.")
    return found


def _connect(address: dict[str, Any], **changes: str) -> roles.Connection:
    fixed = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "commandcenter-migrate"}
    return psycopg.connect(autocommit=True, **{**address, **fixed, **changes})


def _as_superuser(owner: dict[str, Any], password: str, database: str) -> roles.Connection:
    return _connect(owner, user=_SUPERUSER, password=password, dbname=database, options=roles.UNLOGGED)


def _prepare(owner: dict[str, Any], superuser: str) -> None:
    with _patiently(lambda: _as_superuser(owner, superuser, "postgres")) as connection:
        roles.make_database(connection, owner["user"], owner["password"], owner["dbname"])
    with _as_superuser(owner, superuser, owner["dbname"]) as connection:
        roles.make_extensions(connection)
        roles.close_to_public(connection)
    _say(f"role {owner['user']} and database {owner['dbname']} are there")


def _let_exporter_in(owner: dict[str, Any], superuser: str, password: str) -> None:
    # Without the superuser the server may log the verifier: only he can keep statements out of the log.
    with _as_superuser(owner, superuser, owner["dbname"]) if superuser else _connect(owner) as connection:
        roles.let_exporter_in(connection, password)
    _say(f"{exporter.ROLE} has its password")


class _NotYetError(Exception):
    """What was asked for may come true by waiting."""


def _upgrade() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        env={**os.environ, "PGOPTIONS": lock_timeout.OPTION},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    if done.returncode and lock_timeout.has_passed(said):
        raise _NotYetError(lock_timeout.IN_VAIN)
    if done.returncode:
        raise StackError(f"alembic upgrade head said:\n{said[-3000:]}")
    _say("the schema is up to date")


def _patiently(attempt: Callable[[], T]) -> T:
    """Try until it works or the time is over: a dependency may come late, and nobody starts a one shot again."""
    deadline = time.monotonic() + _DEADLINE_S
    said = ""
    while True:
        try:
            return attempt()
        except (psycopg.OperationalError, _NotYetError) as error:
            if time.monotonic() > deadline:
                raise StackError(f"gave up after {_DEADLINE_S:g} s: {error}") from None
            if str(error) != said:
                said = str(error)
                _say(f"waits: {said}")
        time.sleep(_PAUSE_S)


def _say(text: str) -> None:
    print(f"migrate: {text}", flush=True)  # noqa: T201 - a one shot's output is its log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
