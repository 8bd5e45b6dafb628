"""What a release is refused for before it begins: a system on which all is well, and one thing broken at a time.

The compose target as it is, over an engine that only listens and a database that answers as told; promtool, amtool,
squawk, Git and Prometheus are real.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pytest
import yaml
from rich.console import Console

from ops.alerting import stages
from ops.release import monitoring_files
from ops.release.compose import ComposeTarget
from ops.release.findings import Finding
from ops.release.preflight import preflight
from ops.stack import programs as installed
from ops.stack import receivers
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from tests.backfill import prometheus_with
from tests.git import git
from tests.ops.release.engine import Programs

COMMIT: Final = "aaaaaaaaaaaa"
OLD: Final = "d4dff12b63d6"
NEW: Final = "d3e92d35ba2f"
MOUNTED_SECRETS: Final = sorted(yaml.safe_load((checkout() / "docker-compose.prod.yml").read_text())["secrets"])


class Database:
    """Answers by a word of the question."""

    def __init__(self) -> None:
        self.revision = NEW
        self.size_bytes = 10_000_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, asked: str) -> Self:
        """Take a question."""
        answers = {
            "pg_database_size": self.size_bytes,
            "clock_timestamp": time.time(),
            "alembic_version": self.revision,
        }
        [self._answer] = [answer for word, answer in answers.items() if word in asked]
        return self

    def fetchall(self) -> list[tuple[Any]]:
        """Return its one row."""
        return [(self._answer,)]


@pytest.fixture(scope="module")
def prometheus_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with prometheus_with({}, tmp_path_factory.mktemp("prometheus")) as url:
        port = urlsplit(url).port
        assert port
        yield port


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(ComposeTarget, "connect", lambda *_: database)
    return database


def _disk(programs: Programs, free_bytes: int) -> None:
    programs.answer(
        "df", out=f"Filesystem 1024-blocks Used Available Capacity Mounted\n/d 1 1 {free_bytes // 1024} 1% /v\n"
    )


@pytest.fixture
def monitoring(root: Path) -> Path:
    """The checkout's `monitoring`, as it is shipped; and Alertmanager's file, as `alerts config` makes it."""
    unread = shutil.ignore_patterns("grafana", "tests")
    shutil.copytree(checkout() / "monitoring", root / "monitoring", ignore=unread, dirs_exist_ok=True)
    git(root, "add", "monitoring")
    git(root, "commit", "--quiet", "--message=monitoring")
    folder = root / "secrets" / "alertmanager" / "receivers"
    folder.mkdir(parents=True)
    (folder / "webhook_url").write_text("https://example.org/hook")
    template = yaml.safe_load((root / "monitoring" / "alertmanager.yml").read_text())
    made = receivers.fill_in(template, folder, seen_as=receivers.MOUNTED, url_files=True)
    assert "url_file" in str(made)
    (folder.parent / "alertmanager.yml").write_text(yaml.safe_dump(made))
    return root / "monitoring"


@pytest.fixture
def target(
    monitoring: Path,  # noqa: ARG001 (as the next but one: what the target is made on)
    programs: Programs,
    database: Database,  # noqa: ARG001
    prometheus_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> ComposeTarget:
    """A system on which all is well."""
    monkeypatch.setattr(ComposeTarget, "_answers", lambda *_: {"backend": "", "redis": ""})
    monkeypatch.setenv("PROMETHEUS_PORT", str(prometheus_port))
    programs.answer("history", out=f"{OLD} -> {NEW} (head), x\n<base> -> {OLD}, y\n")
    _disk(programs, 10**15)
    return ComposeTarget(Console(quiet=True))


def found(target: ComposeTarget) -> dict[str, Finding]:
    return {each.check: each for each in preflight(target, COMMIT)}


Ask = Callable[[ComposeTarget], Iterator[Finding]]


def whole(target: ComposeTarget) -> Iterator[Finding]:
    return preflight(target, COMMIT)


def one(target: ComposeTarget, check: str, ask: Ask = whole) -> Finding:
    """Return the finding of one check; what comes after it is not asked."""
    return next(each for each in ask(target) if each.check == check)


def refused(target: ComposeTarget, check: str, said: str, ask: Ask = whole) -> Finding:
    """Return a finding that fails, says this and gives a way out."""
    finding = one(target, check, ask)
    assert finding.verdict == "failed", finding
    assert re.search(said, finding.value), finding.value
    assert finding.advice
    return finding


def test_all_is_well_where_nothing_is_broken(target: ComposeTarget) -> None:
    """Else the refusals below might be of something else."""
    said = found(target)
    assert {name: each.value for name, each in said.items() if each.verdict != "ok"} == {}
    assert {"rules, alerts.yml", "rules, recording.yml", "time to detect, HighErrorRate"} <= said.keys()


# --- secrets


def _put(file: Path, secret: str) -> None:
    """Put a secret where its file has it."""
    held = file.read_text().strip()
    if "://" in held:
        text = held.replace(str(urlsplit(held).password), secret)
    else:
        text = f"requirepass {secret}" if file.name == "redis_auth" else secret
    file.unlink()
    file.write_text(text + "\n")


@pytest.mark.parametrize(
    ("secret", "said"), [("admin", "well known"), ("kX9!b", "too short"), ("a" * 40, "easy to guess")]
)
def test_each_secret_that_is_mounted_is_looked_at(target: ComposeTarget, secret: str, said: str) -> None:
    """Grafana is published: with `admin` for a password, whoever finds it reads all."""
    for name in MOUNTED_SECRETS:
        file = target.checkout / "secrets" / name
        held = file.read_text()
        _put(file, secret)
        assert re.fullmatch(f"{name}(, key 1)? is {said}", refused(target, "secrets", said).value)
        file.write_text(held)
    assert len(MOUNTED_SECRETS) >= 10


def test_each_secret_that_is_mounted_must_be_there(target: ComposeTarget) -> None:
    """Compose starts no service whose file is missing: better known before the backup than after it."""
    for name in MOUNTED_SECRETS:
        (target.checkout / "secrets" / name).unlink()
    told = refused(target, "secrets", "missing").value.split("; ")
    assert sorted(told) == [f"{name} is missing" for name in MOUNTED_SECRETS]


def test_every_former_key_counts(target: ComposeTarget) -> None:
    """What any of them encrypted is believed; none at all is as it should be."""
    file = target.checkout / "secrets" / "secret_key_fallbacks"
    assert file.read_text().strip() == ""
    _put(file, f"{os.urandom(32).hex()}, changeme1")
    assert refused(target, "secrets", "key 2 is well known").value == "secret_key_fallbacks, key 2 is well known"


@pytest.mark.parametrize(
    ("line", "problem"), [("# admin\nREQUIREPASS 'postgres'", "well known"), ("masterauth x", "missing")]
)
def test_redis_own_side_of_its_password_is_read_as_redis_does(target: ComposeTarget, line: str, problem: str) -> None:
    file = target.checkout / "secrets" / "redis_auth"
    file.unlink()
    file.write_text(line + "\n")
    refused(target, "secrets", f"^redis_auth is {problem}$")


def test_a_secret_that_is_no_text_is_told_and_hides_nothing_else(target: ComposeTarget) -> None:
    """`openssl rand 32 > api_token` is no password: it can't be sent in a header."""
    file = target.checkout / "secrets" / "api_token"
    file.unlink()
    file.write_bytes(b"\xff" * 32)
    said = found(target)
    assert re.search(r"api_token is no text", said["preflight"].value)
    assert said["preflight"].verdict == "failed"
    assert "tools" in said
    assert "time to detect, HighErrorRate" in said


