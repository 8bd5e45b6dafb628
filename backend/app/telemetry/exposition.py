"""Serves the metrics, of one process or of several that share a folder."""

import hmac
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app.telemetry.processes import ProcessesCollector
from app.telemetry.publisher import publish
from app.utils.metrics import hook_failed

MULTIPROC_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


def render(accept: str) -> tuple[bytes, str]:
    """Return (body, content type) in Prometheus text or OpenMetrics, by the `Accept` header.

    With PROMETHEUS_MULTIPROC_DIR set, all processes are added up, and gauges of dead ones are left out.
    """
    publish()
    encode, content_type = choose_encoder(accept)
    directory = os.environ.get(MULTIPROC_VARIABLE)
    if not directory:
        return encode(REGISTRY), content_type
    forget_dead_processes(Path(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    registry.register(ProcessesCollector(Path(directory)))
    return encode(registry), content_type


def forget_dead_processes(directory: Path) -> None:
    """Remove the live gauges of processes that are no more: nobody tells the parent when one was killed."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            mark_process_dead(int(pid), str(directory))  # type: ignore[no-untyped-call]


def token_accepted(authorization: str | None, token: str | None) -> bool:
    """Tell whether an `Authorization` header bears `token`, in constant time. No token: all are let in."""
    if not token:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    # RFC 9110: schemes are case-insensitive, and more than one space may follow.
    given = given.lstrip(" ") if scheme.lower() == "bearer" else ""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def serve_metrics(host: str, port: int, *, token: str | None, refresh: Callable[[], None]) -> None:
    """Serve `/metrics` by a thread until this process ends: for one that has no web server of its own.

    A Celery worker's parent, say: it answers while its children hang, and tells of those that were killed.

    Args:
        host: address to listen on.
        port: as for a socket.
        token: bearer token to ask for; none: all are let in.
        refresh: brings gauges up to date that are read, not counted; called before each answer.
    """
    application = _never_while_forking(_wsgi_app(token, refresh))
    server = make_server(host, port, application, _Server, handler_class=_SilentHandler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def _wsgi_app(
    token: str | None, refresh: Callable[[], None]
) -> Callable[[WSGIEnvironment, StartResponse], list[bytes]]:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Only /metrics is here.\n"]
        if not token_accepted(environ.get("HTTP_AUTHORIZATION"), token):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"Bearer METRICS_TOKEN wanted.\n"]
        try:
            refresh()
        except Exception:  # noqa: BLE001 - old figures are better than none
            hook_failed("metrics_refresh")
        body, content_type = render(environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", content_type)])
        return [body]

    return app


def _never_while_forking(application: Callable[..., Any]) -> Callable[..., Any]:
    """A child forked while the serving thread holds a metric's lock would find it locked for ever."""
    forking = threading.Lock()
    os.register_at_fork(before=forking.acquire, after_in_parent=forking.release, after_in_child=forking.release)

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        with forking:
            return application(environ, start_response)

    return guarded


class _Server(ThreadingWSGIServer):
    """Listens on IPv6 where it is given such an address; the base class knows IPv4 alone."""

    def __init__(self, address: tuple[str, int], handler: Callable[..., WSGIRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)


class _SilentHandler(WSGIRequestHandler):
    """A scrape every 15 seconds is no news."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
