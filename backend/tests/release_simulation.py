"""Releases that never were: hours of requests and errors whose true difference is known."""

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ops.release.statistics import Pair, Verdict, judge

BASELINE_RATIO: Final = 0.005
DIFFERENCES: Final = (0.0, 0.005, 0.02, 0.03, 0.05)


@dataclass(frozen=True)
class Scenario:
    """How traffic comes and errors fall.

    Attributes:
        requests: an hour, on average.
        swing: how much of it comes and goes with the day, 0 to 1.
        burst: the share of hours with ten times the errors of the others, in each arm for itself.
        missing: the share of hours that nobody measured.
        hours: observed.
        tolerated: how often a release that is worse by the margin itself may pass. A 90 % interval leaves 5 % on each
            side; a few bursts are too few to know how they vary.
    """

    requests: float
    swing: float = 0.0
    burst: float = 0.0
    missing: float = 0.0
    hours: int = 48
    tolerated: float = 0.07


SCENARIOS: Final = {
    "steady": Scenario(600),
    "day and night": Scenario(600, swing=0.9),
    "bursts": Scenario(600, swing=0.9, burst=1 / 12, tolerated=0.16),
    "hours missing": Scenario(600, swing=0.9, burst=1 / 12, missing=0.3, tolerated=0.25),
    "low traffic": Scenario(20, swing=0.9),
    "low, bursts": Scenario(20, swing=0.9, burst=1 / 12, tolerated=0.16),
    "next to none": Scenario(2),
}
_BURST: Final = 10


def release(scenario: Scenario, difference: float, randomness: random.Random) -> list[Pair]:
    """Return the paired hours of one release whose true ratio is higher by `difference`."""
    pairs = []
    for hour in range(scenario.hours):
        if randomness.random() < scenario.missing:
            continue
        mean = scenario.requests * (1 + scenario.swing * math.sin(hour * math.pi / 12))
        arms = []
        for ratio in (BASELINE_RATIO + difference, BASELINE_RATIO):
            n = _half(int(mean * 2), randomness)
            usual = ratio / (1 - scenario.burst + scenario.burst * _BURST)
            arms += [n, _binomial(n, usual * (_BURST if randomness.random() < scenario.burst else 1), randomness)]
        pairs.append(Pair(*arms))
    return pairs


def verdicts(scenario: Scenario, difference: float, releases: int, seed: int = 1) -> dict[Verdict, float]:
    """Return how often each verdict was given, as shares."""
    randomness = random.Random(seed)
    counts = Counter(judge(release(scenario, difference, randomness)).verdict for _ in range(releases))
    return {verdict: counts[verdict] / releases for verdict in Verdict}


def _binomial(trials: int, ratio: float, randomness: random.Random) -> int:
    """Return how many of the trials hit, going from hit to hit."""
    hits, at = 0, 0
    scale = math.log1p(-ratio)
    while True:
        at += 1 + int(math.log(1 - randomness.random()) / scale)
        if at > trials:
            return hits
        hits += 1


def _half(trials: int, randomness: random.Random) -> int:
    """Return how many of the trials hit where every second one does."""
    return randomness.getrandbits(trials).bit_count() if trials else 0
