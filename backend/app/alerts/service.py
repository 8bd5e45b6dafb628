"""Notes alerts: one log event and one count each. People are told by Alertmanager, not by us."""

from typing import Final

import structlog

from app.alerts.schemas import Alert, AlertGroup
from app.utils.metrics import ALERTS_RECEIVED, bounded

log = structlog.get_logger(__name__)

_MAX_NAMES: Final = 100
_MAX_SEVERITIES: Final = 10
_MAX_NAME: Final = 100
_MAX_SEVERITY: Final = 50
_MAX_TEXT: Final = 500


def receive(group: AlertGroup) -> int:
    """Note every alert of `group` and return how many there were."""
    for alert in group.alerts:
        _note(alert)
    return len(group.alerts)


def _note(alert: Alert) -> None:
    name = alert.labels.get("alertname", "unknown")[:_MAX_NAME]
    severity = alert.labels.get("severity", "none")[:_MAX_SEVERITY]
    ALERTS_RECEIVED.labels(
        bounded("alertname", name, _MAX_NAMES), bounded("severity", severity, _MAX_SEVERITIES), alert.status
    ).inc()
    event = {
        "alertname": name,
        "severity": severity,
        "status": alert.status,
        "summary": alert.annotations.get("summary", "")[:_MAX_TEXT],
        "starts_at": alert.starts_at.isoformat(),
    }
    if alert.status == "firing":
        log.warning("alert.received", **event)
    else:
        log.info("alert.received", **event)
