"""A checkout of its own, whose monitoring/ a test may change, and a real Prometheus that runs with it."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ops.alerting.change import Running
from ops.stack import accounts, loopback, parts
from ops.stack.layout import Layout, checkout
from ops.stack.ports import free_port
from ops.stack.settings import Settings
from tests.system import eventually


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a stack that was never up, on a copy of the checkout's configuration."""
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    root = tmp_path / "checkout"
    shutil.copytree(checkout() / "monitoring", root / "monitoring", ignore=shutil.ignore_patterns("grafana"))
    shutil.copy(checkout() / ".env.example", root)
    layout = Layout(root, tmp_path / "data")
    layout.make()
    monkeypatch.setattr(Layout, "from_environment", lambda: layout)
    monkeypatch.setenv("PROMETHEUS_PORT", str(free_port()))
    return Settings.load(layout)


@pytest.fixture
def prometheus(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A Prometheus as `up` would start it; the commands take it for that of their stack."""
    stack = parts.Stack(settings, parts.cluster(settings), ("prometheus",), ())
    [program] = parts.build(stack)
    monkeypatch.setattr(parts, "plan", lambda _: stack)
    with (settings.layout.logs / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(program.command, cwd=program.directory, stdout=log, stderr=log)
    running = Running(
        f"http://127.0.0.1:{settings.port('PROMETHEUS_PORT')}", lambda: process.send_signal(signal.SIGHUP)
    )
    monkeypatch.setattr("ops.alerting.change.running", lambda *_: running)
    try:
        eventually(lambda: _is_ready(running.url), what="Prometheus")
        yield running
    finally:
        process.terminate()
        process.wait(timeout=20)


def _is_ready(url: str) -> bool:
    try:
        return loopback.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
