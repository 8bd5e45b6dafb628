"""`.env.example` is the one list of settings: nothing more in it, nothing less, and each with a line."""

import itertools
import os
import re
from pathlib import Path

import pytest

from app.config import Settings
from tests.grafana import BACKEND

EXAMPLE = BACKEND.parent / ".env.example"
# Read by the metrics library, by other parts of the stack, or by the console.
READ_BY_THE_STACK = {
    "PROMETHEUS_MULTIPROC_DIR",
    "POSTGRES_PORT",
    "REDIS_PORT",
    "POSTGRES_EXPORTER_PORT",
    "NODE_EXPORTER_PORT",
    "PROMETHEUS_PORT",
    "ALERTMANAGER_PORT",
    "GRAFANA_PORT",
    "LOKI_PORT",
    "CONSOLE_PORT",
    "POSTGRES_LOG_MIN_DURATION_MS",
    # test_compose.py holds these against the file that reads them.
    "COMMANDCENTER_VERSION",
    "COMMANDCENTER_COMMIT",
    "SECRETS_DIR",
    "PUBLISH_HOST",
    "GRAFANA_URL",
    "POSTGRES_MAX_CONNECTIONS",
    "REDIS_MAXMEMORY",
    "PROMETHEUS_MAX_SIZE",
    "DOCKER_SOCKET",
    "DOCKER_GID",
}


def settings_in(path: Path) -> dict[str, str]:
    """Return the settings of an environment file by name."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_every_setting_is_in_the_example_and_no_other() -> None:
    """A setting that isn't listed is never found; one that is listed and not read is a lie."""
    listed = [line.partition("=")[0] for line in EXAMPLE.read_text().splitlines() if re.match(r"[A-Z]", line)]
    assert len(listed) == len(set(listed))
    read = {name.upper() for name in Settings.model_fields}
    assert set(listed) - READ_BY_THE_STACK == read
    assert set(listed) >= READ_BY_THE_STACK


def test_every_setting_has_a_line_that_says_what_it_is() -> None:
    """A name alone does not say in which unit, nor what else may stand there. Ports share one."""
    lines = EXAMPLE.read_text().splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"[A-Z]", line) and not before.startswith("# ") and "_PORT=" not in line
    ]
    # The second of a pair that one line explains.
    assert bare == ["WORKER_CONCURRENCY=2", "DB_POOL_OVERFLOW=5", "GIT_MAX_SIZE_MB=2048", "DOCKER_GID=999"]


def test_the_example_holds_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies it changes nothing by that."""
    for name in os.environ.keys() & {field.upper() for field in Settings.model_fields}:
        monkeypatch.delenv(name)
    needed = {"DATABASE_URL": "postgresql://u:p@h/db", "REDIS_URL": "redis://h", "SECRET_KEY": "a test's key"}
    for name, value in needed.items():
        monkeypatch.setenv(name, value)
    without = Settings()  # type: ignore[call-arg]
    for name, value in settings_in(EXAMPLE).items():
        if name not in needed:
            monkeypatch.setenv(name, value)
    assert Settings() == without  # type: ignore[call-arg]


def test_the_example_holds_no_secret() -> None:
    """A default secret is a well-known one."""
    values = settings_in(EXAMPLE)
    secret = re.compile(r"(PASSWORD|TOKEN|SECRET_KEY|SECRET_KEY_FALLBACKS|_URL)$")
    assert {name: value for name, value in values.items() if secret.search(name) and value} == {
        "GITHUB_API_URL": "https://api.github.com",
        "GRAFANA_URL": "http://localhost:3000/",
    }
