"""How a sync is asked for: the kind of its job, the name of its task, and the message that brings the one to the other.

For whoever asks, the API and the worker's own schedule. Knows the broker and nothing else of ours.
"""

import uuid
from typing import Final

from celery import Celery

from app.broker import SYNC_QUEUE

SYNC_KIND: Final = "repository.sync"
SYNC_TASK: Final = "repositories.sync"


def send_sync(celery: Celery, job_id: uuid.UUID) -> None:
    """Put a sync into its queue. The task's ID is the job's, so sending twice is harmless."""
    # Nobody asks for the result: the client library would subscribe to it, one more for each sync, for ever.
    celery.send_task(SYNC_TASK, args=[str(job_id)], task_id=str(job_id), queue=SYNC_QUEUE, ignore_result=True)
