"""What people get: each tool's own message, with the words of the alert in it.

A template is run when an alert is sent, not when the configuration is checked: a slip in one would be found at night.
"""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from ops.stack import monitoring
from ops.stack.layout import checkout
from ops.stack.settings import Settings
from tests.alertmanager import running_alertmanager, send_alerts
from tests.system import eventually


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


RULES = yaml.safe_load((checkout() / "monitoring" / "alerts.yml").read_text())["groups"]
RULE = next(rule for group in RULES for rule in group["rules"] if rule["alert"] == "HighErrorRate")
SUMMARY = "7 % of requests fail"


@pytest.fixture
def posts() -> Iterator[tuple[str, dict[str, Any]]]:
    """URL of a server that takes every POST, and what was posted by path."""
    posted: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted[self.path] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202 if "pagerduty" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", posted


@pytest.fixture
def mail() -> Iterator[tuple[str, list[str]]]:
    """Address of a mail server that takes everything, and the letters."""
    letters: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 test")
            while line := self.rfile.readline().decode().strip():
                if line == "DATA":
                    self._say("354 go on")
                    text = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    letters.append("".join(text))
                self._say("221 bye" if line == "QUIT" else "250 ok")
                if line == "QUIT":
                    return

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with _serving(server):
        yield f"127.0.0.1:{server.server_address[1]}", letters


def test_every_tool_says_what_the_alert_says(
    settings: Settings, posts: tuple[str, dict[str, Any]], mail: tuple[str, list[str]]
) -> None:
    """Summary, description, and the ways to runbook and dashboard."""
    (url, posted), (smarthost, letters) = posts, mail
    folder = monitoring.receivers_folder(settings)
    (folder / "slack_url").write_text(f"{url}/slack\n")
    (folder / "pagerduty_key").write_text("0123456789abcdef0123456789abcdef\n")
    (folder / "webhook_url").write_text(f"{url}/webhook\n")
    (folder / "email").write_text(
        f"TO=oncall@example.test\nFROM=alerts@example.test\nSMARTHOST={smarthost}\nTLS=false\n"
    )

    def nearer(config: dict[str, Any]) -> None:
        config["global"]["pagerduty_url"] = f"{url}/pagerduty"
        config["route"]["group_wait"] = "100ms"

    annotations = {**RULE["annotations"], "summary": SUMMARY}
    labels = {"alertname": "HighErrorRate", "stage": "live", **RULE["labels"]}
    with running_alertmanager(settings, nearer) as alertmanager:
        send_alerts(alertmanager, [{"labels": labels, "annotations": annotations}])
        eventually(lambda: {"/slack", "/pagerduty", "/webhook"} <= posted.keys() and letters, what="all four messages")

    [attachment] = posted["/slack"]["attachments"]
    assert attachment["title"] == "FIRING HighErrorRate (critical)"
    assert attachment["title_link"] == annotations["dashboard_url"]
    assert all(annotations[name] in attachment["text"] for name in ("summary", "description", "runbook_url"))

    page = posted["/pagerduty"]
    assert page["routing_key"] == "0123456789abcdef0123456789abcdef"
    assert (page["payload"]["summary"], page["payload"]["severity"]) == (f"HighErrorRate: {SUMMARY}", "critical")
    assert page["payload"]["custom_details"]["description"] == annotations["description"]
    assert {link["href"] for link in page["links"]} == {annotations["runbook_url"], annotations["dashboard_url"]}

    assert posted["/webhook"]["alerts"][0]["annotations"] == annotations
    assert "To: oncall@example.test" in letters[0]
    assert SUMMARY in letters[0].replace("=\r\n", "")
