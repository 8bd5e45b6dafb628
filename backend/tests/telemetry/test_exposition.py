"""Metrics of a process that has no web server of its own."""

import pytest

from app.telemetry.exposition import serve_metrics
from ops.stack import loopback
from ops.stack.ports import free_port


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")])
def test_metrics_are_served_on_the_address_that_is_named(host: str, shown: str) -> None:
    """A machine may have addresses of one family alone, and the API listens on either."""
    port = free_port()
    serve_metrics(host, port, token=None, refresh=lambda: None)
    answer = loopback.get(f"http://{shown}:{port}/metrics")
    assert answer.status_code == 200
    assert "commandcenter_build_info" in answer.text
