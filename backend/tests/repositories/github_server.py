"""GitHub's REST API as its documentation publishes it: answers and headers, replayed by a local HTTP server."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

# Out of the example response of "Get a repository".
REPOSITORY: Final[dict[str, Any]] = {
    "id": 1296269,
    "node_id": "MDEwOlJlcG9zaXRvcnkxMjk2MjY5",
    "name": "Hello-World",
    "full_name": "octocat/Hello-World",
    "owner": {"login": "octocat", "id": 1, "type": "User", "site_admin": False},
    "private": False,
    "html_url": "https://github.com/octocat/Hello-World",
    "description": "This your first repo!",
    "fork": False,
    "language": None,
    "forks_count": 9,
    "forks": 9,
    "stargazers_count": 80,
    "watchers_count": 80,
    "default_branch": "master",
    "open_issues_count": 0,
    "visibility": "public",
}
ETAG: Final = '"644b5b0155e6404a9cc4bd9d8b1ae730"'
# "Rate limits for the REST API": what every answer bears, here while much is left.
PLENTY: Final = {
    "X-RateLimit-Limit": "60",
    "X-RateLimit-Remaining": "56",
    "X-RateLimit-Reset": "1372700873",
    "X-RateLimit-Resource": "core",
}


def error(message: str, status: int) -> bytes:
    """Return the body of a refusal."""
    page = "https://docs.github.com/rest/repos/repos#get-a-repository"
    return json.dumps({"message": message, "documentation_url": page, "status": str(status)}).encode()


@dataclass
class GithubServer:
    """What a test may set, and what the server saw.

    Args:
        repository: fields that differ from the published example, by which any repository is described.
        etag: of that description.
        refusal: status, headers and body of every answer instead, or None.
        meanwhile: called while somebody waits for an answer.
        seen: of each request, its path and its headers.
    """

    port: int = 0
    repository: dict[str, Any] = field(default_factory=dict)
    etag: str = ETAG
    refusal: tuple[int, dict[str, str], bytes] | None = None
    meanwhile: Callable[[], object] | None = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What GITHUB_API_URL is for it, as for an enterprise server's."""
        return f"http://localhost:{self.port}/api/v3"

    def reset(self) -> None:
        """Be as at the start."""
        self.repository, self.etag, self.refusal, self.meanwhile = {}, ETAG, None, None
        self.seen.clear()


@contextmanager
def github_server(state: GithubServer) -> Iterator[None]:
    """Serve until the block ends; the port is the same each time."""
    server = ThreadingHTTPServer(("127.0.0.1", state.port), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: GithubServer

    def do_GET(self) -> None:
        state = self.state
        state.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if state.meanwhile is not None:
            state.meanwhile()
        if state.refusal is not None:
            self._send(*state.refusal)
        elif self.headers.get("If-None-Match") == state.etag:
            self._send(304, {"ETag": state.etag}, b"")
        else:
            owner, _, name = self.path.removeprefix("/api/v3/repos/").partition("/")
            described = REPOSITORY | {"owner": {"login": owner}, "name": name} | state.repository
            self._send(200, {"ETag": state.etag}, json.dumps(described).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        sent = {"Content-Type": "application/json; charset=utf-8", **PLENTY, **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        if status != 304:  # It has no body.
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Keep quiet."""
