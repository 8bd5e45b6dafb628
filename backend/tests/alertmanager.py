"""A real Alertmanager by itself, with the configuration that the stack would give it."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import yaml

from ops.stack import loopback, parts
from ops.stack.ports import free_port
from ops.stack.settings import Settings
from tests.system import eventually


@contextmanager
def running_alertmanager(settings: Settings, edit: Callable[[dict[str, Any]], None] | None = None) -> Iterator[str]:
    """Run it until the block ends and yield its URL; its log is `alertmanager.log` among the stack's.

    Args:
        settings: of a stack that is not up; the receivers' files lie in its folder.
        edit: changes the configuration.
    """
    settings = Settings(
        **{**vars(settings), "values": {**settings.values, "ALERTMANAGER_PORT": str(free_port())}},
    )
    stack = parts.Stack(settings, parts.cluster(settings), ("alertmanager",), ())
    [program] = parts.build(stack)
    if edit:
        file = settings.layout.data / "alertmanager" / "alertmanager.yml"
        config = yaml.safe_load(file.read_text())
        edit(config)
        file.write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{settings.port('ALERTMANAGER_PORT')}"
    with (settings.layout.logs / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(program.command, cwd=program.directory, stdout=log, stderr=log)
        try:
            eventually(lambda: _is_ready(url), what="Alertmanager")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def send_alerts(url: str, alerts: Sequence[dict[str, Any]]) -> None:
    """Send alerts that fire from now on, as Prometheus does."""
    starts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    answer = httpx.post(f"{url}/api/v2/alerts", json=[{"startsAt": starts, **alert} for alert in alerts])
    answer.raise_for_status()


def _is_ready(url: str) -> bool:
    try:
        return loopback.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
