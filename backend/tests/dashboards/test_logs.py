"""The way of a log line to the panels: what Alloy takes from it is what Loki may keep and the panels ask for.

Neither program runs here; their files are held against the documented schema, the panels, and real log lines.
"""

import re
from datetime import datetime

import pytest
import yaml

from tests.grafana import BACKEND, dashboards
from tests.monitoring_stack import MonitoredSystem

MONITORING = BACKEND.parent / "monitoring"
ALLOY = (MONITORING / "alloy.config").read_text()
LABELS = {"service", "level"}
METADATA = {"request_id", "trace_id", "task_id"}


def stage(name: str) -> str:
    """Return what stands between a stage's braces."""
    found = re.search(rf"^ +stage\.{name} \{{\n(.*?)^ +\}}$", ALLOY, re.DOTALL | re.MULTILINE)
    assert found, f"Alloy's configuration has no stage {name}"
    return found[1]


def keys(text: str) -> dict[str, str]:
    """Return the assignments in a stage's map."""
    return dict(re.findall(r'^ +(\w+) += "([^"]*)",$', text, re.MULTILINE))


def test_labels_are_bounded() -> None:
    """A request ID as a label would make a stream of each request, and Loki would drown."""
    assert set(keys(stage("labels"))) == LABELS
    assert set(re.findall(r'"(\w+)"', stage("label_keep"))) == LABELS
    assert set(keys(stage("structured_metadata"))) == METADATA
    limits = yaml.safe_load((MONITORING / "loki.yml").read_text())["limits_config"]
    assert (limits["allow_structured_metadata"], limits["discover_service_name"]) == (True, [])


def test_loki_can_keep_structured_metadata() -> None:
    """It refuses lines that bear some under an older schema."""
    [schema] = yaml.safe_load((MONITORING / "loki.yml").read_text())["schema_config"]["configs"]
    assert (schema["store"], schema["schema"]) == ("tsdb", "v13")


def test_panels_ask_for_what_is_kept() -> None:
    """Labels in the selector, metadata after it."""
    queries = [target.expression for each in dashboards() for target in each.targets("loki")]
    assert queries
    for query in queries:
        selector, _, rest = query.partition("}")
        assert set(re.findall(r"(\w+)=~?", selector)) <= LABELS
        assert set(re.findall(r"\| (\w+)!?=", rest)) <= METADATA


def test_our_lines_have_what_is_taken_from_them(lived: MonitoredSystem) -> None:
    """A key that no line has is never found, and a time that Alloy can't read is replaced by its own."""
    taken = keys(stage("json"))
    for service in ("api", "worker"):
        lines = lived.system.log_lines(service)
        there = {key for line in lines for key in line}
        assert set(taken.values()) - there <= {"task_id"} - ({"task_id"} if service == "worker" else set())
        assert {line["service"] for line in lines} == {service}
        assert all(datetime.fromisoformat(line[taken["at"]]).tzinfo for line in lines)
    assert 'format            = "RFC3339Nano"' in ALLOY


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_databases_lines_lead_to_their_request(lived: MonitoredSystem, service: str) -> None:
    """SQL of a request is found by its ID, beside the request's own lines."""
    written = re.search(r'expression = "(.*)"', stage("regex"))
    assert written
    pattern = re.compile(written[1].replace("\\\\", "\\"))
    log = lived.server.log.read_text(errors="replace")
    found = {match["request_id"] for line in log.splitlines() if (match := pattern.match(line))}
    ours = {str(line["request_id"]) for line in lived.system.log_lines(service) if "request_id" in line}
    assert found & ours
