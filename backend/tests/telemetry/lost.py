"""A run whose process is gone, as the worker's parent process has it."""

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.contrib.testing.mocks import TaskMessage
from celery.worker.request import Request

from app.telemetry.celery_request import CorrelatedRequest


def lose_a_run(app: Celery, task: str, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report a run of `task` as lost; Celery's own part, which would send it again, is left out."""
    monkeypatch.setattr(Request, "on_failure", lambda *_, **__: None)
    message: Any = TaskMessage(task)
    message.delivery_info = {"routing_key": queue}
    request = CorrelatedRequest(message, app=app, task=app.tasks[task])
    request.on_failure(SimpleNamespace(exception=WorkerLostError("gone")))
