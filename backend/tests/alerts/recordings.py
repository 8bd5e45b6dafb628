"""Promtool tests of the recording rules, made from their names, which say it all: `level:metric:operation`."""

from itertools import count, product
from typing import Any, Final

_INTERVAL_S: Final = 15
_VALUES: Final = {"le": ("0.5", "+Inf"), "handler": ("/api/v1/jobs", "unmatched")}
# Probes and scrapes are no traffic.
_QUIET: Final = ("/health", "/api/v1/health/ready", "/metrics", "/api/v1/metrics")
_EXPRESSION_TESTS: Final = "promql_expr_test"
Test = dict[str, Any]


def cases_of(record: str) -> dict[str, Any]:
    """Return what a file of promtool's tests would hold."""
    level, metric, operation = record.split(":")
    minutes = {"rate5m": 5, "rate1h": 60}[operation]
    made = (
        _of_ratio(record, minutes) if level == "commandcenter" else _of_sum(record, level.split("_"), metric, minutes)
    )
    # Asked for at the end of its second window, a rule need not be evaluated at each scrape before.
    return {"evaluation_interval": f"{minutes}m", "tests": made}


def _test(record: str, minutes: int, series: dict[str, float], expected: dict[str, float]) -> Test:
    """Return one test.

    Args:
        record: the series that is made.
        minutes: of its window; it is asked for after twice as long.
        series: by how much each grows a second.
        expected: values by labels.
    """
    steps = 2 * minutes * 60 // _INTERVAL_S + 10
    return {
        "interval": f"{_INTERVAL_S}s",
        "input_series": [
            {"series": name, "values": f"0+{each * _INTERVAL_S:g}x{steps}"} for name, each in series.items()
        ],
        _EXPRESSION_TESTS: [
            {
                "expr": record,
                "eval_time": f"{2 * minutes}m",
                "exp_samples": [{"labels": f"{record}{labels}", "value": value} for labels, value in expected.items()],
            }
        ],
    }


def _of_sum(record: str, level: list[str], metric: str, minutes: int) -> list[Test]:
    """Two instances, each label of the level with two values, and for HTTP what doesn't count."""
    names = sorted({*level, *(["handler"] if metric.startswith("http_") else [])})
    each = count(1)
    series: dict[str, float] = {}
    expected: dict[str, float] = {}
    for values in product(*(_VALUES.get(name, ("a", "b")) for name in names)):
        labels = dict(zip(names, values, strict=True))
        kept = _written({name: labels[name] for name in level})
        for instance in ("one", "two"):
            rate = float(next(each))
            series[metric + _written({**labels, "instance": instance})] = rate
            expected[kept] = expected.get(kept, 0) + rate
    if "handler" in names:
        series |= {metric + _written({"handler": quiet, "le": "0.5"}): 100.0 for quiet in _QUIET}
    return [_test(record, minutes, series, expected)]


def _of_ratio(record: str, minutes: int) -> list[Test]:
    """Some fail; none ever failed; nobody asks. Less than one a second; by halves, which add up exactly."""
    quiet = {_requests(handler, status): 10.0 for handler in _QUIET for status in ("200", "500")}
    fine = {_requests("/api/v1/jobs", "200"): 0.25, _requests("unmatched", "404"): 0.0625}
    failed = {_requests("/api/v1/jobs", "500"): 0.125, _requests("/api/v1/jobs", "503"): 0.0625}
    return [
        _test(record, minutes, quiet | fine | failed, {"": 0.375}),
        _test(record, minutes, quiet | fine, {"": 0.0}),
        _test(record, minutes, quiet | dict.fromkeys(fine, 0.0), {}),
    ]


def _requests(handler: str, status: str) -> str:
    return "http_requests_total" + _written({"handler": handler, "status": status})


def _written(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
