"""Runs migrations on the database that DATABASE_URL names; with `--sql` it prints them."""

from sqlalchemy import create_engine, pool

import app.jobs.models
import app.repositories.models
from alembic import context
from app.config import migration_url
from app.database import Base

assert app.jobs.models and app.repositories.models  # noqa: S101, PT018 - imported for their tables


def run_offline() -> None:
    """Print SQL; no connection is made."""
    context.configure(url="postgresql://", dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run in one transaction: a migration that fails leaves nothing."""
    engine = create_engine(
        migration_url(),
        poolclass=pool.NullPool,
        hide_parameters=True,
        connect_args={"application_name": "commandcenter-migrate"},
    )
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
