"""Does the new version fail more often than the old one? Intervals, a verdict, and how sure it is.

Pure: no clock, no network, no file. docs/release-statistics.md says why each was chosen, with measured error rates.
Ratios and differences are shares, 0.02 being 2 percentage points.

Sources: Wilson 1927 (score interval); Newcombe 1998, Statistics in Medicine 17:873-890, method 10 (difference);
Schuirmann 1987 (equivalence by two one-sided tests: the 90 % interval inside the margin).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from ops.release.student import t_quantile

MARGIN: Final = 0.02
MIN_REQUESTS: Final = 150
MIN_HOURS: Final = 24
# Standard normal quantiles: 95 % (each side of a 90 % interval), and 90 % (the power that is planned for).
Z_95: Final = 1.645
Z_90: Final = 1.282
# A rise worth a person's word even inside the margin: by more than half, and by so many errors.
RISE: Final = 1.5
RISE_ERRORS: Final = 10


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How much it leaves open."""
        return self.high - self.low


class Verdict(StrEnum):
    """What the interval says of the margin. Only the first two pass."""

    EQUIVALENT = "EQUIVALENT"
    BETTER = "BETTER"
    WORSE = "WORSE"
    INCONCLUSIVE = "INCONCLUSIVE"
    INSUFFICIENT = "INSUFFICIENT"

    @property
    def passes(self) -> bool:
        """Whether a release may go on with it."""
        return self in {Verdict.EQUIVALENT, Verdict.BETTER}