# --- what is installed and what answers


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave one program out of all that this host has, and the stand-ins for its engine."""

    def leave_out(missing: str) -> None:
        folder = tmp_path / "path"
        folder.mkdir()
        for name in {"git", "promtool", "amtool", "engine", "composer"} - {missing}:
            program = shutil.which(name)
            assert program
            (folder / name).symlink_to(program)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(installed, "_FURTHER_FOLDERS", ())

    return leave_out


@pytest.mark.parametrize(
    ("missing", "untold"),
    [
        ("git", set()),
        ("promtool", {"Prometheus's configuration", "rules, alerts.yml", "rules, recording.yml"}),
        ("amtool", {"Alertmanager's configuration"}),
    ],
)
def test_a_missing_tool_is_named(
    target: ComposeTarget, without: Callable[[str], None], missing: str, untold: set[str]
) -> None:
    """And what it would have checked is not called well."""
    without(missing)
    said = found(target)
    assert said["tools"].verdict == "failed"
    assert said["tools"].value == f"missing: {missing}"
    assert {name for name, each in said.items() if each.verdict == "inconclusive"} == untold


def test_a_missing_linter_is_named(
    target: ComposeTarget, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that nobody looked at is not well."""
    monkeypatch.setattr("ops.release.preflight.python", lambda: tmp_path / "python")
    database.revision = OLD
    said = found(target)
    assert (said["tools"].verdict, said["tools"].value) == ("failed", "missing: squawk")
    assert said["migrations"].verdict == "inconclusive"
    assert "rules, alerts.yml" in said


