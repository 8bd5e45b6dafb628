"""A managed PostgreSQL wants TLS: one setting that both drivers read, as docs/growing.md says.

The PostgreSQL of the tests is built without; a PgBouncer that insists on TLS stands before it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.attribution import DRIVERS, Driver, make_pool
from tests.repositories.git_server import make_certificate
from tests.services import pgbouncer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, its own authority."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str], certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database that nobody reaches but by TLS."""
    with pgbouncer(tmp_path_factory.mktemp("pgbouncer"), new_database(), certificate) as running:
        yield running


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver."""
    found: Driver = request.param
    return found


async def test_both_drivers_speak_tls_where_the_environment_says_so(
    url: str, certificate: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the URL each driver has a word of its own for it and fails on the other's. The ID goes as ever."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(certificate))
    pool = make_pool(url, driver, "transaction", shares_connections=True)
    try:
        assert await pool.run(lambda each: each.scalar(text("SHOW application_name")), "req-tls") == "req-tls"
    finally:
        await pool.dispose()


async def test_without_tls_there_is_no_way_in(url: str, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the former test says something."""
    monkeypatch.setenv("PGSSLMODE", "disable")
    pool = make_pool(url, driver, "transaction", shares_connections=True)
    try:
        with pytest.raises(Exception, match="SSL required"):
            await pool.pid()
    finally:
        await pool.dispose()


async def test_a_server_that_cannot_prove_who_it_is_gets_no_password(
    url: str, driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`verify-full`, and a certificate of another authority."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(make_certificate(tmp_path)))
    pool = make_pool(url, driver, "transaction", shares_connections=True)
    try:
        with pytest.raises(Exception, match=r"(?i)certificate.verify.failed"):
            await pool.pid()
    finally:
        await pool.dispose()
