"""What the API says of jobs."""

import uuid
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class JobOut(BaseModel):
    """One job."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    kind: str = Field(description="What it does, such as `repository.sync`.")
    repository_id: int | None = Field(description="Null once the repository was deleted.")
    status: Literal["queued", "running", "succeeded", "failed"]
    request_id: str = Field(description="The request that asked for it; `commandcenter trace` takes it.")
    attempt: int = Field(description="Runs so far.")
    stage: str | None = Field(description="What it is at, while it runs.")
    progress: int = Field(ge=0, le=100, description="Percent.")
    reason: str | None = Field(description="Why it failed, in plain words.")
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobOut]
    total: int
    limit: int
    offset: int