def test_a_part_that_does_not_answer_is_named(target: ComposeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release begins on a system that is well; else it is blamed for what was there before."""
    monkeypatch.setattr(
        ComposeTarget, "_answers", lambda *_: {"backend": "", "redis": "does not run", "loki": "is ill"}
    )
    assert refused(target, "reachability", "redis").value == "redis: does not run; loki: is ill"


@pytest.mark.parametrize(
    ("error", "value", "advice"),
    [
        (StackError("PostgreSQL can't be reached", "make up"), "PostgreSQL can't be reached", "make up"),
        (
            PermissionError(13, "Permission denied", "/x"),
            "A check failed: Permission denied (/x).",
            "Remove the cause, and run the same again: it goes on.",
        ),
    ],
)
def test_a_check_that_gets_no_answer_fails_and_the_others_are_asked(
    target: ComposeTarget, monkeypatch: pytest.MonkeyPatch, error: Exception, value: str, advice: str
) -> None:
    """A release needs all of them; a person wants to know all that is wrong at once."""

    def silent(*_: object) -> None:
        raise error

    monkeypatch.setattr(ComposeTarget, "connect", silent)
    said = found(target)
    assert said["preflight"] == Finding("preflight", "failed", value, "an answer", advice)
    assert {"secrets", "rules, alerts.yml", "time to detect, HighErrorRate"} <= said.keys()


# --- room and backup


def test_a_disk_without_room_for_the_backup_is_told(target: ComposeTarget, database: Database) -> None:
    """A backup that fills the disk stops PostgreSQL, or ends in the middle."""
    database.size_bytes = shutil.disk_usage(target.checkout).free
    refused(target, "disk", r"^[\d.]+ GB free$")
    # The limit itself is enough.
    assert one(target, "disk of PostgreSQL").verdict == "ok"


@pytest.mark.parametrize(
    ("size_bytes", "free_bytes", "verdict"),
    [
        (2 * 1024**3, 6 * 1024**3, "ok"),
        (2 * 1024**3, 6 * 1024**3 - 1024, "failed"),
        # However small a database is, what grows meanwhile wants a gigabyte.
        (1, 1024**3, "ok"),
        (1, 1024**3 - 1024, "failed"),
    ],
)
def test_a_disk_without_room_for_the_restored_copy_is_told(
    target: ComposeTarget, database: Database, programs: Programs, size_bytes: int, free_bytes: int, verdict: str
) -> None:
    """It is PostgreSQL's own: full, it takes the service down."""
    database.size_bytes = size_bytes
    _disk(programs, free_bytes)
    finding = one(target, "disk of PostgreSQL")
    assert (finding.verdict, bool(finding.advice)) == (verdict, verdict == "failed")


def test_a_database_that_cannot_be_dumped_is_told(target: ComposeTarget, programs: Programs) -> None:
    """It must be known before anything is stopped."""
    programs.answer("pg_dump", err="permission denied for table jobs", rc=1)
    refused(target, "a backup is possible", "permission denied for table jobs")


def test_a_folder_that_takes_no_backup_is_told(target: ComposeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **given: mode != os.W_OK and real(path, mode, **given))
    refused(target, "a backup is possible", f"{target.checkout} can't be written to")


# --- migrations


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE INDEX jobs_by_state ON jobs (state);", "require-concurrent-index-creation"),
        ("ALTER TABLE jobs ALTER COLUMN id TYPE bigint;", "changing-column-type"),
        ("ALTER TABLE jobs ADD COLUMN note text NOT NULL;", "adding-required-field"),
        ("ALTER TABEL jobs;", "syntax-error"),
    ],
)
def test_a_migration_that_stops_everybody_is_refused(
    target: ComposeTarget, database: Database, programs: Programs, sql: str, said: str
) -> None:
    """An index that is built under a lock keeps every request waiting for as long."""
    database.revision = OLD
    programs.answer("upgrade", out=sql)
    refused(target, "migrations", said)


