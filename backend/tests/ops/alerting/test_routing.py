"""Who hears of which alert: routes and receivers, by Alertmanager's own tool."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack import accounts, monitoring, receivers
from ops.stack.errors import StackError
from ops.stack.layout import Layout, checkout
from ops.stack.settings import Settings

SOURCE = checkout() / "monitoring" / "alertmanager.yml"
SLACK = "https://hooks.slack.test/services/T0/B0/s3cret"
EMAIL = "TO=oncall@example.test\nFROM=alerts@example.test\nSMARTHOST=smtp.example.test:587\nUSERNAME=alerts\n"
FILES = {
    "slack_url": SLACK,
    "pagerduty_key": "r0uting",
    "webhook_url": "https://hook.test/s3cret",
    "heartbeat_url": "https://beat.test/s3cret",
    "email": EMAIL,
    "email_password": "pass",
}
PEOPLE = {"critical": ["pagerduty", "slack", "email", "webhook"], "warning": ["slack", "email", "webhook"]}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    layout = Layout(checkout(), tmp_path / "data")
    layout.make()
    return Settings.load(layout, {})


def _give(settings: Settings, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (monitoring.receivers_folder(settings) / name).write_text(text + "\n")


def _checked(text: str, tmp_path: Path) -> dict[str, Any]:
    """Return a configuration that amtool takes."""
    path = tmp_path / "checked.yml"
    path.write_text(text)
    checked = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def _receivers_of(labels: str) -> list[str]:
    asked = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={SOURCE}", *labels.split()],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": "/nonexistent"},
    )
    return asked.stdout.strip().split(",")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("alertname=Watchdog severity=none stage=live", ["heartbeat"]),
        ("alertname=HighErrorRate severity=critical service=api stage=shadow", ["shadow"]),
        ("alertname=SlowAPIResponses severity=warning service=api stage=shadow", ["shadow"]),
        ("alertname=HighErrorRate severity=critical service=api stage=live", ["backend-copy", "critical"]),
        ("alertname=PostgresDown severity=critical service=postgres stage=live", ["backend-copy", "critical"]),
        ("alertname=SlowAPIResponses severity=warning service=api stage=live", ["backend-copy", "warning"]),
        ("alertname=ScrapeTargetDown severity=warning service=node stage=live", ["backend-copy", "warning"]),
        ("alertname=ScrapeTargetDown severity=warning service=api stage=live", ["backend-copy", "critical"]),
        ("alertname=ScrapeTargetDown severity=warning service=api stage=shadow", ["shadow"]),
        # A severity that nobody thought of, and a stage that was lost: people hear of it.
        ("alertname=New severity=odd stage=live", ["backend-copy", "warning"]),
        ("alertname=New severity=critical", ["backend-copy", "critical"]),
        ("alertname=New", ["backend-copy", "warning"]),
    ],
)
def test_each_alert_goes_where_it_belongs(labels: str, told: list[str]) -> None:
    """Shadow alerts to nobody, critical ones to the pager, the watchdog to the heartbeat alone."""
    assert _receivers_of(labels) == told


def test_every_alert_there_is_has_its_route() -> None:
    """The table above has examples; this has all rules, in both stages."""
    rules = yaml.safe_load((SOURCE.parent / "alerts.yml").read_text())["groups"]
    alerts = [rule for group in rules for rule in group["rules"] if rule["alert"] != "Watchdog"]
    assert len(alerts) > 10
    for alert in alerts:
        labels = f"alertname={alert['alert']} severity={alert['labels']['severity']}"
        assert _receivers_of(f"{labels} stage=shadow") == ["shadow"]
        assert _receivers_of(f"{labels} stage=live") == ["backend-copy", alert["labels"]["severity"]]


def test_only_live_alerts_mute_others() -> None:
    """A shadow alert is told to nobody; if it muted a live one, nobody would be told of anything."""
    rules = yaml.safe_load(SOURCE.read_text())["inhibit_rules"]
    assert len(rules) == 3
    assert all('stage="live"' in rule["source_matchers"] for rule in rules)


def test_the_source_is_valid_as_it_stands(tmp_path: Path) -> None:
    """For Debian's Alertmanager, 0.25, and for the one in the containers: what only one of them knows isn't in it."""
    _checked(SOURCE.read_text(), tmp_path)


def test_without_any_file_nobody_is_told_and_all_is_valid(settings: Settings, tmp_path: Path) -> None:
    """An operator who just tries the stack has neither Slack nor a pager."""
    config = _checked(monitoring.alertmanager_config(settings), tmp_path)
    assert not [tool for told in receivers.tools(config).values() for tool in told]
    assert ".invalid" not in str(config)


def test_with_all_files_people_are_told_by_all_ways(settings: Settings, tmp_path: Path) -> None:
    """And no address that can stay in its file is in the configuration, which Alertmanager shows on a page."""
    _give(settings, FILES)
    text = monitoring.alertmanager_config(settings)
    config = _checked(text, tmp_path)
    assert receivers.tools(config) == {"heartbeat": ["webhook"], "shadow": [], "backend-copy": [], **PEOPLE}
    assert not [secret for secret in (SLACK, FILES["pagerduty_key"], "pass\n") if secret in text]
    assert ".invalid" not in text
    [email] = config["receivers"][-1]["email_configs"]
    assert (email["to"], email["smarthost"]) == ("oncall@example.test", "smtp.example.test:587")
    assert Path(email["auth_password_file"]).read_text() == "pass\n"
    [slack] = config["receivers"][-1]["slack_configs"]
    assert Path(slack["api_url_file"]).read_text().strip() == SLACK


@pytest.mark.parametrize(
    ("file", "tool", "told"),
    [
        ("slack_url", "slack", ["critical", "warning"]),
        ("pagerduty_key", "pagerduty", ["critical"]),
        ("webhook_url", "webhook", ["critical", "warning"]),
        ("email", "email", ["critical", "warning"]),
        ("heartbeat_url", "webhook", ["heartbeat"]),
    ],
)
def test_one_file_brings_one_tool(settings: Settings, tmp_path: Path, file: str, tool: str, told: list[str]) -> None:
    """Each by itself; an empty file is none."""
    _give(settings, {**dict.fromkeys(FILES, ""), file: FILES[file]})
    config = _checked(monitoring.alertmanager_config(settings), tmp_path)
    assert {name: tools for name, tools in receivers.tools(config).items() if tools} == {key: [tool] for key in told}


def test_mail_without_a_login_has_none(settings: Settings, tmp_path: Path) -> None:
    """A relay on the same machine asks for no password, and has no certificate."""
    _give(settings, {"email": "TO=a@b.test\nFROM=c@d.test\nSMARTHOST=127.0.0.1:25\nTLS=false"})
    config = _checked(monitoring.alertmanager_config(settings), tmp_path)
    [email] = config["receivers"][-1]["email_configs"]
    assert not email.keys() & {"auth_username", "auth_password_file"}
    assert email["require_tls"] is False


@pytest.mark.parametrize(("file", "text"), [("webhook_url", "hook.test/s3cret"), ("email", "TO=s3cret@b.test")])
def test_a_file_with_something_else_is_refused(settings: Settings, file: str, text: str) -> None:
    """By name, and without what was in it."""
    _give(settings, {file: text})
    with pytest.raises(StackError, match=file) as caught:
        monitoring.alertmanager_config(settings)
    assert "s3cret" not in str(caught.value) + caught.value.way_out


def test_containers_read_webhooks_from_files(settings: Settings, tmp_path: Path) -> None:
    """Alertmanager has had `url_file` since 0.26; there, no address is in the configuration at all."""
    folder = tmp_path / "receivers"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    text = monitoring.container_alertmanager_config(settings, folder)
    told = {each["name"]: each for each in yaml.safe_load(text)["receivers"]}
    assert told["critical"]["webhook_configs"] == [
        {"url_file": "/etc/alertmanager/receivers/webhook_url", "send_resolved": True}
    ]
    assert told["critical"]["slack_configs"][0]["api_url_file"] == "/etc/alertmanager/receivers/slack_url"
    assert told["shadow"]["webhook_configs"][0]["url"] == "http://backend:8000/api/v1/alerts/webhook"
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("says", "knows"), [("alertmanager, version 0.25.0 (b)", False), ("alertmanager, version 0.28.1", True)]
)
def test_an_old_alertmanager_is_recognised(tmp_path: Path, says: str, knows: bool) -> None:
    """It would refuse to start on an option it doesn't know."""
    program = tmp_path / "alertmanager"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    assert receivers.knows_url_files(program) == knows
