"""Alertmanager's webhook payload, version 4."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Alert(BaseModel):
    """One alert of a group."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: datetime = Field(alias="startsAt")
    ends_at: datetime | None = Field(None, alias="endsAt")
    generator_url: str = Field("", alias="generatorURL")
    fingerprint: str = ""


class AlertGroup(BaseModel):
    """What Alertmanager posts. Fields that we don't read may come and go.

    Source: prometheus.io/docs/alerting/latest/configuration/#webhook_config.
    """

    model_config = ConfigDict(extra="ignore")

    version: Literal["4"]
    status: Literal["firing", "resolved"]
    receiver: str
    group_key: str = Field("", alias="groupKey")
    truncated_alerts: int = Field(0, alias="truncatedAlerts")
    alerts: list[Alert] = Field(max_length=1000)


class AlertsReceived(BaseModel):
    """How many alerts were noted."""

    received: int
