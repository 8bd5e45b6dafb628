"""What GitHub's REST API knows of a repository and Git does not: stars, forks, description, visibility.

One conditional request. Never raises: a sync succeeds without it. Remembers nothing: the caller keeps the ETag, and
until when GitHub wants to be left alone.
"""

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

import httpx

from app.repositories.url import MAX_NAME_CHARACTERS

API_VERSION: Final = "2022-11-28"
USER_AGENT: Final = "CommandCenter"
PUBLIC_API_HOST: Final = "api.github.com"
PUBLIC_HOSTS: Final = frozenset({"github.com", "www.github.com", "ssh.github.com"})
MAX_REDIRECTS: Final = 2
MAX_BODY_BYTES: Final = 1024**2
MAX_RETRY_AFTER_S: Final = 24 * 3600
# "Wait for at least one minute" where a secondary limit says no time.
DEFAULT_RETRY_AFTER_S: Final = 60

_REFUSALS: Final = {
    401: "GitHub refuses the access token: it is wrong, expired or revoked.",
    403: "GitHub refuses access to this repository.",
    404: "GitHub shows no such repository {hint}.",
    451: "GitHub has blocked this repository for legal reasons.",
}
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]{1,200}"')


@dataclass(frozen=True, slots=True)
class GithubFacts:
    """A repository as GitHub has it now.

    Args:
        owner: of now; differs from what was asked for after a transfer, as `name` after a renaming.
        name: see `owner`.
        default_branch: as GitHub says; also where it has no commit yet.
        etag: for the next request; None where GitHub gave none.
    """

    owner: str
    name: str
    description: str | None
    is_private: bool
    stars: int
    forks: int
    default_branch: str | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class NotModified:
    """Nothing changed since the response with the ETag that was sent.

    With a token it costs nothing of the rate limit; without one it does.
    """


@dataclass(frozen=True, slots=True)
class Unavailable:
    """GitHub did not say.

    Args:
        reason: plain, safe to show.
        retry_after_s: GitHub is not to be asked again before; None where it asks for no pause.
    """

    reason: str
    retry_after_s: int | None = None


Answer: TypeAlias = GithubFacts | NotModified | Unavailable


def is_github_host(host: str | None, api_url: str) -> bool:
    """Return whether repositories on `host` are known to the API at `api_url`.

    `https://api.github.com` knows github.com; an enterprise server's `https://host/api/v3` its own host, and with
    subdomain isolation `https://api.host` too.
    """
    api_host = _host(api_url)
    if not host or not api_host:
        return False
    if api_host == PUBLIC_API_HOST:
        return host.lower() in PUBLIC_HOSTS
    return host.lower() in {api_host, api_host.removeprefix("api.")}


def credential(token: str | None) -> str | None:
    """Return what GitHub is shown of a token or `user:token`; None where it is shown nothing."""
    return token.rpartition(":")[2] if token and token.isascii() and token.isprintable() else None


def fetch_facts(
    owner: str, name: str, *, client: httpx.Client, api_url: str, token: str | None, etag: str | None
) -> Answer:
    """Ask GitHub for a repository.

    Args:
        owner: as in its URL.
        name: as in its URL.
        client: brings the time-out; redirects are followed here, on the same host only.
        api_url: such as `https://api.github.com`.
        token: a GitHub token, or `user:token`.
        etag: of the last `GithubFacts`, for a conditional request.

    Source: GET /repos/{owner}/{repo}.
    """
    if {owner, name} & {"", ".", ".."}:
        return Unavailable("GitHub has no repository of such a name.")
    base = api_url.rstrip("/")
    headers = {
        "Accept": "application/vnd.github+json",
        "User-Agent": USER_AGENT,
        "X-GitHub-Api-Version": API_VERSION,
    }
    if bearer := credential(token):
        headers["Authorization"] = f"Bearer {bearer}"
    if etag and _ETAG.fullmatch(etag):
        headers["If-None-Match"] = etag
    url = f"{base}/repos/{quote(owner, safe='')}/{quote(name, safe='')}"
    try:
        for _ in range(MAX_REDIRECTS + 1):
            status, answer_headers, body = _get(client, url, headers)
            if status not in {301, 302, 307, 308}:
                return _judge(status, answer_headers, body, has_token="Authorization" in headers)
            url = urljoin(url, answer_headers.get("Location", ""))
            if _origin(url) != _origin(base):
                return Unavailable("GitHub redirects to another host.")
    except httpx.TimeoutException:
        return Unavailable("GitHub did not answer in time.")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError):
        return Unavailable("GitHub cannot be reached, or what it sent cannot be read.")
    return Unavailable("GitHub redirects in circles.")