def test_a_harmless_migration_passes(target: ComposeTarget, database: Database, programs: Programs) -> None:
    database.revision = OLD
    programs.answer("upgrade", out="ALTER TABLE jobs ADD COLUMN note text;")
    assert one(target, "migrations").verdict == "ok"


def test_a_newer_schema_than_the_version_knows_is_refused(target: ComposeTarget, database: Database) -> None:
    """Older code on a newer schema fails request by request."""
    database.revision = "ffffffffffff"
    refused(target, "migrations", "ffffffffffff, which aaaaaaaaaaaa does not know")


# --- what Prometheus and Alertmanager would run with


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("alerts.yml", "groups: [{name: g, rules: [{record: a, expr: 'sum('}]}]\n", "parse error"),
        ("recording.yml", "groups: [{name: g, rules: [{record: a, expr: 'sum('}]}]\n", "parse error"),
        ("own/more.yml", "groups: [{name: g, rulez: []}]\n", "rulez not found"),
        ("alerts.yml", "groups: [\n", "yaml"),
    ],
)
def test_a_broken_file_of_rules_is_refused_whichever_it_is(
    target: ComposeTarget, monitoring: Path, name: str, content: str, said: str
) -> None:
    """Prometheus that restarts with one does not start at all, and then no alert is told."""
    (monitoring / name).parent.mkdir(exist_ok=True)
    file = monitoring / "prometheus.yml"
    config = yaml.safe_load(file.read_text())
    named = dict.fromkeys([*config["rule_files"], f"/etc/prometheus/{name}"])
    file.write_text(yaml.safe_dump(config | {"rule_files": list(named)}))
    (monitoring / name).write_text(content)
    said_of = {each.check: each for each in monitoring_files.check(target)}
    broken = said_of[f"rules, {Path(name).name}"]
    assert broken.verdict == "failed"
    assert re.search(said, broken.value), broken.value
    assert broken.advice.endswith(str(monitoring / name))
    others = {each for each in ("rules, alerts.yml", "rules, recording.yml") if each != broken.check}
    assert {said_of[each].verdict for each in others} == {"ok"}


def test_a_file_of_rules_that_is_not_there_is_refused(target: ComposeTarget, monitoring: Path) -> None:
    """Prometheus says nothing of it, and its rules are just not there."""
    (monitoring / "recording.yml").unlink()
    refused(target, "rules, recording.yml", "does not exist", monitoring_files.check)
    file = monitoring / "prometheus.yml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"rule_files": []}))
    refused(target, "rules", "loads none", monitoring_files.check)
    refused(target, "time to detect", "no alert is critical")


