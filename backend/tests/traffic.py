"""What makes the panels move: requests, syncs and errors of every kind that the system knows."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ops.stack import loopback
from tests.git import make_repository
from tests.monitoring_stack import MonitoredSystem
from tests.system import eventually

_TABLE = "repositories"
_ALERT = {
    "version": "4",
    "groupKey": "{}",
    "status": "firing",
    "receiver": "backend-copy",
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://127.0.0.1",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighErrorRate", "severity": "critical"},
            "annotations": {"summary": "A test."},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": "0" * 16,
        }
    ],
}


@contextmanager
def requests_all_along(url: str) -> Iterator[None]:
    """Read repositories and ask for what isn't there, until the block ends."""
    done = threading.Event()

    def ask() -> None:
        with loopback.client(30, base_url=url) as client:
            while not done.wait(0.05):
                client.get("/api/v1/repositories")
                client.get("/api/v1/repositories/999999")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def broken_table(url: str) -> Iterator[None]:
    """Take a table away: each request that needs it is answered with 500."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {_TABLE} RENAME TO {_TABLE}_away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE {_TABLE}_away RENAME TO {_TABLE}")


def make_traffic(watched: MonitoredSystem, folder: Path) -> None:
    """Let happen, twice and with a scrape in between, all that a panel may show."""
    system = watched.system
    with system.client() as client, requests_all_along(system.url):
        for number in range(2):
            system.sync(client, make_repository(folder / f"good-{number}", 3).as_uri())
            lost = make_repository(folder / f"lost-{number}")
            repository = client.post("/api/v1/repositories", json={"url": lost.as_uri()}).json()
            lost.rename(folder / f"moved-{number}")
            assert system.sync_again(client, repository["id"])["status"] == "failed"
            client.patch(f"/api/v1/repositories/{repository['id']}", json={"description": "lost"})
            client.delete(f"/api/v1/repositories/{repository['id']}")
            with broken_table(system.database_url):
                assert client.get("/api/v1/repositories").status_code == 500
            assert client.post("/api/v1/alerts/webhook", json=_ALERT).status_code == 200
            _wait_for_a_scrape(watched)
        # The first of everything is born with its value: only the second is an increase.
        _wait_for_a_scrape(watched)
        _wait_for_a_scrape(watched)


def _wait_for_a_scrape(watched: MonitoredSystem) -> None:
    """Wait until each target that tells of traffic was scraped, from now on, and well."""
    targets = 'up{service=~"api|worker|postgres"}'
    expression = f"count(timestamp({targets}) > {time.time():.3f} and {targets} == 1)"
    eventually(lambda: watched.value(expression) == 3, within_s=60, what="another scrape")
