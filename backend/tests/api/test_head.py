"""HEAD answers like GET, without a body: over a real socket, where a body too many breaks the next answer."""

import http.client
from urllib.parse import urlsplit

import pytest

from tests.system import System

# What differs from one answer to the next.
CHANGING = {"x-request-id", "date", "content-length"}


@pytest.mark.parametrize(
    ("path", "is_steady"),
    [
        ("/api/v1/repositories", True),
        ("/api/v1/repositories?limit=1", True),
        ("/api/v1/repositories/4711", False),
        ("/api/v1/repositories?limit=0", False),
        ("/api/v1/jobs", True),
        ("/api/v1/jobs/x", False),
        ("/api/v1/health", True),
        ("/health", True),
        ("/health/ready", False),
        ("/metrics", False),
        ("/openapi.json", True),
        ("/docs", True),
        ("/redoc", True),
        ("/nothing", False),
        ("/api/v1/alerts/webhook", False),
    ],
)
def test_head_is_get_without_a_body(system: System, path: str, is_steady: bool) -> None:
    """Same status, same headers, nothing after them: the next answer on this connection begins where it should."""
    address = urlsplit(system.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        answers = []
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            answers.append((response.status, {name.lower(): value for name, value in response.getheaders()}, body))
    finally:
        connection.close()
    (status, headers, body), (head_status, head_headers, head_body), (next_status, _, next_body) = answers
    assert (head_status, next_status) == (status, status)
    assert head_body == b""
    assert body
    assert next_body
    kept = {name: value for name, value in headers.items() if name not in CHANGING}
    assert {name: value for name, value in head_headers.items() if name not in CHANGING} == kept
    assert head_headers["x-request-id"] != headers["x-request-id"]
    assert "content-length" in head_headers
    if is_steady:
        assert head_headers["content-length"] == headers["content-length"]
