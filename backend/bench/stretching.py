"""Real samples on a slower clock: what Prometheus recorded in minutes becomes the hours that a release is judged by.

Values are those recorded, and no other: between two of them the earlier one stands, once a minute, as Prometheus itself
would show it. Only times move.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import httpx

from bench.history import escaped
from tests.backfill import Past

MINUTE_S: Final = 60
# Recorded seconds for which a value stands when no other follows: a scrape that came late, no part that went away.
HOLD_S: Final = 6.0
_TIMEOUT_S: Final = 60

Sample = tuple[float, float]


@dataclass(frozen=True)
class Clock:
    """A clock that shows `shown_s` at the real moment `real_s` (both in seconds since 1970), and runs faster."""

    real_s: float
    shown_s: float
    factor: float

    def shown(self, at_s: float) -> float:
        """Return what it shows at a real moment."""
        return self.shown_s + (at_s - self.real_s) * self.factor


def stretched(samples: Sequence[Sample], clock: Clock) -> Iterator[Sample]:
    """Yield a series as this clock shows it: for each full minute, the value recorded last."""
    for (at, value), (following, _) in pairwise([*samples, (math.inf, math.nan)]):
        minute = math.ceil(clock.shown(at) / MINUTE_S) * MINUTE_S
        end = clock.shown(min(following, at + HOLD_S))
        while minute < end:
            yield minute, value
            minute += MINUTE_S


def recorded(url: str, names: Iterable[str], start_s: float, end_s: float) -> dict[str, list[Sample]]:
    """Return all samples that a Prometheus scraped between two real moments, by series as PromQL writes it.

    Args:
        url: of that Prometheus.
        names: of metrics.
        start_s: seconds since 1970.
        end_s: likewise.
    """
    found: dict[str, list[Sample]] = {}
    for name in sorted(set(names)):
        query = f"{name}[{math.ceil(end_s - start_s)}s]"
        answer = httpx.post(f"{url}/api/v1/query", data={"query": query, "time": f"{end_s:.3f}"}, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        for each in answer.json()["data"]["result"]:
            samples = [(at, float(text)) for at, text in each["values"] if at >= start_s]
            if samples:
                found[_written(each["metric"])] = samples
    return found


def _written(metric: Mapping[str, str]) -> str:
    labels = (f'{key}="{escaped(value)}"' for key, value in sorted(metric.items()) if key != "__name__")
    return f"{metric['__name__']}{{{','.join(labels)}}}"


def past(found: Mapping[str, Sequence[Sample]], clock: Clock) -> Past:
    """Return recorded series as a past to backfill."""
    return {series: stretched(samples, clock) for series, samples in found.items()}
