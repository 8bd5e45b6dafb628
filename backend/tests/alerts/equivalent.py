"""Mutants that do what their rule does wherever the rule can be: no test can tell them apart, and why."""

from typing import Final

_ONE_SERIES: Final = "an instance has one such series"

EQUIVALENT: Final[dict[str, str]] = {
    "CeleryWorkerDown: #3 sum -> max": "`up` is 0 or 1: the sum is 0 where the largest is",
    "DatabasePoolExhausted: #3 sum -> max": _ONE_SERIES,
    "DatabasePoolExhausted: #5 sum -> max": _ONE_SERIES,
    "DatabasePoolExhausted: #12 max -> min": _ONE_SERIES,
    "Watchdog: #1 1 -> 2": "what matters is that there is a value",
    "Watchdog: #1 1 -> 0.5": "what matters is that there is a value",
}
