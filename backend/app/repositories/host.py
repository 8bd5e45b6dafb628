"""What the worker asks a repository's host beside Git: GitHub's facts, with the pauses that GitHub asks for.

Never fails because of the host: a sync does without. Writes nothing: the answer goes into the row with the rest of the
sync.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import structlog

from app.config import Settings
from app.database import SyncDatabase
from app.repositories import github, store
from app.telemetry.outbound import CorrelatedTransport
from app.vault import TokenUnreadableError, TokenVault

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """What came of asking.

    Args:
        facts: None where nothing changed, nobody was asked or no answer came.
        retry_at: GitHub wants to be left alone until then; None where it asked for no pause.
    """

    facts: github.GithubFacts | None = None
    retry_at: datetime | None = None


def ask(
    settings: Settings, database: SyncDatabase, claim: store.Claim, *, host: str | None, token: str | None
) -> HostAnswer:
    """Ask the API of a repository's host, where it is one that has GitHub's.

    Args:
        settings: where that API is, and who may learn our IDs.
        database: knows the pauses.
        claim: with the repository.
        host: of the repository's URL.
        token: in plain text.
    """
    repository = claim.repository
    if not github.is_github_host(host, settings.github_api_url):
        return HostAnswer()
    until = _left_alone_until(database, TokenVault(settings.secret_keys), token)
    if until is not None:
        log.info("github.left_alone", until=until.isoformat())
        return HostAnswer()
    transport = CorrelatedTransport(settings.correlation_hosts)
    with httpx.Client(transport=transport, timeout=_TIMEOUT_S) as client:
        answer = github.fetch_facts(
            repository.owner,
            repository.name,
            client=client,
            api_url=settings.github_api_url,
            token=token,
            etag=repository.host_etag,
        )
    if isinstance(answer, github.GithubFacts):
        return HostAnswer(answer)
    if isinstance(answer, github.Unavailable):
        log.warning("github.unavailable", reason=answer.reason, retry_after_s=answer.retry_after_s)
        if answer.retry_after_s:
            return HostAnswer(retry_at=datetime.now(UTC) + timedelta(seconds=answer.retry_after_s))
    return HostAnswer()


def _left_alone_until(database: SyncDatabase, vault: TokenVault, token: str | None) -> datetime | None:
    """Return the latest end of the pauses that hold for a token, or for us without one; None where none does.

    A limit is a token's, and without one our address's, not a repository's: whichever of them met it, all keep to it.
    """
    own = github.credential(token)
    ends = []
    for pause in store.host_pauses(database):
        try:
            told_to = vault.decrypt(pause.access_token) if pause.access_token else None
        except TokenUnreadableError:
            continue
        if github.credential(told_to) == own:
            ends.append(pause.until)
    return max(ends, default=None)
