"""What is asked of PostgreSQL: the same series from old exporters and new, none twice, none for each request."""

import re
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml

from ops.stack import accounts, loopback, parts
from ops.stack.layout import Layout, checkout
from ops.stack.settings import Settings
from ops.stack.supervisor import Program
from tests.monitoring_stack import MonitoredSystem

# As far as it matters, what the help says: Debian's 0.11, then 0.15 and 0.18.
OLD = "--collector.database\n--collector.bgwriter\n--extend.query-path=\n"
NEW = OLD.replace("--coll", "--[no-]coll").replace(".bgwriter", ".stat_bgwriter") + "--[no-]collector.stat_statements\n"
NEWEST = NEW + "--[no-]collector.stat_statements.include_query\n"


def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> Program:
    """Return what the stack would start where the exporter's help says that."""
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "prometheus-postgres-exporter"
    fake.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}END\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    layout = Layout(checkout(), tmp_path / "data")
    layout.make()
    settings = Settings.load(layout, {})
    [program] = parts.build(parts.Stack(settings, parts.cluster(settings), ("postgres-exporter",), ()))
    return program


def _queries(program: Program) -> set[str]:
    [path] = [argument.partition("=")[2] for argument in program.command if "query-path" in argument]
    return set(yaml.safe_load(Path(path).read_text()))


@pytest.mark.parametrize(
    ("says", "flags", "queries"),
    [
        (OLD, set(), {"pg_stat_activity", "pg_stat_statements", "pg_stat_statements_query", "pg_stat_user_tables"}),
        (NEW, {"--collector.stat_statements"}, {"pg_stat_activity"}),
        (
            NEWEST,
            {"--collector.stat_statements", "--collector.stat_statements.include_query"},
            {"pg_stat_activity"},
        ),
    ],
    ids=["0.11", "0.15", "0.18"],
)
def test_each_version_is_asked_for_each_series_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, flags: set[str], queries: set[str]
) -> None:
    """A series that comes from a query and from a collector fails the whole scrape."""
    program = _program(tmp_path, monkeypatch, says)
    assert {each for each in program.command if each.startswith("--collector.")} == flags
    assert _queries(program) == queries


def _scrape(watched: MonitoredSystem) -> list[str]:
    answer = loopback.get(f"{watched.urls['postgres-exporter']}/metrics", timeout_s=10)
    assert answer.status_code == 200
    return [line for line in answer.text.splitlines() if line and not line.startswith("#")]


def test_requests_make_no_series(watched: MonitoredSystem) -> None:
    """Each transaction bears its request's ID as application_name; as a label that were a series a request."""
    with psycopg.connect(watched.system.database_url, application_name="id-of-a-request") as connection:
        connection.execute("SELECT 1")
        lines = _scrape(watched)
    assert not [line for line in lines if 'application_name="' in line or "id-of-a-request" in line]
    labels = {name for line in lines if line.startswith("pg_stat_activity_") for name in re.findall(r'(\w+)="', line)}
    assert labels == {"datname", "state", "server"}


def test_an_exporters_own_series_for_each_request_are_dropped() -> None:
    """Should it not take our query in place of its own, one alert tells; else Prometheus would fill up."""
    config = yaml.safe_load((checkout() / "monitoring" / "prometheus.yml").read_text())
    [job] = [each for each in config["scrape_configs"] if each["job_name"] == "postgres"]
    [rule] = job["metric_relabel_configs"]
    assert (rule["action"], rule["source_labels"]) == ("drop", ["__name__", "application_name", "backend_type"])
    dropped = re.compile(rule["regex"])
    assert dropped.fullmatch("pg_stat_activity_count;id-of-a-request;client backend")
    assert dropped.fullmatch("pg_stat_activity_max_tx_duration;;client backend")
    assert not dropped.fullmatch("pg_stat_activity_count;;")
    assert not dropped.fullmatch("pg_stat_replication_pg_wal_lsn_diff;standby;")


def test_no_query_of_ours_fails(watched: MonitoredSystem) -> None:
    """The old exporter leaves out what fails, and answers 200."""
    lines = _scrape(watched)
    assert "pg_exporter_last_scrape_error 0" in lines
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)


def test_connections_are_those_that_the_limit_counts(watched: MonitoredSystem) -> None:
    """In each state, and no background process among them."""
    name = watched.system.database_url.rpartition("/")[2]

    def count(state: str) -> int:
        [line] = [
            line
            for line in _scrape(watched)
            if line.startswith("pg_stat_activity_count{") and f'datname="{name}"' in line and f'state="{state}"' in line
        ]
        return int(float(line.rpartition(" ")[2]))

    before = count("idle in transaction")
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(psycopg.connect(watched.system.database_url))
            connection.execute("SELECT 1")
        assert count("idle in transaction") >= before + 3
        assert count("idle in transaction (aborted)") == 0
