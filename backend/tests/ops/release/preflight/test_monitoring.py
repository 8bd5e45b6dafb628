"""What Prometheus and Alertmanager would run with, and how soon they would tell."""

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
import yaml
from rich.console import Console

from ops.alerting import stages
from ops.release import monitoring_files
from ops.release.compose import ComposeTarget
from ops.stack.monitoring import rule_files
from tests.ops.release.preflight.asked import found, one, refused


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
    assert [each.name for each in rule_files(monitoring)] == [
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
