"""What a value means to the eye: units, and from where on it is amber or red. One place for all dashboards."""

from enum import StrEnum
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

ThresholdsConfig = dashboard.ThresholdsConfig


class Unit(StrEnum):
    """Grafana's names of units."""

    COUNT = "short"
    NONE = "none"
    RATIO = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    REQUESTS = "reqps"
    OPERATIONS = "ops"
    TIME = "dateTimeFromNow"


Limits = tuple[float, float]

ERROR_RATIO: Final[Limits] = (0.01, 0.05)
LATENCY_S: Final[Limits] = (0.5, 1)
USE: Final[Limits] = (0.75, 0.9)
QUEUE_DEPTH: Final[Limits] = (50, 100)
OLDEST_TASK_S: Final[Limits] = (60, 300)
CANARY_S: Final[Limits] = (60, 120)
TRANSACTION_S: Final[Limits] = (60, 300)
DEAD_TUPLES: Final[Limits] = (0.1, 0.2)
DISK: Final[Limits] = (0.8, 0.9)
TASK_FAILURES: Final[Limits] = (0.05, 0.1)
SLOW_SHARE: Final[Limits] = (0.01, 0.05)
# What a month's budget of 1 % lasts: burnt twice as fast, and so fast that it is gone in two days.
BURN_RATE: Final[Limits] = (2, 14.4)

CACHE_HIT_MIN: Final = 0.95
OBJECTIVE: Final = 0.99

_GREEN, _AMBER, _RED = "green", "orange", "red"


def rising(limits: Limits) -> ThresholdsConfig:
    """Amber from the first limit on, red from the second."""
    amber, red = limits
    return _steps((None, _GREEN), (amber, _AMBER), (red, _RED))


def red_from(limit: float) -> ThresholdsConfig:
    """Red from this value on."""
    return _steps((None, _GREEN), (limit, _RED))


def red_below(limit: float) -> ThresholdsConfig:
    """Red under this value."""
    return _steps((None, _RED), (limit, _GREEN))


def amber_below(limit: float) -> ThresholdsConfig:
    """Amber under this value."""
    return _steps((None, _AMBER), (limit, _GREEN))


def _steps(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    thresholds = [Threshold(value=value, color=color) for value, color in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)
