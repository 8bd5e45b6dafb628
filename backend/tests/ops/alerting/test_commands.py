"""`commandcenter alerts` on a real Prometheus: shown, done, taken over, and put back when it fails."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.alerting import change, stages
from ops.alerting.change import JOURNAL, Running
from ops.cli import cli
from ops.release import reloading
from ops.release.journal import Journal
from ops.stack import lock, monitoring
from ops.stack.settings import Settings


def run(*arguments: str) -> tuple[int, str]:
    """Run `commandcenter alerts` and return its exit code and all it said."""
    result = CliRunner().invoke(cli, ["alerts", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def asked(*arguments: str) -> Any:
    """Return what it says for scripts."""
    code, output = run(*arguments, "--json")
    assert code == 0, output
    return json.loads(output)


def staged(settings: Settings) -> dict[str, str]:
    """Return the stages in the file."""
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    return stages.of_text(change.source(settings).read_text(), alerts)


def of_severity(settings: Settings, severity: str) -> list[str]:
    """Return the alerts of a severity."""
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    return [name for name, its in alerts.items() if its == severity]


def journal(settings: Settings) -> list[tuple[str, Any]]:
    """Return what was written down, by kind."""
    entries = Journal(settings.layout.data / "journals" / JOURNAL, JOURNAL).entries
    return [(entry.kind, entry.evidence) for entry in entries]


def test_a_promotion_reaches_the_running_prometheus(settings: Settings, prometheus: Running) -> None:
    """Without a restart; and who did it, and why, is written down."""
    told = asked("enable", "warning", "--yes", "--reason", "48 quiet hours")
    warnings = of_severity(settings, "warning")
    assert (told["alerts"], told["changed"], told["reloaded"]) == (warnings, True, True)
    running = prometheus.stages(list(staged(settings)))
    assert {name for name, stage in running.items() if stage == "live"} == {*warnings, "Watchdog"}
    assert [kind for kind, _ in journal(settings)] == ["intent", "done"]
    assert journal(settings)[1][1]["why"] == "48 quiet hours"
    listed = asked("list")
    assert listed["applied"] is True
    assert {each["stage"] for each in listed["alerts"] if each["severity"] == "warning"} == {"live"}
    assert {each["state"] for each in listed["alerts"]} <= {"inactive", "pending", "firing"}


def test_yes_wants_a_reason(settings: Settings) -> None:
    """Which is what the journal is for."""
    before = change.source(settings).read_text()
    assert run("enable", "warning", "--yes")[0] == 2
    assert run("disable", "DiskSpaceLow", "--yes", "--reason", " ")[0] == 2
    assert change.source(settings).read_text() == before


def test_a_change_that_was_cut_off_is_finished(settings: Settings, prometheus: Running) -> None:
    """Killed between file and reload: the file says live, and nobody would be called."""
    text = change.source(settings).read_text()
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    warnings = of_severity(settings, "warning")
    change.source(settings).write_text(stages.changed(text, warnings, "live", alerts))
    assert prometheus.stages(["DiskSpaceLow"]) == {"DiskSpaceLow": "shadow"}
    code, output = run("enable", "warning", "--yes", "--reason", "again")
    assert (code, "has taken over" in output) == (0, True)
    assert prometheus.stages(["DiskSpaceLow"]) == {"DiskSpaceLow": "live"}
    assert "Nothing to do" in run("enable", "warning", "--yes", "--reason", "again")[1]


def test_a_route_that_leads_elsewhere_is_found(settings: Settings) -> None:
    """Valid, and critical alerts by mail at night: only a try of the route shows it."""
    routes = settings.layout.root / "monitoring" / "alertmanager.yml"
    text = routes.read_text()
    routes.write_text(text.replace('matchers: [severity="critical"]', 'matchers: [severity="critcal"]'))
    arguments = ("enable", "critical", "PostgresDown", "--force", "--reason", "a test", "--yes")
    code, output = run(*arguments)
    assert (code, "would reach backend-copy, warning instead of" in " ".join(output.split())) == (1, True)
    assert staged(settings)["PostgresDown"] == "shadow"
    routes.write_text(text)
    assert run(*arguments)[0] == 0


def test_what_is_only_shown_changes_nothing(settings: Settings, prometheus: Running) -> None:
    """Without --yes."""
    before = change.source(settings).read_text()
    code, output = run("enable", "warning", "DiskSpaceLow")
    assert (code, "+    - {source_labels: [alertname], regex: DiskSpaceLow" in output) == (0, True)
    assert asked("enable", "warning")["changed"] is False
    assert change.source(settings).read_text() == before
    assert prometheus.stages(["DiskSpaceLow"]) == {"DiskSpaceLow": "shadow"}
    assert journal(settings) == []


def test_criticals_wait_for_all_warnings(settings: Settings) -> None:
    """They wake people: first it is seen that the warnings are worth reading."""
    assert run("enable", "critical", "--yes", "--reason", "a test")[0] == 1
    first, *others = of_severity(settings, "warning")
    assert run("enable", "warning", *others, "--yes", "--reason", "a test")[0] == 0
    code, output = run("enable", "critical", "PostgresDown", "--yes", "--reason", "a test")
    assert (code, first in output) == (1, True)
    assert run("enable", "warning", "--yes", "--reason", "a test")[0] == 0
    assert run("enable", "critical", "--yes", "--reason", "a test")[0] == 0
    assert set(staged(settings).values()) == {"live"}


def test_force_wants_a_reason(settings: Settings) -> None:
    """Which is what somebody asks for in the morning."""
    assert run("enable", "critical", "PostgresDown", "--force", "--yes")[0] == 2
    assert (
        run("enable", "critical", "PostgresDown", "--force", "--reason", "a drill", "--yes", "--reason", "a test")[0]
        == 0
    )
    assert staged(settings)["PostgresDown"] == "live"


def test_disable_takes_one_back(settings: Settings) -> None:
    """One that cries wolf; the rest stays."""
    run("enable", "warning", "--yes", "--reason", "a test")
    assert run("disable", "DiskSpaceLow", "--yes", "--reason", "fires at each backup")[0] == 0
    live = [name for name, stage in staged(settings).items() if stage == "live"]
    assert {*live, "DiskSpaceLow"} == {*of_severity(settings, "warning"), "Watchdog"}
    assert run("disable", "DiskSpaceLow", "--yes", "--reason", "a test") == (
        0,
        "Nothing to do: they are shadow already.\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("enable", "warning", "NoSuchAlert"),
        ("enable", "warning", "PostgresDown"),
        ("enable", "none"),
        ("disable", "Watchdog"),
        ("disable", "NoSuchAlert"),
        ("disable",),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(settings: Settings, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing done."""
    before = change.source(settings).read_text()
    assert run(*arguments, "--yes", "--reason", "a test")[0] == 2
    assert change.source(settings).read_text() == before