def test_files_of_rules_may_be_named_by_a_pattern(monitoring: Path) -> None:
    file = monitoring / "prometheus.yml"
    file.write_text("rule_files: ['/etc/prometheus/[ar]*s.yml', recording.yml, none*.yml]\n")
    assert [each.name for each in monitoring_files.rule_files(monitoring)] == [
        "alerts.yml",
        "recording.yml",
        "none*.yml",
    ]


def test_a_broken_configuration_of_prometheus_is_refused(target: ComposeTarget, monitoring: Path) -> None:
    file = monitoring / "prometheus.yml"
    file.write_text(file.read_text().replace("scrape_interval: 15s", "scrape_interval: often"))
    refused(target, "Prometheus's configuration", "often", monitoring_files.check)
    file.write_text("global: [\n")
    assert found(target)["preflight"].verdict == "failed"


MANAGER: Final = Path("secrets", "alertmanager", "alertmanager.yml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("route: {receiver: nobody}\nreceivers: [{name: somebody}]\n", "undefined receiver"),
        (
            "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url_file: /x, urll: y}]}]\n",
            "urll not found",
        ),
        ("route: [\n", "yaml"),
        ("", "no route"),
    ],
)
def test_the_file_that_alertmanager_has_mounted_is_looked_at(target: ComposeTarget, content: str, said: str) -> None:
    """The template beside it is valid, and is not what runs."""
    file = target.checkout / MANAGER
    file.write_text(content)
    finding = refused(target, "Alertmanager's configuration", said, monitoring_files.check)
    assert f"'{file}'" in finding.value
    assert finding.advice == f"amtool check-config {file}"


def test_without_alertmanagers_file_the_way_to_it_is_told(target: ComposeTarget) -> None:
    """Its container does not start without, and nobody is told of anything."""
    file = target.checkout / MANAGER
    file.unlink()
    finding = refused(target, "Alertmanager's configuration", f"{file} is not there", monitoring_files.check)
    assert f"commandcenter alerts config {file.parent / 'receivers'} > {file}" in finding.advice
    assert "docs/production.md" in finding.advice
    # Times are told by what it will be made of.
    assert one(target, "time to detect, HighErrorRate").verdict == "ok"


def test_another_folder_of_secrets_has_its_own_file(
    target: ComposeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(target.checkout / "secrets", tmp_path / "elsewhere")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "elsewhere"))
    moved = ComposeTarget(Console(quiet=True))
    assert moved.alertmanager_file == tmp_path / "elsewhere" / "alertmanager" / "alertmanager.yml"
    assert one(moved, "Alertmanager's configuration", monitoring_files.check).verdict == "ok"


# --- times to detect


def _promote(monitoring: Path, *names: str) -> None:
    file = monitoring / "prometheus.yml"
    file.write_text(stages.changed(file.read_text(), names, "live", list(stages.severities(monitoring / "alerts.yml"))))


def test_a_critical_that_takes_too_long_is_refused(target: ComposeTarget, monitoring: Path) -> None:
    """Live without its live twin, it tells of a total failure after six minutes; with it, after three."""
    _promote(monitoring, "HighErrorRate")
    refused(target, "time to detect, HighErrorRate", "^355 s for a total failure; 640 s at worst$")
    _promote(monitoring, "HighErrorRateFast")
    finding = one(target, "time to detect, HighErrorRate")
    assert finding.verdict == "ok"
    assert finding.value == (
        "355 s for a total failure; HighErrorRateFast goes before it; in time where over 50% fail; 640 s at worst"
    )


def test_who_is_muted_is_asked_of_the_mounted_file(target: ComposeTarget) -> None:
    """The one that was made of an older template may mute nobody, or wait for longer."""
    file = target.checkout / MANAGER
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(config | {"inhibit_rules": []}))
    refused(target, "time to detect, HighErrorRate", "^355 s")
    file.write_text(yaml.safe_dump(config | {"route": config["route"] | {"group_wait": "5m"}}))
    refused(target, "time to detect, PostgresDown", "^390 s")
