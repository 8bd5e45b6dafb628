"""The upper bound of what a percentile grew by, over pairs of measurements: a bootstrap of the pairs.

Pure: no clock, no file. docs/release-statistics.md says why it was chosen.
"""

import random
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them lie below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def p95_difference_bound(
    on: Sequence[float], off: Sequence[float], *, resamples: int = 1000, seed: int | None = None
) -> float:
    """Return the upper 95 % bound of p95(on) - p95(off), by a bootstrap of the pairs.

    Args:
        on: what each request took with the layer.
        off: what the other one of its pair took without.
        resamples: drawn with replacement, pairs as a whole.
        seed: for the same answer again.

    Raises:
        ValueError: not as many of the one as of the other.
    """
    randomness = random.Random(seed)  # noqa: S311 - statistics
    pairs = list(zip(on, off, strict=True))
    differences = []
    for _ in range(resamples):
        sample = randomness.choices(pairs, k=len(pairs))
        differences.append(quantile([pair[0] for pair in sample], 0.95) - quantile([pair[1] for pair in sample], 0.95))
    return quantile(differences, 0.95)
