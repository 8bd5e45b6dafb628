"""The application's schema: repositories and jobs."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "d4dff12b63d6"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables with their constraints and indexes."""
    _create_repositories()
    _create_jobs()


def _timestamp(name: str, *, is_set: bool = False) -> sa.Column[object]:
    if is_set:
        return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)


def _create_repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("full_name", sa.String(511), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("default_branch", sa.Text()),
        sa.Column("is_private", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("language", sa.String(100)),
        sa.Column("languages", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        _count("stars"),
        _count("forks"),
        _count("commits"),
        _count("contributors"),
        sa.Column("activity", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("last_commit_sha", sa.String(64)),
        sa.Column("last_commit_message", sa.Text()),
        sa.Column("last_commit_author", sa.Text()),
        _timestamp("last_commit_at"),
        _timestamp("last_synced_at"),
        _timestamp("sync_attempted_at"),
        _count("sync_failures"),
        sa.Column("access_token", sa.LargeBinary()),
        sa.Column("host_etag", sa.String(255)),
        _timestamp("host_retry_at"),
        _timestamp("created_at", is_set=True),
        _timestamp("updated_at", is_set=True),
        sa.PrimaryKeyConstraint("id", name="pk_repositories"),
        sa.UniqueConstraint("url", name="uq_repositories_url"),
        sa.CheckConstraint("stars >= 0", name=op.f("ck_repositories_stars")),
        sa.CheckConstraint("forks >= 0", name=op.f("ck_repositories_forks")),
    )
    op.create_index("ix_repositories_full_name", "repositories", ["full_name", "id"])
    op.create_index("ix_repositories_owner", "repositories", [sa.text("lower(owner)")])
    op.create_index("ix_repositories_language", "repositories", [sa.text("lower(language)")])
    op.create_index("ix_repositories_sync_attempted_at", "repositories", [sa.text("sync_attempted_at NULLS FIRST")])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("repository_id", sa.BigInteger()),
        sa.Column("status", sa.String(20), server_default="queued", nullable=False),
        sa.Column("request_id", sa.String(63), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.String(50)),
        sa.Column("progress", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text()),
        _timestamp("created_at", is_set=True),
        _timestamp("started_at"),
        _timestamp("updated_at", is_set=True),
        _timestamp("finished_at"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_jobs_repository_id_repositories", ondelete="SET NULL"
        ),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name=op.f("ck_jobs_status")),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_jobs_progress")),
    )
    op.create_index(
        "uq_jobs_active_repository",
        "jobs",
        ["repository_id", "kind"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_jobs_created_at", "jobs", [sa.text("created_at DESC"), "id"])
    op.create_index("ix_jobs_request_id", "jobs", ["request_id"])
    op.create_index("ix_jobs_repository_id", "jobs", ["repository_id"])


def downgrade() -> None:
    """Take both tables away."""
    op.drop_table("jobs")
    op.drop_table("repositories")
