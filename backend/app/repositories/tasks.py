"""Background work on repositories. Each task may be run twice without harm."""

import contextlib
import random
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task, shared_task, signals
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import exc as sql

from app.broker import SYNC_QUEUE
from app.config import Settings, get_settings
from app.correlation import bind, for_request
from app.database import SyncDatabase, worker_database
from app.heartbeat import short_lived_client
from app.repositories import git, host, schedule, store
from app.repositories.git_error import GitError
from app.repositories.git_remote import SshFiles
from app.repositories.lease import Lease
from app.repositories.sync_message import SYNC_TASK, send_sync
from app.repositories.url import UrlNotAllowedError, UrlPolicy, parse_url
from app.telemetry.queues import priority_keys
from app.telemetry.trail import waiting_for
from app.utils.metrics import REPOSITORY_OPERATIONS
from app.vault import TokenUnreadableError, TokenVault

log = structlog.get_logger(__name__)

GIVE_UP_TASK: Final = "repositories.give_up"
_MAX_RETRIES: Final = 3
_REPORT_EVERY_S: Final = 1.0
_DUE_AT_ONCE: Final = 100
# A round every ten minutes.
_FORGET_AT_ONCE: Final = 10_000
_CLONE_NAME = re.compile(r"([1-9]\d*)\.git(?:\.lock|\.partial)?")
# It went away, is starting, or has no connection left for us: no fault of the repository's.
_DATABASE_AWAY: Final = (sql.OperationalError, sql.InterfaceError, sql.TimeoutError)


class SyncFailedError(Exception):
    """A sync failed for a reason that a person can act on; the message is that reason."""


@shared_task(name=SYNC_TASK, bind=True, max_retries=_MAX_RETRIES, ignore_result=True)
def sync_repository(self: "Task[Any, Any]", job_id: str) -> None:
    """Sync the repository that a job is about.

    Raises:
        SyncFailedError: for good. What may pass is retried with growing pauses.
    """
    request, database = self.request, worker_database()
    came_again = bool(request.retries or (request.delivery_info or {}).get("redelivered"))
    try:
        claim = store.claim(database, uuid.UUID(job_id), came_again=came_again)
        if claim is None:
            log.info("sync.skipped", reason="done already, or somebody else's")
            return
        if claim.attempt > store.MAX_ATTEMPTS:
            _give_up(database, claim, store.GIVEN_UP)
        with Lease(database, claim, get_settings().job_lost_after_s):
            _attempt(self, database, claim)
    except store.ClaimLostError as error:
        # Another run has the job: it is not this one's to end.
        log.warning("sync.superseded", reason=str(error))
    except _DATABASE_AWAY as error:
        # Nothing can be written now; the next run finds the job as it is, and so does `recover`.
        raise self.retry(exc=error, countdown=_pause_s(request.retries)) from error


def _attempt(task: "Task[Any, Any]", database: SyncDatabase, claim: store.Claim) -> None:
    try:
        _sync(get_settings(), database, claim)
    except (store.ClaimLostError, *_DATABASE_AWAY):
        raise
    except (UrlNotAllowedError, TokenUnreadableError) as error:
        reason = str(error) or "The stored access token can't be read with the current SECRET_KEY; set it again."
        _give_up(database, claim, reason, error)
    except SoftTimeLimitExceeded as error:
        _give_up(database, claim, f"It took longer than {task.app.conf.task_soft_time_limit:g} s.", error)
    except GitError as error:
        if not error.retryable or task.request.retries >= _MAX_RETRIES:
            _give_up(database, claim, error.reason, error)
        pause_s = _pause_s(task.request.retries)
        store.requeue(database, claim, f"{error.reason} It will be tried again in {pause_s:.0f} s.")
        REPOSITORY_OPERATIONS.labels("sync", "retry").inc()
        raise task.retry(exc=error, countdown=pause_s) from error
    except Exception:
        # A fault of ours. The request ID is what finds it; its words are not for users.
        store.fail(database, claim, "An unexpected error; its request ID tells more.")
        REPOSITORY_OPERATIONS.labels("sync", "failure").inc()
        raise
    REPOSITORY_OPERATIONS.labels("sync", "success").inc()


def _pause_s(retries: int) -> float:
    return get_settings().sync_retry_s * 3.0**retries * random.uniform(0.8, 1.2)  # noqa: S311 - jitter


def _give_up(database: SyncDatabase, claim: store.Claim, reason: str, cause: BaseException | None = None) -> NoReturn:
    store.fail(database, claim, reason)
    REPOSITORY_OPERATIONS.labels("sync", "failure").inc()
    raise SyncFailedError(reason) from cause


@signals.task_failure.connect(weak=False)
def _on_killed(
    sender: "Task[Any, Any] | None" = None, task_id: str = "", exception: BaseException | None = None, **_: Any
) -> None:
    """Have a job ended whose run was killed: only the worker's parent knows, and it keeps no database connection."""
    if sender is None or sender.name != SYNC_TASK:
        return
    if isinstance(exception, TimeLimitExceeded):
        reason = f"It took longer than {sender.app.conf.task_time_limit:g} s and was killed."
    elif isinstance(exception, WorkerLostError):
        reason = "Its worker process was killed each time it ran."
    else:
        return
    try:
        sender.app.send_task(GIVE_UP_TASK, args=[task_id, reason])
    except (OperationalError, RedisError):
        log.warning("job.end_not_sent", job_id=task_id, reason=reason)


