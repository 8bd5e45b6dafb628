"""The table of repositories."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.repositories.url import MAX_URL_CHARACTERS


class Repository(Base):
    """A Git repository that the team watches, and its state at the last sync."""

    __tablename__ = "repositories"
    __table_args__ = (
        CheckConstraint("stars >= 0", name="stars"),
        CheckConstraint("forks >= 0", name="forks"),
        # The list is sorted by full name and filtered by owner or language.
        Index("ix_repositories_full_name", "full_name", "id"),
        Index("ix_repositories_owner", text("lower(owner)")),
        Index("ix_repositories_language", text("lower(language)")),
        # What is due for a sync.
        Index("ix_repositories_sync_attempted_at", text("sync_attempted_at NULLS FIRST")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    url: Mapped[str] = mapped_column(String(MAX_URL_CHARACTERS), unique=True)
    owner: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    full_name: Mapped[str] = mapped_column(String(511))
    description: Mapped[str | None] = mapped_column(Text)
    default_branch: Mapped[str | None] = mapped_column(Text)
    is_private: Mapped[bool] = mapped_column(Boolean, server_default=false())
    language: Mapped[str | None] = mapped_column(String(100))
    languages: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    stars: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    forks: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    commits: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    contributors: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Commits a week, 52 of them, oldest first.
    activity: Mapped[list[int]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    last_commit_sha: Mapped[str | None] = mapped_column(String(64))
    last_commit_message: Mapped[str | None] = mapped_column(Text)
    last_commit_author: Mapped[str | None] = mapped_column(Text)
    last_commit_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_synced_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # When a sync last began, and how many in a row have failed since one succeeded: broken ones are tried less often.
    sync_attempted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    sync_failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Encrypted; see vault.py. Never read by the API.
    access_token: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    # Of the host's API, for conditional requests; empty where it gave none. NULL: nothing that it said of the
    # description stands here, so a description is a user's own; it stays, and the host is asked unconditionally.
    host_etag: Mapped[str | None] = mapped_column(String(255), deferred=True)
    # Until when the host wants to be left alone by whoever has this row's token, or by us where it has none.
    host_retry_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), deferred=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
