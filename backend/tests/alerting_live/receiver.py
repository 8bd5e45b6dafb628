"""Where people would be told: an HTTP server that Alertmanager posts to, and that remembers all of it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tests.system import eventually

Status = Literal["firing", "resolved"]


@dataclass(frozen=True)
class Told:
    """One alert in one message."""

    at: float
    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass
class Receiver:
    """What was told so far: to people, and to the heartbeat."""

    url: str
    people: list[Told] = field(default_factory=list)
    heartbeats: list[Told] = field(default_factory=list)

    def of(self, name: str, status: Status) -> list[Told]:
        """Return what people were told of an alert."""
        return [told for told in list(self.people) if told.labels["alertname"] == name and told.status == status]

    def names(self) -> set[str]:
        """Return the names of all alerts that people were told of."""
        return {told.labels["alertname"] for told in list(self.people)}

    def is_resolved(self, name: str) -> bool:
        """Whether the last word on each that fired was that it is over."""
        last = {_key(told): told.status for told in list(self.people) if told.labels["alertname"] == name}
        return bool(last) and set(last.values()) == {"resolved"}

    def wait_for(self, *names: str, within_s: float, since: float = 0) -> None:
        """Wait until people were told, after `since`, that all of these fire.

        After `within_s` seconds it goes on without, for the tests to complain.
        """
        _patiently(lambda: all(any(told.at > since for told in self.of(name, "firing")) for name in names), within_s)

    def wait_for_end_of(self, *names: str, within_s: float) -> None:
        """Wait until people were told that all of these are over; go on after `within_s` seconds."""
        _patiently(lambda: all(self.is_resolved(name) for name in names if self.of(name, "firing")), within_s)


def _key(told: Told) -> str:
    return json.dumps(told.labels, sort_keys=True)


def _patiently(question: Any, within_s: float) -> None:
    try:
        eventually(question, within_s=within_s)
    except AssertionError:
        return


@contextmanager
def listening() -> Iterator[Receiver]:
    """Listen until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept = receiver.heartbeats if self.path == "/heartbeat" else receiver.people
            kept += [
                Told(time.monotonic(), message["receiver"], alert["status"], alert["labels"], alert["annotations"])
                for alert in message["alerts"]
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
