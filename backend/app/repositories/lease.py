"""Keeps a run's claim on its job alive while git is silent: a thread that gives the job's row a sign of life.

What isn't kept counts as lost after JOB_LOST_AFTER_S and runs again. Ends no run: one that lost its claim is told when
it next writes, and the clone's own lock keeps the two apart until then.
"""

import threading
from contextvars import copy_context
from types import TracebackType
from typing import Final, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.database import SyncDatabase
from app.repositories import store

log = structlog.get_logger(__name__)

# So that one that comes late, or fails, doesn't cost the claim.
_SIGNS_UNTIL_LOST: Final = 6


class Lease:
    """Gives signs of life from entry to exit.

    Args:
        database: where the job is.
        claim: what to keep.
        lost_after_s: without a sign for so long, others may take the job.
    """

    def __init__(self, database: SyncDatabase, claim: store.Claim, lost_after_s: float) -> None:
        self._database = database
        self._claim = claim
        self._every_s = lost_after_s / _SIGNS_UNTIL_LOST
        self._done = threading.Event()

    def __enter__(self) -> Self:
        # A copy of the context: its SQL bears the task's ID too.
        thread = threading.Thread(target=copy_context().run, args=(self._run,), name="lease", daemon=True)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not waited for: a sign that comes too late finds a job that isn't running and changes nothing.
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                store.keep(self._database, self._claim)
            except store.ClaimLostError:
                if not self._done.is_set():
                    log.warning("sync.claim_lost", job_id=str(self._claim.job_id))
                return
            except SQLAlchemyError as error:
                log.warning("sync.sign_of_life_failed", error_type=type(error).__name__)
