"""Background work on repositories. Each task may be run twice without harm."""

import random
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from app.config import Settings, get_settings
from app.database import SyncDatabase, worker_database
from app.repositories import git, github, store
from app.repositories.git_error import GitError
from app.repositories.service import SYNC_TASK, send_sync
from app.repositories.url import UrlNotAllowedError, UrlPolicy, parse_url
from app.telemetry.outbound import CorrelatedTransport
from app.utils.metrics import REPOSITORY_OPERATIONS
from app.vault import TokenUnreadableError, TokenVault

log = structlog.get_logger(__name__)

_MAX_RETRIES: Final = 3
_FIRST_RETRY_S: Final = 10
_REPORT_EVERY_S: Final = 1.0
_HOST_TIMEOUT_S: Final = 10.0
_DUE_AT_ONCE: Final = 100


class SyncFailedError(Exception):
    """A sync failed for a reason that a person can act on; the message is that reason."""


@shared_task(name=SYNC_TASK, bind=True, max_retries=_MAX_RETRIES, ignore_result=True)
def sync_repository(self: "Task[Any, Any]", job_id: str) -> None:
    """Sync the repository that a job is about.

    Raises:
        SyncFailedError: for good. What may pass is retried with growing pauses.
    """
    settings, database = get_settings(), worker_database()
    job = uuid.UUID(job_id)
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    claim = store.claim(database, job, redelivered=redelivered)
    if claim is None:
        log.info("sync.skipped", reason="done already, or somebody else's")
        return
    if claim.attempt > store.MAX_ATTEMPTS:
        _give_up(database, job, f"Its worker was lost {store.MAX_ATTEMPTS} times.")
    try:
        _sync(settings, database, claim)
    except (UrlNotAllowedError, TokenUnreadableError, SyncFailedError) as error:
        reason = str(error) or "The stored access token can't be read with the current SECRET_KEY; set it again."
        _give_up(database, job, reason, error)
    except SoftTimeLimitExceeded as error:
        _give_up(database, job, f"It took longer than {self.app.conf.task_soft_time_limit:g} s.", error)
    except GitError as error:
        if not error.retryable or self.request.retries >= _MAX_RETRIES:
            _give_up(database, job, error.reason, error)
        pause_s = _FIRST_RETRY_S * 3**self.request.retries * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        store.requeue(database, job, f"{error.reason} It will be tried again in {pause_s:.0f} s.")
        REPOSITORY_OPERATIONS.labels("sync", "retry").inc()
        raise self.retry(exc=error, countdown=pause_s) from error
    except Exception:
        # A fault of ours. The request ID is what finds it; its words are not for users.
        store.fail(database, job, "An unexpected error; its request ID tells more.")
        REPOSITORY_OPERATIONS.labels("sync", "failure").inc()
        raise
    REPOSITORY_OPERATIONS.labels("sync", "success").inc()


def _give_up(database: SyncDatabase, job: uuid.UUID, reason: str, cause: BaseException | None = None) -> None:
    store.fail(database, job, reason)
    REPOSITORY_OPERATIONS.labels("sync", "failure").inc()
    raise SyncFailedError(reason) from cause


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
        on_progress=_reporter(database, claim),
    )
    facts, retry_host_at = _ask_host(settings, claim, url.host, token)
    store.succeed(
        database, claim.job_id, repository.id, state, facts, retry_host_at=retry_host_at, rotated_token=rotated
    )


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
        store.report(database, claim.job_id, stage, progress)

    return on_progress


def _ask_host(
    settings: Settings, claim: store.Claim, host: str | None, token: str | None
) -> tuple[github.GithubFacts | None, datetime | None]:
    """Return what GitHub knows, and until when it wants to be left alone. Never fails: a sync does without."""
    repository = claim.repository
    if not github.is_github_host(host, settings.github_api_url):
        return None, None
    if repository.host_retry_at is not None and repository.host_retry_at > datetime.now(UTC):
        log.info("github.left_alone", until=repository.host_retry_at.isoformat())
        return None, None
    transport = CorrelatedTransport(settings.correlation_hosts)
    with httpx.Client(transport=transport, timeout=_HOST_TIMEOUT_S) as client:
        answer = github.fetch_facts(
            repository.owner,
            repository.name,
            client=client,
            api_url=settings.github_api_url,
            token=token,
            etag=repository.host_etag,
        )
    if isinstance(answer, github.GithubFacts):
        return answer, None
    if isinstance(answer, github.Unavailable):
        log.warning("github.unavailable", reason=answer.reason, retry_after_s=answer.retry_after_s)
        if answer.retry_after_s:
            return None, datetime.now(UTC) + timedelta(seconds=answer.retry_after_s)
    return None, None


@shared_task(name="repositories.queue_due", bind=True, ignore_result=True)
def queue_due(self: "Task[Any, Any]") -> int:
    """Queue syncs for repositories that are due, and return how many."""
    jobs = store.queue_due(worker_database(), get_settings().sync_interval_s, _DUE_AT_ONCE)
    for job in jobs:
        send_sync(self.app, job)
    return len(jobs)


@shared_task(name="repositories.recover", bind=True, ignore_result=True)
def recover(self: "Task[Any, Any]") -> int:
    """Send lost jobs again, and return how many."""
    # Twice the limit: a run on a stopped machine may wake up late.
    jobs = store.lost_jobs(worker_database(), longest_run_s=2 * float(self.app.conf.task_time_limit or 3600))
    for job in jobs:
        log.warning("job.recovered", job_id=str(job))
        send_sync(self.app, job)
    return len(jobs)


@shared_task(name="repositories.sweep", ignore_result=True)
def sweep() -> int:
    """Remove clones whose repository was deleted, and return how many."""
    directory = get_settings().repository_dir
    if not directory.is_dir():
        return 0
    # Listed before the question: a clone that is made meanwhile is not among them.
    clones = {path: path.name.partition(".")[0] for path in directory.iterdir()}
    known = store.known_ids(worker_database())
    removed = 0
    for path, name in clones.items():
        if name.isdecimal() and int(name) not in known:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed += 1
    if removed:
        log.info("clones.swept", removed=removed)
    return removed
