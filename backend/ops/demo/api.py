"""The REST API as the tour uses it. Knows no more than its contract."""

import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx

from ops.stack.errors import StackError
from ops.stack.service import find

_PREFIX: Final = "/api/v1"
_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.2
_CONFLICT: Final = 409
_ERRORS_FROM: Final = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `body` is None where there was no JSON. `request_ids`: every such header there was."""

    method: str
    path: str
    status: int
    request_id: str
    took_ms: float
    body: Any
    request_ids: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """Why it was refused, as the service puts it."""
        return str(self.body.get("detail", "")) if isinstance(self.body, dict) else ""


class Api:
    """A client.

    Args:
        base_url: such as http://127.0.0.1:8000; None for that of this checkout: ops/stack/service.py.
        token: API_TOKEN of that service; from the environment, unless given.
    """

    def __init__(self, base_url: str | None = None, token: str | None = None) -> None:
        if base_url is None:
            service = find()
            base_url, token = service.url, service.secret("API_TOKEN")
        elif token is None:
            # The stack's own token is for its own API, not for whichever is named.
            token = os.environ.get("API_TOKEN", "")
        if urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).hostname:
            raise StackError("--api wants the address of an API.", "For example http://127.0.0.1:8000")
        self.base_url = base_url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.base_url,
            timeout=_TIMEOUT_S,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # A proxy out of the environment knows no way back to this machine.
            trust_env=not _is_loopback(urlsplit(base_url).hostname or ""),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Make one call below /api/v1 and return what came back, whichever status it has.

        Raises:
            StackError: nobody answers, or it asks for a token that we lack.
        """
        started = time.perf_counter()
        try:
            response = self._client.request(method, _PREFIX + path, json=json, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise StackError(
                f"No answer from {self.base_url} ({type(error).__name__}).",
                "Start the system with `make up`, or name another with --api.",
            ) from None
        took_ms = (time.perf_counter() - started) * 1000
        try:
            body = response.json() if response.content else None
        except ValueError:
            body = None
        ids = tuple(response.headers.get_list("X-Request-ID"))
        answer = Answer(method, _PREFIX + path, response.status_code, ids[0] if ids else "", took_ms, body, ids)
        if response.status_code in {401, 403}:
            raise StackError(f"{self.base_url} asks for a token.", "Set API_TOKEN in the environment.")
        return answer

    def expect(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Make a call that has to succeed and return its body.

        Raises:
            StackError: it did not; says what the service said.
        """
        answer = self.call(method, path, **options)
        if answer.status >= _ERRORS_FROM or not isinstance(answer.body, dict):
            raise _refused(answer)
        return answer.body

    def check_ready(self) -> None:
        """Return if all that a sync needs is up.

        Raises:
            StackError: something is not; without a worker a job would wait for ever.
        """
        answer = self.call("GET", "/health/ready")
        if answer.status < _ERRORS_FROM:
            return
        components = answer.body.get("components", {}) if isinstance(answer.body, dict) else {}
        down = [
            name for name, state in components.items() if not isinstance(state, dict) or state.get("status") != "up"
        ]
        raise StackError(
            f"{self.base_url} is not ready: {', '.join(down) or 'it does not say why'}.", "See `commandcenter status`."
        )

    def register(self, url: str) -> tuple[dict[str, Any], Answer]:
        """Register a repository, or find it where it is known; return it and the first answer."""
        answer = self.call("POST", "/repositories", json={"url": url})
        if answer.status != _CONFLICT:
            if answer.status >= _ERRORS_FROM or not isinstance(answer.body, dict):
                raise _refused(answer)
            return answer.body, answer
        name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2].removesuffix(".git"))
        offset = 0
        while True:
            page = self.expect("GET", "/repositories", params={"q": name, "limit": 100, "offset": offset})
            for item in page["items"]:
                if _likeness(item["url"]) == _likeness(url):
                    return dict(item), answer
            offset += len(page["items"])
            if not page["items"] or offset >= page["total"]:
                raise StackError(f"{url} is registered, but it is not in the list.", f"Request ID: {answer.request_id}")

    def sync(self, repository_id: int) -> dict[str, Any]:
        """Queue a sync and return its job; where one is at work already, that one."""
        answer = self.call("POST", f"/repositories/{repository_id}/sync")
        if answer.status == _CONFLICT:
            for status in ("running", "queued"):
                active = self.expect("GET", "/jobs", params={"repository_id": repository_id, "status": status})
                if active["items"]:
                    return dict(active["items"][0])
            # It ended between our two calls.
            return self.expect("POST", f"/repositories/{repository_id}/sync")
        if answer.status >= _ERRORS_FROM or not isinstance(answer.body, dict):
            raise _refused(answer)
        return answer.body

    def finished_job(
        self, job_id: str, on_progress: Callable[[dict[str, Any]], None], *, patience_s: float
    ) -> dict[str, Any]:
        """Ask for a job until it succeeded or failed, and return it.

        Raises:
            StackError: it does neither within `patience_s` seconds.
        """
        deadline = time.monotonic() + patience_s
        while True:
            job = self.expect("GET", f"/jobs/{job_id}")
            on_progress(job)
            if job["status"] in {"succeeded", "failed"}:
                return job
            if time.monotonic() > deadline:
                raise StackError(
                    f"Job {job_id} is still {job['status']} after {patience_s:.0f} s.",
                    f"See `commandcenter status`, and `commandcenter trace {job_id}`.",
                )
            time.sleep(_POLL_S)


def _refused(answer: Answer) -> StackError:
    return StackError(
        f"{answer.method} {answer.path} answered {answer.status}: {answer.detail or 'without a reason'}",
        f"Its story: commandcenter trace {answer.request_id}" if answer.request_id else "",
    )


def _likeness(url: str) -> str:
    """Return what two spellings of one URL have in common."""
    return unquote(url).rstrip("/").removesuffix(".git").lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
