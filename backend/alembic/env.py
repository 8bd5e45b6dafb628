"""Runs migrations on the database that DATABASE_URL names; with `--sql` it prints them."""

from typing import Final

from alembic.util import CommandError
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError

import app.jobs.models
import app.repositories.models
from alembic import context
from app.config import ConfigurationError, migration_url
from app.database import Base

assert app.jobs.models and app.repositories.models  # noqa: S101, PT018 - imported for their tables

# Any number that nobody else uses. Taken in this database alone.
_LOCK: Final = 4_711_815_162_342
_INSUFFICIENT_PRIVILEGE: Final = "42501"


def run_offline() -> None:
    """Print SQL; no connection is made."""
    context.configure(
        url="postgresql://",
        dialect_name="postgresql",
        # Else `%` comes out doubled, as drivers want it and psql doesn't.
        dialect_opts={"paramstyle": "named"},
        target_metadata=Base.metadata,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run in one transaction: a migration that fails leaves nothing.

    Raises:
        CommandError: alembic's way to end with a plain message.
    """
    try:
        url = migration_url()
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        hide_parameters=True,
        connect_args={"application_name": "commandcenter-migrate"},
    )
    try:
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
            with context.begin_transaction():
                # Replicas start together: the first one migrates, the others find that it is done.
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                context.run_migrations()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise CommandError(str(error.orig)) from None


if context.is_offline_mode():
    run_offline()
else:
    run_online()