def test_what_promtool_refuses_is_not_written(settings: Settings, prometheus: Running) -> None:
    """A broken rule elsewhere must not be found out by a Prometheus that does not come back."""
    before = change.source(settings).read_text()
    rules = settings.layout.root / "monitoring" / "recording.yml"
    rules.write_text(rules.read_text() + "  - name: broken\n    rules:\n      - record: a\n        expr: sum(\n")
    code, output = run("enable", "warning", "--yes", "--reason", "a test")
    assert (code, "promtool refuses" in output, "recording.yml" in output) == (1, True, True)
    assert change.source(settings).read_text() == before
    assert set(prometheus.stages(["DiskSpaceLow"]).values()) == {"shadow"}
    assert [kind for kind, _ in journal(settings)] == ["intent", "failed"]


def test_what_amtool_refuses_is_not_written(settings: Settings) -> None:
    """Live alerts through a broken router reach nobody."""
    routes = settings.layout.root / "monitoring" / "alertmanager.yml"
    routes.write_text(routes.read_text().replace("receiver: critical", "receiver: nobody"))
    code, output = run("enable", "warning", "--yes", "--reason", "a test")
    assert (code, "amtool refuses" in output) == (1, True)
    assert set(staged(settings).values()) == {"shadow", "live"}


@pytest.mark.parametrize("is_refused", [False, True], ids=["done", "put back"])
def test_what_another_changed_meanwhile_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Who comes right after another `enable` works from what that one left, and puts that back where it fails."""
    text = change.source(settings).read_text()
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    mine, others = of_severity(settings, "warning")[:2]
    held = lock.held

    @contextmanager
    def after_another(path: Path) -> Iterator[None]:
        change.source(settings).write_text(stages.changed(text, [others], "live", alerts))
        with held(path):
            yield

    monkeypatch.setattr(lock, "held", after_another)
    if is_refused:
        routes = settings.layout.root / "monitoring" / "alertmanager.yml"
        routes.write_text(routes.read_text().replace("receiver: critical", "receiver: nobody"))
    assert run("enable", "warning", mine, "--yes", "--reason", "a test")[0] == int(is_refused)
    live = {name for name, stage in staged(settings).items() if stage == "live"}
    assert live == {"Watchdog", others} | (set() if is_refused else {mine})


@pytest.mark.parametrize("quoted", ["own words of the stack", "token=abcdefgh1"])
def test_the_journal_tells_a_failure_without_the_secrets_it_quotes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, quoted: str
) -> None:
    """Programs quote what they refuse; and a journal that refuses a line must not hide why the change failed."""
    monkeypatch.setenv("DB_PASSWORD", "own words of the stack")
    routes = settings.layout.root / "monitoring" / "alertmanager.yml"
    routes.write_text(routes.read_text().replace("receiver: critical", f"receiver: {quoted}"))
    code, output = run("enable", "warning", "--yes", "--reason", "a test")
    assert (code, "amtool refuses" in output) == (1, True)
    assert [kind for kind, _ in journal(settings)] == ["intent", "failed"]
    assert "amtool refuses" in journal(settings)[1][1]["problem"]
    assert quoted not in str(journal(settings))


def test_a_failed_reload_puts_everything_back(
    settings: Settings, prometheus: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and Prometheus must not tell different stories."""
    before = change.source(settings).read_text()
    rendered = settings.layout.data / "prometheus" / "prometheus.yml"
    held = rendered.read_text()
    rules = monitoring.rule_files(settings.layout.root / "monitoring")[0]
    good = rules.read_text()

    def break_and_reload() -> None:
        rules.write_text("groups: broken" if rules.read_text() == good else good)
        prometheus.reload()

    monkeypatch.setattr(change, "running", lambda *_: Running(prometheus.url, break_and_reload))
    code, output = run("enable", "warning", "--yes", "--reason", "a test")
    assert (code, "refuses its new configuration" in output, "Everything was put back" in output) == (1, True, True)
    assert change.source(settings).read_text() == before
    assert rendered.read_text() == held
    assert set(prometheus.stages(["DiskSpaceLow"]).values()) == {"shadow"}
    assert journal(settings)[-1][0] == "failed"
    assert journal(settings)[-1][1]["put_back"] is True


