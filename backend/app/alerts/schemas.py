"""Alertmanager's webhook payload, version 4: as much of it as we read. The rest may come and go.

Source: prometheus.io/docs/alerting/latest/configuration/#webhook_config.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Alert(BaseModel):
    """One alert of a group."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: datetime = Field(alias="startsAt")


class AlertGroup(BaseModel):
    """What Alertmanager posts."""

    version: Literal["4"]
    alerts: list[Alert] = Field(max_length=1000)


class AlertsReceived(BaseModel):
    """How many alerts were noted."""

    received: int
