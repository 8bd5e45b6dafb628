"""Each alert has its runbook, and what a runbook tells people to ask gives an answer."""

import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.grafana import BACKEND, dashboards
from tests.monitoring_stack import MonitoredSystem
from tests.pages import blocks

ROOT = BACKEND.parent
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
PAGES = sorted([*RUNBOOKS.glob("*.md"), ROOT / "docs" / "alerting.md"])
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "False positives"]


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    """A page that is missing costs minutes at night; one too many tells of what can't happen."""
    assert {page.stem for page in RUNBOOKS.iterdir()} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_its_pages(name: str) -> None:
    """To its own runbook, and to a dashboard that there is; and the runbook to the same dashboard."""
    annotations = ALERTS[name]["annotations"]
    assert annotations["runbook_url"].endswith(f"/runbooks/{name}")
    uid = annotations["dashboard_url"].rpartition("/d/")[2]
    assert uid in {dashboard.uid for dashboard in dashboards()}
    assert annotations["dashboard_url"] in (RUNBOOKS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_all_there_is_to_say(name: str) -> None:
    """In the same order everywhere: at night nobody looks for it."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(len(section.split()) >= 10 for section in sections)
    severity = ALERTS[name]["labels"]["severity"]
    assert text.splitlines()[2].startswith("No severity" if severity == "none" else severity.capitalize())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative ones; those to the running system are tested with the alerts."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shell_lines_can_be_typed(page: Path) -> None:
    """By the shell's own word."""
    for block in blocks(page, "sh"):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_each_query_is_answered(lived: MonitoredSystem, asked: dict[str, str], summary: list[str]) -> None:
    """Prometheus takes each, and some have a value even while all is well."""
    answers = {name: lived.query(expression) for name, expression in asked.items()}
    runbooks = {name.partition(" ")[0] for name in answers if name.startswith("runbooks/")}
    assert len(runbooks) == len(ALERTS)
    silent = [page for page in runbooks if not any(answers[name] for name in answers if name.startswith(page))]
    assert silent == []
    summary.append(f"runbooks: {len(answers)} queries of Prometheus asked of the real system")


def test_each_statement_runs(lived: MonitoredSystem, summary: list[str]) -> None:
    """As the role that the pages tell people to log in with."""
    statements = [(page.stem, block) for page in PAGES for block in blocks(page, "sql")]
    assert len(statements) > 5
    with psycopg.connect(lived.system.database_url) as connection:
        for name, statement in statements:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                raise AssertionError(f"{name}: {error}") from error
        connection.rollback()
    summary.append(f"runbooks: {len(statements)} statements run on the real database")