def test_what_cannot_be_put_back_is_said(
    settings: Settings, prometheus: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads "put back" goes to bed."""
    rules = monitoring.rule_files(settings.layout.root / "monitoring")[0]

    def break_and_reload() -> None:
        rules.write_text("groups: broken")
        prometheus.reload()

    monkeypatch.setattr(change, "running", lambda *_: Running(prometheus.url, break_and_reload))
    monkeypatch.setattr(reloading, "PATIENCE_S", 1)
    code, output = run("enable", "warning", "--yes", "--reason", "a test")
    assert (code, "did not take that over either" in " ".join(output.split())) == (1, True)
    assert journal(settings)[-1][1]["put_back"] is False


def test_on_compose_the_container_is_told_to_read_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the engine's own words; an operator's own file counts."""
    labels = {"com.docker.compose.service": "prometheus"}
    held = [{"Config": {"Image": "prom", "Labels": labels, "Env": []}, "State": {"Running": True}}]
    (tmp_path / "held").write_text(json.dumps(held))
    engine = tmp_path / "engine"
    engine.write_text(
        f'#!/bin/sh\necho "$COMPOSE_FILE $*" >> {tmp_path}/calls\n'
        f'case "$1" in ps) echo 1;; inspect) cat {tmp_path}/held;; esac\n'
    )
    engine.chmod(0o755)
    monkeypatch.setenv("ENGINE", str(engine))
    monkeypatch.setenv("COMPOSE", str(engine))
    monkeypatch.setenv("COMPOSE_FILE", "own.yml")
    found = change.running(settings, "compose")
    assert found is not None
    found.reload()
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "own.yml kill -s HUP prometheus"
    (tmp_path / "held").write_text("[]")
    assert change.running(settings, "compose") is None


def test_the_list_says_when_prometheus_runs_with_other_stages(settings: Settings, prometheus: Running) -> None:
    """The file was edited by hand, and nobody reloaded."""
    text = change.source(settings).read_text()
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    change.source(settings).write_text(stages.changed(text, ["DiskSpaceLow"], "live", alerts))
    assert asked("list")["applied"] is False
    assert prometheus.stages(["DiskSpaceLow"]) == {"DiskSpaceLow": "shadow"}


def test_the_list_says_who_is_told(settings: Settings) -> None:
    """Live alerts that nobody receives are the same as none."""
    assert "critical → nobody" in run("list")[1]
    (monitoring.receivers_folder(settings) / "slack_url").write_text("https://hooks.slack.test/x")
    listed = asked("list")
    assert listed["receivers"]["critical"] == ["slack"]
    assert listed["applied"] is None


def test_a_configuration_for_containers(settings: Settings) -> None:
    """The same routes, with the receivers that have their files."""
    (monitoring.receivers_folder(settings) / "slack_url").write_text("https://hooks.slack.test/x")
    code, output = run("config", str(monitoring.receivers_folder(settings)))
    assert (code, "/etc/alertmanager/receivers/slack_url" in output, ".invalid" in output) == (0, True, False)


@pytest.fixture
def mounted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that Alertmanager's container has, made as docs/production.md says; all receivers but two."""
    monkeypatch.setenv("SECRETS_DIR", "own-secrets")
    monkeypatch.setenv("ENGINE", "true")
    folder = settings.layout.root / "own-secrets" / "alertmanager" / "receivers"
    folder.mkdir(parents=True)
    for name in ("slack_url", "pagerduty_key", "webhook_url"):
        (folder / name).write_text("https://tool.test/s3cret")
    file = folder.parent / "alertmanager.yml"
    code, text = run("config", str(folder))
    assert code == 0
    file.write_text(text)
    return file


def test_on_compose_the_mounted_file_says_who_is_told(settings: Settings, mounted: Path) -> None:
    """The native stack's receivers are other people's: a pager that was never mounted would look as if it rang."""
    (monitoring.receivers_folder(settings) / "email").write_text("TO=a@b.test\nFROM=c@d.test\nSMARTHOST=e.test:25")
    assert asked("list", "--target", "compose")["receivers"] == {
        "heartbeat": [],
        "shadow": [],
        "backend-copy": [],
        "critical": ["pagerduty", "slack", "webhook"],
        "warning": ["slack", "webhook"],
    }
    assert asked("list")["receivers"]["critical"] == ["email"]
    output = run("list", "--target", "compose")[1]
    assert (f"heartbeat → nobody: no tool in {mounted}" in output, "Make it anew" in output) == (True, False)
    # A file of its own makes nobody told; the one that is mounted has to be made anew.
    (mounted.parent / "receivers" / "heartbeat_url").write_text("https://beat.test/")
    output = run("list", "--target", "compose")[1]
    assert (f"heartbeat → nobody: no tool in {mounted}" in output, "Make it anew" in output) == (True, True)


@pytest.mark.parametrize("text", [None, "", "route: [", "{route: {}, receivers: [1]}"])
def test_on_compose_a_file_that_is_no_use_is_said(mounted: Path, text: str | None) -> None:
    """With the command that makes it: a shell leaves an empty one where that failed. Stages are told all the same."""
    mounted.unlink()
    if text is not None:
        mounted.write_text(text)
    code, output = run("list", "--target", "compose")
    assert (code, "HighErrorRate" in output, f"✗ {mounted} is " in output) == (1, True, True)
    assert f"commandcenter alerts config {mounted.parent}/receivers > {mounted}" in output
    assert run("enable", "warning", "--target", "compose")[0] == 1
    assert run("enable", "warning")[0] == 0


def test_on_compose_routes_are_tried_through_the_mounted_file(settings: Settings, mounted: Path) -> None:
    """It was made weeks ago, or edited on the host: routes of the checkout say nothing about it.

    Its paths are the containers', and it names files that Debian's amtool does not know: both are no fault of it.
    """
    text = mounted.read_text()
    assert "url_file: /etc/alertmanager/receivers/webhook_url" in text
    mounted.write_text(text.replace('severity="critical"', 'severity="critcal"'))
    arguments = ("enable", "critical", "PostgresDown", "--force", "--reason", "a test", "--yes", "--target", "compose")
    code, output = run(*arguments)
    assert (code, "would reach backend-copy, warning instead of" in output) == (1, True)
    assert f"Look at the routes in {mounted}" in output
    assert staged(settings)["PostgresDown"] == "shadow"

    mounted.write_text(text.replace("receiver: critical", "receiver: nobody"))
    assert "amtool refuses" in run(*arguments)[1]

    mounted.write_text(text)
    routes = settings.layout.root / "monitoring" / "alertmanager.yml"
    routes.write_text(routes.read_text().replace("receiver: critical", "receiver: nobody"))
    assert run(*arguments)[0] == 0
    assert staged(settings)["PostgresDown"] == "live"
