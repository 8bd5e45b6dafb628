"""What the stack's database needs before and after the migrations: role, database, and the exporter's password."""

import subprocess
from typing import Any, Final

import psycopg

from ops import roles
from ops.stack.cluster import SUPERUSER
from ops.stack.errors import StackError
from ops.stack.inherited import from_shell
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings

_NAME: Final = "commandcenter"
_MIGRATION_TIMEOUT_S: Final = 600


def connect(settings: Settings, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
    """Connect as the superuser; its statements stay out of the log.

    Raises:
        psycopg.OperationalError: there is no server.
    """
    return psycopg.connect(
        host="127.0.0.1",
        # Said as well: PGHOSTADDR in a shell would count for more than the host.
        hostaddr="127.0.0.1",
        port=settings.port("POSTGRES_PORT"),
        user=SUPERUSER,
        password=settings["POSTGRES_PASSWORD"],
        dbname=database,
        connect_timeout=2,
        autocommit=True,
        application_name="commandcenter-stack",
        options=roles.UNLOGGED,
    )


def prepare(settings: Settings) -> None:
    """Make the role and the database `commandcenter`, unless they are there."""
    with connect(settings) as connection:
        roles.make_database(connection, _NAME, settings["DB_PASSWORD"], _NAME)
    with connect(settings, _NAME) as connection:
        roles.make_extensions(connection)
        roles.close_to_public(connection)


def migrate(settings: Settings) -> None:
    """Bring the schema up to date.

    Raises:
        StackError: alembic failed; with the end of what it said.
    """
    command = [str(settings.deployment.python), "-m", "alembic", "upgrade", "head"]
    environment = from_shell() | settings.for_app() | {"EXPORTER_PASSWORD": settings["EXPORTER_PASSWORD"]}
    try:
        done = subprocess.run(
            command,
            cwd=settings.deployment.backend,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_MIGRATION_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"The migrations did not end within {_MIGRATION_TIMEOUT_S} s.", "See log/postgres.log."
        ) from error
    log = settings.layout.logs / "migrate.log"
    write_private(log, done.stdout)
    if done.returncode:
        end = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-15:])
        raise StackError(f"The migrations failed:\n{end}", f"The whole of it: {log}")


def let_exporter_in(settings: Settings) -> None:
    """Give the exporter's role, which a migration made without a password, the one of this stack."""
    with connect(settings) as connection:
        try:
            roles.let_exporter_in(connection, settings["EXPORTER_PASSWORD"])
        except roles.NoExporterError as error:
            raise StackError(str(error), "Look at backend/alembic/versions and log/migrate.log.") from None
