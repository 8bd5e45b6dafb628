"""The bound that `python -m bench.paired` judges the layer's overhead by."""

import random

import pytest

from bench.bootstrap import p95_difference_bound


def test_the_bound_of_the_overhead_covers_the_true_one():
    """Pairs that share what slows both: the bound lies above the true difference nearly always, and not far above."""
    randomness = random.Random(7)
    bounds = []
    for number in range(40):
        off = [1 + randomness.expovariate(4) for _ in range(400)]
        on = [each + 0.1 + randomness.uniform(-0.02, 0.02) for each in off]
        bounds.append(p95_difference_bound(on, off, resamples=150, seed=number))
    assert sum(bound >= 0.1 for bound in bounds) >= 34
    assert max(bounds) < 0.25


def test_the_bound_of_no_overhead_is_next_to_none():
    same = [random.Random(1).random() for _ in range(300)]
    assert p95_difference_bound(same, same, resamples=100, seed=1) == 0
    with pytest.raises(ValueError, match="zip"):
        p95_difference_bound(same, same[1:])
