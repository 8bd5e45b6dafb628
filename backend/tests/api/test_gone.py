"""A client that goes away while it speaks: no answer, no error of ours."""

import socket
from urllib.parse import urlsplit

from tests.system import System, eventually


def test_a_client_that_goes_away_mid_body_is_499(system: System) -> None:
    """It is neither a bad request nor a failure, and must not wake anybody."""
    address = urlsplit(system.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /api/v1/repositories HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\nX-Request-ID: gone-1\r\n\r\n{"url": '
        )
    line = system.wait_for_line("api", request_id="gone-1", event="request.finished")
    assert line["status"] == 499

    def later_line() -> bool:
        """Whether the process that told of it has told of a later request: what it had to say of this one is there."""
        with system.client() as client:
            request_id = client.get("/api/v1/repositories").headers["X-Request-ID"]
        return bool(system.wait_for_line("api", request_id=request_id, event="request.finished")["pid"] == line["pid"])

    eventually(later_line, within_s=60, what="a later request to the same process")
    assert not [line for line in system.log_lines("api", request_id="gone-1") if line["level"] in {"error", "critical"}]
    assert not [line for line in system.log_lines("api", level="error") if "ClientDisconnect" in str(line)]
