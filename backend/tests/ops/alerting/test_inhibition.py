"""Which alert mutes which, by a real Alertmanager with the configuration that the stack would give it."""

from collections.abc import Iterator, Sequence

import pytest

from ops.stack import loopback
from ops.stack.settings import Settings
from tests.alertmanager import running_alertmanager, send_alerts
from tests.system import eventually

Alert = dict[str, str]

API_DOWN = {"alertname": "ScrapeTargetDown", "service": "api", "severity": "warning"}
FAST = {"alertname": "HighErrorRateFast", "service": "api", "severity": "critical"}
ERRORS = {"alertname": "HighErrorRate", "service": "api", "severity": "critical"}
SLOW = {"alertname": "SlowAPIResponses", "service": "api", "severity": "warning"}
POOL = {"alertname": "DatabasePoolExhausted", "service": "api", "severity": "warning"}
WORKER_DOWN = {"alertname": "CeleryWorkerDown", "service": "worker", "severity": "critical"}
BACKLOG = {"alertname": "CeleryQueueBacklog", "service": "worker", "severity": "warning", "queue": "celery"}
CANARY = {"alertname": "CeleryCanaryLate", "service": "worker", "severity": "warning", "queue": "celery"}
FAILURES = {"alertname": "CeleryHighFailureRate", "service": "worker", "severity": "warning"}
DATABASE = {"alertname": "PostgresDown", "service": "postgres", "severity": "critical"}
NODE_DOWN = {"alertname": "ScrapeTargetDown", "service": "node", "severity": "warning"}
# None of these mutes another.
BYSTANDERS = (ERRORS, SLOW, POOL, BACKLOG, CANARY, FAILURES, DATABASE, NODE_DOWN)


@pytest.fixture
def alertmanager(settings: Settings) -> Iterator[str]:
    """URL of an Alertmanager with no alert in it."""
    with running_alertmanager(settings) as url:
        yield url


def _muted(url: str, targets: Sequence[Alert], source: Alert, stage: str) -> list[str]:
    """Return the names of those live alerts that are muted while `source` fires in that stage."""
    sent = [{**source, "stage": stage}, *({**alert, "stage": "live"} for alert in targets)]
    send_alerts(url, [{"labels": each} for each in sent])

    def all_processed() -> list[str] | None:
        found = loopback.get(f"{url}/api/v2/alerts").json()
        if len(found) != len(sent) or any(each["status"]["state"] == "unprocessed" for each in found):
            return None
        return sorted(each["labels"]["alertname"] for each in found if each["status"]["inhibitedBy"]) or ["none"]

    return eventually(all_processed, what="every alert processed")


@pytest.mark.parametrize(
    ("source", "muted"),
    [
        (API_DOWN, (FAST, ERRORS, SLOW, POOL)),
        (FAST, (ERRORS, SLOW)),
        (WORKER_DOWN, (BACKLOG, CANARY)),
    ],
    ids=lambda each: each["alertname"] if isinstance(each, dict) else "",
)
def test_a_cause_mutes_its_consequences(alertmanager: str, source: Alert, muted: tuple[Alert, ...]) -> None:
    """And nothing else: each mute is a risk."""
    others = [*BYSTANDERS, *(alert for alert in muted if alert not in BYSTANDERS)]
    assert _muted(alertmanager, others, source, "live") == sorted(alert["alertname"] for alert in muted)


@pytest.mark.parametrize("source", [API_DOWN, FAST, WORKER_DOWN], ids=lambda each: each["alertname"])
def test_a_shadow_alert_mutes_nothing(alertmanager: str, source: Alert) -> None:
    """Nobody hears of it; with it, nobody would hear of what is live either."""
    assert _muted(alertmanager, BYSTANDERS, source, "shadow") == ["none"]
