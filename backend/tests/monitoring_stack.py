"""The whole system under watch: the service, and real Prometheus, Alertmanager and exporters that scrape it.

What runs is what the native stack would start, command line by command line; only addresses, intervals and whatever a
test edits differ.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
import yaml

from ops.stack import accounts, database, deployment, loopback, monitoring, parts, secret_store
from ops.stack.cluster import Cluster
from ops.stack.errors import last_lines
from ops.stack.layout import Layout, checkout
from ops.stack.names import OWN, PORTS
from ops.stack.ports import free_port
from ops.stack.settings import Settings
from ops.stack.supervisor import Program
from tests.services import PASSWORD, PostgresServer, create_database, drop_database
from tests.system import System, eventually, running_system

# What a test may change before it is used: by file name (prometheus.yml, alertmanager.yml, a file of rules).
Edits = Mapping[str, Callable[[dict[str, Any]], None]]
Watcher = Literal["prometheus", "alertmanager", "postgres-exporter", "node-exporter"]
Series = dict[str, Any]

WATCHERS: Final[tuple[Watcher, ...]] = ("postgres-exporter", "node-exporter", "alertmanager", "prometheus")
EXPORTER_PASSWORD: Final = "the-exporters-only-for-tests"
_HEALTH: Final = {
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "postgres-exporter": "/metrics",
    "node-exporter": "/",
}
_SERVICES: Final = ("api", "worker", "beat")
_START_TIMEOUT_S: Final = 30.0


@dataclass
class MonitoredSystem:
    """A running system and those who watch it."""

    system: System
    server: PostgresServer
    directory: Path
    urls: Mapping[Watcher, str]
    programs: Mapping[Watcher, Program]
    processes: dict[Watcher, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return self.urls["prometheus"]

    @property
    def alertmanager_url(self) -> str:
        """Where Alertmanager answers."""
        return self.urls["alertmanager"]

    def log_path(self, name: str) -> Path:
        """Return the file a watcher writes its lines to."""
        return self.directory / "log" / f"{name}.log"

    def get(self, path: str, **parameters: str | float) -> Any:
        """Ask Prometheus's API and return `data` of its answer; an error of the query raises."""
        answer = loopback.get(f"{self.prometheus_url}/api/v1/{path}", params=parameters, timeout_s=30)
        body = answer.json()
        assert body["status"] == "success", f"{path} {parameters}: {body.get('error')}"
        return body["data"]

    def query(self, expression: str) -> list[Series]:
        """Return what an instant query gives: `metric` and `value` each; a scalar as one series without labels."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        result: list[Series] = data["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the value of a query that gives one series; None where it gives none."""
        result = self.query(expression)
        assert len(result) < 2, f"{expression} gives {len(result)} series"
        return float(result[0]["value"][1]) if result else None

    def query_range(self, expression: str, range_s: float, step_s: float) -> list[Series]:
        """Return what a range query up to now gives: `metric` and `values` each."""
        now = time.time()
        result: list[Series] = self.get("query_range", query=expression, start=now - range_s, end=now, step=step_s)[
            "result"
        ]
        return result

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the alerts that fire by Prometheus's word: labels by name."""
        alerts = self.get("alerts")["alerts"]
        return {each["labels"]["alertname"]: each["labels"] for each in alerts if each["state"] == "firing"}

    def start(self, name: Watcher) -> None:
        """Start one watcher; its output goes to its log."""
        program = self.programs[name]
        with self.log_path(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                program.command,
                cwd=program.directory,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=program.user,
                extra_groups=[] if program.user else None,
            )

    def stop(self, name: Watcher) -> None:
        """Stop one watcher."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_until_up(self, name: Watcher) -> None:
        """Wait until a watcher answers."""

        def answers() -> bool:
            process = self.processes[name]
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{last_lines(self.log_path(name))}")
            try:
                return loopback.get(self.urls[name] + _HEALTH[name], timeout_s=5).status_code == 200
            except httpx.TransportError:
                return False

        eventually(answers, within_s=_START_TIMEOUT_S, what=f"an answer of {name}")

    def wait_until_scraped(self) -> None:
        """Wait until every target was scraped twice: a rate needs two samples."""
        jobs = {"backend", "celery-worker", "postgres", "node", "prometheus", "alertmanager"}

        def all_up() -> bool:
            up = {each["metric"]["job"] for each in self.query("up == 1")}
            seen = {each["metric"]["job"] for each in self.query("count_over_time(up[1m]) >= 2")}
            return up & seen == jobs

        eventually(all_up, within_s=_START_TIMEOUT_S, what="a scrape of every target")


@contextmanager
def monitored_system(
    directory: Path,
    server: PostgresServer,
    redis_url: str,
    *,
    interval: str = "1s",
    edits: Edits | None = None,
    receivers: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[MonitoredSystem]:
    """Run service and watchers until the block ends; wait until every target was scraped.

    Args:
        directory: logs, data and configurations go here.
        server: a database of its own is made on it, and dropped afterwards.
        redis_url: a Redis that nobody else uses.
        interval: between two scrapes, and between two evaluations of the rules.
        edits: changes to configurations and rules, by file name.
        receivers: addresses of those who are told of alerts, by the names of their files.
        settings: further settings of the service, by the names of the environment.
    """
    url = create_database(server)
    try:
        with (
            running_system(directory / "system", url, redis_url, _SERVICES, **settings) as system,
            ExitStack() as stack,
        ):
            watched = _prepare(directory, system, server, interval, edits or {}, receivers or {})
            for name in WATCHERS:
                watched.start(name)
                stack.callback(watched.stop, name)
            for name in WATCHERS:
                watched.wait_until_up(name)
            watched.wait_until_scraped()
            yield watched
    finally:
        drop_database(server, url)


def _prepare(
    directory: Path,
    system: System,
    server: PostgresServer,
    interval: str,
    edits: Edits,
    receivers: Mapping[str, str],
) -> MonitoredSystem:
    """Write the configurations that the native stack would write, and change what a test needs otherwise."""
    settings = _settings(directory / "watchers", system, server)
    for name, address in receivers.items():
        (monitoring.receivers_folder(settings) / name).write_text(address)
    database.let_exporter_in(settings)
    account = accounts.find("nobody") if accounts.is_root() else None
    cluster = Cluster(install=Path("/nonexistent"), home=directory, port=server.port, account=account)
    stack = parts.Stack(settings, cluster, (*OWN, *WATCHERS), ())
    made = {program.name: program for program in parts.build(stack)}
    programs = {name: made[name] for name in WATCHERS}
    # The stack's database has a name of its own; the test's has another.
    source = f"127.0.0.1:{server.port}{urlsplit(system.database_url).path}?sslmode=disable"
    exporter = programs["postgres-exporter"]
    programs["postgres-exporter"] = Program(
        exporter.name, exporter.command, exporter.directory, {**exporter.environment, "DATA_SOURCE_URI": source}
    )
    _edit_prometheus(settings.layout, interval, edits)
    _edit(settings.layout.data / "alertmanager" / "alertmanager.yml", edits)
    (directory / "log").mkdir(exist_ok=True)
    urls = {name: f"http://127.0.0.1:{settings.port(PORTS[name])}" for name in WATCHERS}
    return MonitoredSystem(system, server, directory, urls, programs)


def _settings(data: Path, system: System, server: PostgresServer) -> Settings:
    layout = Layout(checkout(), data)
    layout.make()
    values = secret_store.parse((layout.root / ".env.example").read_text())
    values |= {
        "API_PORT": str(urlsplit(system.url).port),
        "WORKER_METRICS_PORT": str(urlsplit(system.worker_metrics_url).port),
        "POSTGRES_PORT": str(server.port),
        "POSTGRES_PASSWORD": PASSWORD,
        "DB_PASSWORD": PASSWORD,
        "REDIS_PASSWORD": PASSWORD,
        "EXPORTER_PASSWORD": EXPORTER_PASSWORD,
    }
    for part in WATCHERS:
        values[PORTS[part]] = str(free_port())
    return Settings(layout, values, (), deployment.load(layout))


def _edit_prometheus(layout: Layout, interval: str, edits: Edits) -> None:
    """Set the intervals, and load edited copies of the rules."""
    file = layout.data / "prometheus" / "prometheus.yml"
    config = yaml.safe_load(file.read_text())
    config["global"] |= {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    rules = [_copy_of(Path(source), file.parent, edits) for source in config["rule_files"]]
    config["rule_files"] = [str(path) for path in rules]
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    _edit(file, edits)


def _copy_of(source: Path, folder: Path, edits: Edits) -> Path:
    copy = folder / source.name
    content = yaml.safe_load(source.read_text())
    for group in content["groups"]:
        group.pop("interval", None)
    copy.write_text(yaml.safe_dump(content, sort_keys=False))
    _edit(copy, edits)
    return copy


def _edit(path: Path, edits: Edits) -> None:
    if path.name in edits:
        content = yaml.safe_load(path.read_text())
        edits[path.name](content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