@shared_task(name=GIVE_UP_TASK, ignore_result=True)
def give_up(job_id: str, reason: str) -> None:
    """End a job whose run can't."""
    if store.fail_unfinished(worker_database(), uuid.UUID(job_id), reason):
        REPOSITORY_OPERATIONS.labels("sync", "failure").inc()


def _sync(settings: Settings, database: SyncDatabase, claim: store.Claim) -> None:
    repository = claim.repository
    policy = UrlPolicy(
        allow_local=settings.allow_local_repositories, allow_private_addresses=settings.allow_private_addresses
    )
    url = parse_url(repository.url, policy)
    vault = TokenVault(settings.secret_keys)
    token = vault.decrypt(repository.access_token) if repository.access_token else None
    rotated = vault.encrypt(token) if token and vault.needs_rotation(repository.access_token or b"") else None
    state = git.sync(
        url,
        clone_directory(settings, repository.id),
        token=token,
        policy=policy,
        limits=git.GitLimits(timeout_s=settings.git_timeout_s, max_size_bytes=settings.git_max_size_mb * 1024**2),
        ca_file=settings.git_ca_file,
        ssh=SshFiles(
            settings.git_ssh_key_file,
            # Beside the clones: written to where a container's own home can't be.
            settings.git_ssh_known_hosts_file or settings.repository_dir.resolve() / "known_hosts",
        ),
        on_progress=_reporter(database, claim),
    )
    answer = host.ask(settings, database, claim, host=url.host, token=token)
    store.succeed(database, claim, state, answer.facts, retry_host_at=answer.retry_at, rotated_token=rotated)


def clone_directory(settings: Settings, repository_id: int) -> Path:
    """Return where the bare clone of a repository lies."""
    return settings.repository_dir.resolve() / f"{repository_id}.git"


def _reporter(database: SyncDatabase, claim: store.Claim) -> Callable[[str, int], None]:
    """Return a callback that notes progress in log and job: each new stage, and once a second within one."""
    last_stage, last_at = "", 0.0

    def on_progress(stage: str, progress: int) -> None:
        nonlocal last_stage, last_at
        now = time.monotonic()
        if stage == last_stage and now - last_at < _REPORT_EVERY_S:
            return
        last_stage, last_at = stage, now
        log.info("sync.progress", repository_id=claim.repository.id, stage=stage, progress=progress)
        try:
            store.report(database, claim, stage, progress)
        except _DATABASE_AWAY as error:
            # Worth a line, not the sync: by its end the database may be back.
            log.warning("sync.progress_not_written", error_type=type(error).__name__)

    return on_progress


@shared_task(name="repositories.queue_due", bind=True, ignore_result=True)
def queue_due(self: "Task[Any, Any]") -> int:
    """Queue syncs for repositories that are due, and return how many."""
    jobs = schedule.queue_due(worker_database(), get_settings().sync_interval_s, _DUE_AT_ONCE)
    for job in jobs:
        with waiting_for("the queue"):
            send_sync(self.app, job)
    return len(jobs)


@shared_task(name="repositories.recover", bind=True, ignore_result=True)
def recover(self: "Task[Any, Any]") -> int:
    """Send lost jobs again, each for the request that it belongs to, and return how many."""
    settings = get_settings()
    client = short_lived_client(settings.redis_url.get_secret_value())
    try:
        with waiting_for("Redis"):
            queue_is_empty = not any(client.llen(key) for key in priority_keys(SYNC_QUEUE))
    finally:
        client.close()
    jobs = schedule.lost_jobs(worker_database(), silent_s=settings.job_lost_after_s, queue_is_empty=queue_is_empty)
    for job in jobs:
        with bind(for_request(job.request_id)):
            log.warning("job.recovered", job_id=str(job.job_id))
            send_sync(self.app, job.job_id)
    return len(jobs)


@shared_task(name="repositories.forget", ignore_result=True)
def forget() -> int:
    """Delete jobs that ended longer ago than they are kept, and return how many."""
    forgotten = schedule.forget_old_jobs(worker_database(), get_settings().job_retention_days, _FORGET_AT_ONCE)
    if forgotten:
        log.info("jobs.forgotten", removed=forgotten)
    return forgotten


@shared_task(name="repositories.sweep", ignore_result=True)
def sweep() -> int:
    """Remove clones whose repository was deleted, and return how many. What isn't named like ours stays."""
    directory = get_settings().repository_dir.resolve()
    if not directory.is_dir():
        return 0
    # Listed before the question: a clone that is made meanwhile is not among them.
    ours = {int(match[1]) for path in directory.iterdir() if (match := _CLONE_NAME.fullmatch(path.name))}
    removed = 0
    for repository_id in ours - schedule.known_ids(worker_database()):
        # Busy: deleted while it is being synced. The next sweep finds it.
        with contextlib.suppress(GitError):
            git.remove(clone_directory(get_settings(), repository_id))
            removed += 1
    if removed:
        log.info("clones.swept", removed=removed)
    return removed
