"""What the API takes and says of repositories."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Secret, StringConstraints

from app.repositories.url import MAX_URL_CHARACTERS
from app.rest import NO_NUL

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARACTERS, strip_whitespace=True)]
# Visible ASCII: what fits into an Authorization header, and can't end it.
Token = Secret[Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[\x21-\x7e]+$")]]
Description = Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)]


class RepositoryIn(BaseModel):
    """A repository to register."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: Url = Field(examples=["https://github.com/pallets/click"], description="https, ssh, or file where allowed.")
    access_token: Token | None = Field(None, description="For a private repository. Stored encrypted, never shown.")
    description: Description | None = Field(
        None,
        description="Stays as it is given. Null or empty: each sync brings GitHub's; other hosts tell none.",
    )
    is_private: bool = False


def _without_default(schema: dict[str, Any]) -> None:
    """Leave out what is no default: what a client leaves out stays as it is."""
    schema.pop("default", None)


class RepositoryPatch(BaseModel):
    """What may be changed. Left out: stays. `access_token: null` removes the token."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    access_token: Token | None = None
    description: Description | None = Field(
        None,
        description="Stays, whatever GitHub says. Null or empty: GitHub's again, from the next sync on.",
    )
    is_private: bool = Field(False, json_schema_extra=_without_default)


class RepositoryOut(BaseModel):
    """A repository and its state at the last sync. Fields that only a sync can know are null before the first."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    owner: str
    name: str
    full_name: str
    url: str
    default_branch: str | None
    description: str | None = Field(description="A user's own; where none was given, GitHub's as of the last sync.")
    is_private: bool
    language: str | None = Field(description="The one with the most bytes.")
    stars: int = Field(description="GitHub's count, from the last sync that it answered; 0 for other hosts.")
    forks: int = Field(description="As `stars`.")
    last_commit_sha: str | None
    last_commit_message: str | None
    last_commit_author: str | None
    last_commit_at: datetime | None
    last_synced_at: datetime | None
    created_at: datetime
    updated_at: datetime
    activity: list[int] = Field(description="Commits a week, 52 weeks, oldest first; empty before the first sync.")
    languages: dict[str, int] = Field(description="Bytes by language.")
    commits: int = Field(description="All that lead to the last one.")
    contributors: int


class RepositoryPage(BaseModel):
    """A page of repositories, by full name."""

    items: list[RepositoryOut]
    total: int
    limit: int
    offset: int


class SyncAccepted(BaseModel):
    """The sync was queued."""

    job_id: str
    status: str
    request_id: str
