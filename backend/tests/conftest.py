"""Services that tests share: each starts when a test first asks for it, once a session."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.workermanage import WorkerController

import tests.fuzzing  # noqa: F401 - `make fuzz` asks for its profile
from ops.stack import layout
from tests import warm_python
from tests.monitoring_stack import MonitoredSystem, monitored_system
from tests.services import PostgresServer, create_database, drop_database, postgres_server, redis_server
from tests.side_by_side import FileScheduling, begin_with_the_long_ones
from tests.system import System, running_system
from tests.traffic import make_traffic

_SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def summary(pytestconfig: pytest.Config) -> list[str]:
    """Lines that stand at the end of a run: what was proven, in figures."""
    return pytestconfig.stash.setdefault(_SUMMARY, [])


def pytest_configure() -> None:
    """Look for no garbage while tests are collected: nearly all stays, and looking took a third of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Look for it again, among what comes from now on."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order tests that run in several processes."""
    if hasattr(config, "workerinput"):
        begin_with_the_long_ones(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Spread them by file."""
    return FileScheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the summary over, from a process that prints none."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = session.config.stash.get(_SUMMARY, [])


def pytest_testnodedown(node: WorkerController) -> None:
    """Take it in."""
    node.config.stash.setdefault(_SUMMARY, []).extend(getattr(node, "workeroutput", {}).get("summary", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print those lines."""
    lines = config.stash.get(_SUMMARY, [])
    if lines:
        terminalreporter.section("proven")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep layouts that tests make in this process out of the system's folders, and end what no test ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_SYSTEM_FOLDER", tmp_path_factory.mktemp("system"))
        yield
    warm_python.end()


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_admin_url(_postgres: PostgresServer) -> str:
    """URL of the superuser, on the database `postgres`."""
    return _postgres.url


@pytest.fixture(scope="session")
def postgres_log(_postgres: PostgresServer) -> Path:
    """The server's log: every statement with its duration, prefixed as docs/log-schema.md says."""
    return _postgres.log


@pytest.fixture(scope="session")
def new_database(_postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """A function that makes a fresh, empty database and returns its owner's URL (`postgresql://…`, no driver)."""
    urls: list[str] = []

    def make() -> str:
        urls.append(create_database(_postgres))
        return urls[-1]

    yield make
    for url in urls:
        drop_database(_postgres, url)


@pytest.fixture
def database_url(_postgres: PostgresServer) -> Iterator[str]:
    """URL of a fresh, empty database of this test alone, as its owner (`postgresql://…`, no driver)."""
    url = create_database(_postgres)
    yield url
    drop_database(_postgres, url)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that is empty at the session's start."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def system(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], redis_url: str
) -> Iterator[System]:
    """API (two processes), worker and beat; shared by all tests that don't stop or reconfigure them."""
    directory = tmp_path_factory.mktemp("system")
    with running_system(directory, new_database(), redis_url, API_WORKERS="2") as running:
        yield running


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory, _postgres: PostgresServer) -> Iterator[MonitoredSystem]:
    """A system of its own under real Prometheus, Alertmanager and exporters; for tests that break nothing."""
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as redis,
        monitored_system(tmp_path_factory.mktemp("watched"), _postgres, redis, API_WORKERS="2") as running,
    ):
        yield running


@pytest.fixture(scope="session")
def lived(watched: MonitoredSystem, tmp_path_factory: pytest.TempPathFactory) -> MonitoredSystem:
    """The same after requests, syncs and errors of every kind: each series that can be there is there."""
    make_traffic(watched, tmp_path_factory.mktemp("repositories"))
    return watched