@dataclass(frozen=True, slots=True)
class Pair:
    """One hour of the week: requests `n` and failed ones `k`, new version and baseline."""

    n: float
    k: float
    baseline_n: float
    baseline_k: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and all that it rests on.

    Attributes:
        verdict: see Verdict.
        difference: new ratio minus the baseline's; None where an arm had no request.
        interval: 90 %, of the difference.
        method: which of the two intervals was the wider one.
        new: failed requests, requests.
        baseline: failed requests, requests.
        hours: pairs of hours.
        needed: requests that each arm must have.
        hours_to_go: how much longer it takes at this rate; 0 if it doesn't, None if it never will.
        wants_word: a rise that a person must say yes to, whatever the verdict.
        is_already_worse: INSUFFICIENT only for want of hours, and already worse than the margin allows.
    """

    verdict: Verdict
    difference: float | None
    interval: Interval
    method: str
    new: tuple[float, float]
    baseline: tuple[float, float]
    hours: int
    needed: int
    hours_to_go: float | None
    wants_word: bool
    is_already_worse: bool

    @property
    def passes(self) -> bool:
        """Whether the gate opens by itself."""
        return self.verdict.passes and not self.wants_word


def wilson(k: float, n: float, z: float = Z_95) -> Interval:
    """Return Wilson's score interval of a ratio; of nothing at all, from 0 to 1."""
    if n <= 0:
        return Interval(0.0, 1.0)
    ratio = k / n
    middle = ratio + z * z / (2 * n)
    half = z * math.sqrt(ratio * (1 - ratio) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def newcombe_wilson(k: float, n: float, baseline_k: float, baseline_n: float, z: float = Z_95) -> Interval:
    """Return the interval of k/n - baseline_k/baseline_n for independent requests (Newcombe's method 10)."""
    if n <= 0 or baseline_n <= 0:
        return Interval(-1.0, 1.0)
    ratio, baseline = k / n, baseline_k / baseline_n
    low, high = wilson(k, n, z)
    baseline_low, baseline_high = wilson(baseline_k, baseline_n, z)
    difference = ratio - baseline
    return Interval(
        difference - math.hypot(ratio - low, baseline_high - baseline),
        difference + math.hypot(high - ratio, baseline - baseline_low),
    )


def paired_interval(pairs: Sequence[Pair], confidence: float = 0.9) -> Interval | None:
    """Return the interval of the difference of pooled ratios, from how it varies between hours.

    Errors come in bursts: requests of one hour are not independent, hours nearly are. Each hour's influence on the
    difference is linearised, and Student's t taken over the hours. None for under two hours, or without requests.
    """
    count = len(pairs)
    n = sum(pair.n for pair in pairs)
    baseline_n = sum(pair.baseline_n for pair in pairs)
    if count < 2 or n <= 0 or baseline_n <= 0:  # noqa: PLR2004 - one hour does not vary
        return None
    ratio = sum(pair.k for pair in pairs) / n
    baseline = sum(pair.baseline_k for pair in pairs) / baseline_n
    influences = [
        (pair.k - ratio * pair.n) / (n / count) - (pair.baseline_k - baseline * pair.baseline_n) / (baseline_n / count)
        for pair in pairs
    ]
    error = math.sqrt(sum(each * each for each in influences) / (count * (count - 1)))
    half = t_quantile((1 + confidence) / 2, count - 1) * error
    return Interval(ratio - baseline - half, ratio - baseline + half)


def requests_needed(ratio: float) -> int:
    """Return how many requests each arm must have, from the baseline's ratio: for 90 % power at no difference."""
    planned = (Z_95 + Z_90) ** 2 * 2 * ratio * (1 - ratio) / MARGIN**2
    return max(MIN_REQUESTS, math.ceil(planned))


def judge(pairs: Sequence[Pair]) -> Judgement:
    """Return the verdict over paired hours, the hours of the new version against those of the baseline."""
    n, k = sum(pair.n for pair in pairs), sum(pair.k for pair in pairs)
    baseline_n, baseline_k = sum(pair.baseline_n for pair in pairs), sum(pair.baseline_k for pair in pairs)
    baseline = baseline_k / baseline_n if baseline_n else 0.0
    difference = k / n - baseline if n and baseline_n else None
    interval, method = _wider(newcombe_wilson(k, n, baseline_k, baseline_n), paired_interval(pairs))
    needed = requests_needed(baseline)
    has_requests = min(n, baseline_n) >= needed
    by_interval = _of(interval)
    verdict = by_interval if has_requests and len(pairs) >= MIN_HOURS else Verdict.INSUFFICIENT
    return Judgement(
        verdict=verdict,
        difference=difference,
        interval=interval,
        method=method,
        new=(k, n),
        baseline=(baseline_k, baseline_n),
        hours=len(pairs),
        needed=needed,
        hours_to_go=_hours_to_go(verdict, len(pairs), min(n, baseline_n), needed, difference, interval),
        wants_word=baseline_n > 0 and k > RISE * baseline * n and k - baseline * n >= RISE_ERRORS,
        is_already_worse=verdict is Verdict.INSUFFICIENT and has_requests and by_interval is Verdict.WORSE,
    )


def _wider(independent: Interval, paired: Interval | None) -> tuple[Interval, str]:
    if paired is not None and paired.width > independent.width:
        return paired, "paired hours, Student's t"
    return independent, "Newcombe-Wilson"


def _of(interval: Interval) -> Verdict:
    if interval.low > MARGIN:
        return Verdict.WORSE
    if interval.high < -MARGIN:
        return Verdict.BETTER
    if interval.low >= -MARGIN and interval.high <= MARGIN:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def _hours_to_go(
    verdict: Verdict, hours: int, requests: float, needed: int, difference: float | None, interval: Interval
) -> float | None:
    """Return how many hours more until the verdict is another, if they are like those before."""
    if difference is None or requests <= 0:
        return None
    if verdict is Verdict.INSUFFICIENT:
        return max(MIN_HOURS, hours * needed / requests) - hours
    if verdict is not Verdict.INCONCLUSIVE:
        return 0.0
    # An interval narrows with the root of the number of hours, until it lies on one side of the margin.
    room = abs(MARGIN - abs(difference))
    half = max(interval.high - difference, difference - interval.low)
    return hours * ((half / room) ** 2 - 1) if room else None
