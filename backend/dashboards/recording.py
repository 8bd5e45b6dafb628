"""Recording rules: what quantiles are computed from.

A dashboard over two days would otherwise read every bucket of every process; these hold the sums over processes,
five minutes each, worked out as they happen.
"""

from dataclasses import dataclass
from typing import Final

from prometheus_client import Histogram

from app.utils.metrics import (
    CELERY_QUEUE_WAIT,
    CELERY_TASK_DURATION,
    DB_POOL_WAIT,
    DB_QUERY_DURATION,
    HTTP_DURATION,
    OVERHEAD,
)
from dashboards.names import TRAFFIC, buckets, error_ratio

GROUP: Final = "commandcenter_recording"
# Longer than a scrape may be late, short enough to show a bad minute.
_WINDOW: Final = "5m"
_HEADER: Final = """\
# Made by `commandcenter dashboards build` from backend/dashboards/recording.py; edit that.
# What the dashboards' quantiles are computed from. Name: what is kept apart, the series, what was done to it.
"""


@dataclass(frozen=True)
class Rule:
    """One recording rule."""

    name: str
    expression: str


def _bucket_rates(metric: Histogram, *by: str, matcher: str = "") -> Rule:
    """Return the rule that holds a histogram's buckets, kept apart by `by` and `le`."""
    selector = f"{{{matcher}}}" if matcher else ""
    return Rule(
        f"{'_'.join((*by, 'le'))}:{buckets(metric)}:rate{_WINDOW}",
        f"sum by ({', '.join((*by, 'le'))}) (rate({buckets(metric)}{selector}[{_WINDOW}]))",
    )


LATENCY: Final = _bucket_rates(HTTP_DURATION, "handler", matcher=TRAFFIC)
LATENCY_OF_ALL: Final = _bucket_rates(HTTP_DURATION, matcher=TRAFFIC)
QUERIES: Final = _bucket_rates(DB_QUERY_DURATION, "operation")
POOL_WAIT: Final = _bucket_rates(DB_POOL_WAIT)
TASKS: Final = _bucket_rates(CELERY_TASK_DURATION, "task")
QUEUE_WAIT: Final = _bucket_rates(CELERY_QUEUE_WAIT, "task")
OVERHEADS: Final = _bucket_rates(OVERHEAD)
ERROR_RATIO_5M: Final = Rule("commandcenter:http_error_ratio:rate5m", error_ratio("5m"))
ERROR_RATIO_1H: Final = Rule("commandcenter:http_error_ratio:rate1h", error_ratio("1h"))

RULES: Final = (
    LATENCY,
    LATENCY_OF_ALL,
    QUERIES,
    POOL_WAIT,
    TASKS,
    QUEUE_WAIT,
    OVERHEADS,
    ERROR_RATIO_5M,
    ERROR_RATIO_1H,
)


def quantile(share: float, rule: Rule, by: str = "", matcher: str = "") -> str:
    """Return a quantile of a recorded histogram, in seconds; no series where nothing was observed, for that is NaN.

    Args:
        share: 0 to 1.
        rule: the recorded buckets.
        by: a label to keep apart by.
        matcher: which series to look at; all without one.
    """
    grouping = f"le, {by}" if by else "le"
    selector = f"{{{matcher}}}" if matcher else ""
    return f"histogram_quantile({share}, sum by ({grouping}) ({rule.name}{selector})) >= 0"


def render() -> str:
    """Return the file of rules."""
    lines = [f"{_HEADER}groups:", f"  - name: {GROUP}", "    rules:"]
    for rule in RULES:
        lines += [f"      - record: {rule.name}", f"        expr: {rule.expression}"]
    return "\n".join(lines) + "\n"
