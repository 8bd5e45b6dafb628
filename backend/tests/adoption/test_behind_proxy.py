"""Whose ID is believed behind a proxy, with a real server in between."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from ops.stack import loopback
from tests.layer_app import create_app
from tests.system import eventually

_FAR = "203.0.113.9"


@contextmanager
def served(*, proxy_headers: bool) -> Iterator[str]:
    """Serve an application that trusts peers on this host alone; yield its URL."""
    app = create_app(trust="127.0.0.0/8")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none", proxy_headers=proxy_headers))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, what="uvicorn's start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def believed(url: str, **headers: str) -> bool:
    """Tell whether an ID that comes from this host is taken."""
    answer = loopback.get(f"{url}/items/1", headers={"X-Request-ID": "the-proxys", **headers})
    return bool(answer.headers["x-request-id"] == "the-proxys")


@pytest.mark.parametrize("believes_forwarded", [True, False])
def test_trust_judges_whom_the_server_names(believes_forwarded: bool) -> None:
    """A network in REQUEST_ID_TRUST is the far client's where the server believes X-Forwarded-For, else the proxy's."""
    with served(proxy_headers=believes_forwarded) as url:
        assert believed(url)
        assert believed(url, **{"X-Forwarded-For": _FAR}) is not believes_forwarded
