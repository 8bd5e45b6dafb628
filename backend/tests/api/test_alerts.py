"""Alertmanager's copy to us: a log line and a count for each alert, whatever its labels."""

import io
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.telemetry.logs import configure_logging

# As Alertmanager's documentation has it, with what it really sends.
PAYLOAD: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}/{severity="critical"}:{alertname="HighErrorRate"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "backend",
    "groupLabels": {"alertname": "HighErrorRate"},
    "commonLabels": {"alertname": "HighErrorRate", "severity": "critical", "service": "backend"},
    "commonAnnotations": {"summary": "5 % of requests fail", "runbook_url": "https://example.org/runbook"},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighErrorRate", "severity": "critical", "service": "backend"},
            "annotations": {"summary": "5 % of requests fail", "runbook_url": "https://example.org/runbook"},
            "startsAt": "2026-11-24T08:00:00.123456789Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
            "fingerprint": "c1b2a3d4e5f60718",
        }
    ],
}


@pytest.fixture
def lines(client: httpx.AsyncClient) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns the alert lines logged so far."""
    assert not client.is_closed  # It sets up logging first.
    stream = io.StringIO()
    configure_logging("api", "info", stream)
    return lambda: [
        line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == "alert.received"
    ]


def counted(alertname: str, severity: str = "critical", status: str = "firing") -> float:
    """Return commandcenter_alerts_received_total of this process."""
    labels = {"alertname": alertname, "severity": severity, "status": status}
    return REGISTRY.get_sample_value("commandcenter_alerts_received_total", labels) or 0.0


async def test_an_alert_is_logged_and_counted(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """The history of alerts stands beside what happened."""
    before = counted("HighErrorRate")
    response = await client.post("/alerts/webhook", json=PAYLOAD, headers={"X-Request-ID": "alert-1"})
    assert (response.status_code, response.json()) == (200, {"received": 1})
    [line] = lines()
    assert (line["level"], line["request_id"]) == ("warning", "alert-1")
    assert (line["alertname"], line["severity"], line["status"]) == ("HighErrorRate", "critical", "firing")
    assert line["summary"] == "5 % of requests fail"
    assert counted("HighErrorRate") == before + 1


async def test_a_resolved_alert_is_news_too(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """And good news: no warning. A group holds both kinds at once."""
    payload = deepcopy(PAYLOAD)
    payload["alerts"].append(payload["alerts"][0] | {"status": "resolved", "endsAt": "2026-11-24T08:05:00Z"})
    before = counted("HighErrorRate", status="resolved")
    assert (await client.post("/alerts/webhook", json=payload)).json() == {"received": 2}
    assert [(line["status"], line["level"]) for line in lines()] == [("firing", "warning"), ("resolved", "info")]
    assert counted("HighErrorRate", status="resolved") == before + 1


async def test_an_alert_may_lack_what_alertmanager_does_not_demand(client: httpx.AsyncClient) -> None:
    """A rule without severity or annotations is a rule; what we don't read is none of our business."""
    alert: dict[str, Any] = {
        "status": "firing",
        "labels": {},
        "startsAt": "2026-11-24T08:00:00Z",
        "fingerprint": None,
        "new": [1],
    }
    payload = {"version": "4", "alerts": [alert], "notificationReason": "first"}
    before = counted("unknown", "none")
    assert (await client.post("/alerts/webhook", json=payload)).status_code == 200
    assert counted("unknown", "none") == before + 1


@pytest.mark.parametrize(
    "change",
    [
        *({"version": "3"}, {"version": 4}, {"alerts": None}, {"alerts": {}}, {"alerts": [{}]}),
        {"alerts": [PAYLOAD["alerts"][0] | {"status": "burning"}]},
        {"alerts": [PAYLOAD["alerts"][0] | {"startsAt": "yesterday"}]},
        {"alerts": [PAYLOAD["alerts"][0] | {"labels": {"alertname": 5}}]},
    ],
)
async def test_what_is_no_payload_is_422(client: httpx.AsyncClient, change: dict[str, object]) -> None:
    """Alertmanager logs it and gives up, instead of sending it for ever."""
    assert (await client.post("/alerts/webhook", json=PAYLOAD | change)).status_code == 422


async def test_hundreds_of_names_stay_bounded(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """Whoever may write rules must not be able to fill our memory; the log still has each name."""
    labels = [{"alertname": f'Alert {number} "\n\\', "severity": f"severity-{number}"} for number in range(500)]
    payload = deepcopy(PAYLOAD)
    payload["alerts"] = [PAYLOAD["alerts"][0] | {"labels": each} for each in labels]
    assert (await client.post("/alerts/webhook", json=payload)).json() == {"received": 500}
    samples = [
        sample.labels
        for family in REGISTRY.collect()
        if family.name == "commandcenter_alerts_received"
        for sample in family.samples
    ]
    assert len({each["alertname"] for each in samples}) <= 101
    assert len({each["severity"] for each in samples}) <= 11
    assert len({line["alertname"] for line in lines()}) == 500
    assert (await client.get("/metrics")).status_code == 200


async def test_a_long_name_does_not_make_a_long_line(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """Log stores cut or refuse lines of a megabyte."""
    payload = deepcopy(PAYLOAD)
    payload["alerts"][0]["labels"] = {"alertname": "x" * 100_000, "severity": "y" * 100_000}
    payload["alerts"][0]["annotations"] = {"summary": "z" * 100_000}
    assert (await client.post("/alerts/webhook", json=payload)).status_code == 200
    [line] = lines()
    assert len(json.dumps(line)) < 2000