def _get(client: httpx.Client, url: str, headers: dict[str, str]) -> tuple[int, httpx.Headers, bytes]:
    body = bytearray()
    with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise httpx.DecodingError("The body is longer than any repository's.")
        return response.status_code, response.headers, bytes(body)


def _judge(status: int, headers: httpx.Headers, body: bytes, *, has_token: bool) -> Answer:
    if status == httpx.codes.OK:
        return _parse(body, headers.get("ETag"))
    if status == httpx.codes.NOT_MODIFIED:
        return NotModified()
    if status in {httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS}:
        pause_s = _pause_s(headers, body)
        if status == httpx.codes.TOO_MANY_REQUESTS or pause_s is not None:
            return Unavailable("GitHub's rate limit is used up.", pause_s or DEFAULT_RETRY_AFTER_S)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Unavailable(f"GitHub is down or busy (status {status}).", _retry_after_s(headers))
    hint = "with this access token" if has_token else "without an access token"
    return Unavailable(_REFUSALS.get(status, "GitHub answered with status {status}.").format(status=status, hint=hint))


def _pause_s(headers: httpx.Headers, body: bytes) -> int | None:
    """Return how long a limit asks to wait; None where the refusal is about no limit.

    Source: GitHub's rules for both limits: Retry-After first, then the reset time where nothing remains, else a minute.
    """
    pause_s = _retry_after_s(headers)
    if pause_s is not None:
        return pause_s
    if headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        return _bounded(int(reset) - time.time()) if _is_number(reset) else DEFAULT_RETRY_AFTER_S
    return DEFAULT_RETRY_AFTER_S if b"rate limit" in body.lower() else None


def _retry_after_s(headers: httpx.Headers) -> int | None:
    value = headers.get("Retry-After", "")
    if _is_number(value):
        return _bounded(int(value))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return _bounded(
        (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    )


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 12  # noqa: PLR2004 - seconds since 1970 fit for long


def _bounded(seconds: float) -> int:
    return max(1, min(MAX_RETRY_AFTER_S, int(seconds) + 1))


def _parse(body: bytes, etag: str | None) -> Answer:
    data: Any = json.loads(body)
    try:
        owner, name = data["owner"]["login"], data["name"]
        stars, forks, is_private = data["stargazers_count"], data["forks_count"], data["private"]
        description, default_branch = data.get("description"), data.get("default_branch")
    except (KeyError, TypeError, AttributeError):
        return Unavailable("GitHub sent something that describes no repository.")
    texts = _is_name(owner) and _is_name(name)
    counts = all(isinstance(count, int) and 0 <= count < 2**31 for count in (stars, forks))
    optional = all(text is None or isinstance(text, str) for text in (description, default_branch))
    if not (texts and counts and optional and isinstance(is_private, bool)):
        return Unavailable("GitHub sent something that describes no repository.")
    return GithubFacts(
        owner=owner,
        name=name,
        description=_storable(description),
        is_private=is_private,
        stars=stars,
        forks=forks,
        default_branch=default_branch,
        etag=etag if etag and _ETAG.fullmatch(etag) else None,
    )


def _is_name(value: Any) -> bool:
    """Tell whether GitHub could call an owner or a repository so; its own names are shorter still."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS and value.isprintable()


def _storable(text: str | None) -> str | None:
    # PostgreSQL takes no NUL, and UTF-8 no lone surrogate; JSON has both.
    return None if text is None else text.replace("\0", "").encode("utf-8", "replace").decode()


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
