"""How often the verdict on a release is wrong: `python -m bench.release`.

Simulates releases whose true difference is known and prints how often each verdict was given. Nothing is timed.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from ops.release.statistics import MARGIN, Verdict
from tests.release_simulation import BASELINE_RATIO, DIFFERENCES, SCENARIOS, verdicts

RELEASES: Final = 2000


def main() -> int:
    """Print the table; 1 where one worse by the margin or more passes too often, or one within is called worse."""
    print(
        f"{RELEASES} releases each; the baseline's ratio is {BASELINE_RATIO:.1%}, the margin {MARGIN:.0%}; shares in %"
    )
    print(f"{'scenario':<16}{'difference':>11}" + "".join(f"{verdict:>14}" for verdict in Verdict))
    cases = [(name, difference) for name in SCENARIOS for difference in DIFFERENCES]
    with ProcessPoolExecutor(2) as pool:
        results = pool.map(_of, cases)
        missed = False
        for (name, difference), shares in zip(cases, results, strict=True):
            print(f"{name:<16}{difference:>11.1%}" + "".join(f"{shares[verdict] * 100:>14.1f}" for verdict in Verdict))
            passed = sum(share for verdict, share in shares.items() if verdict.passes)
            wrong = passed if difference >= MARGIN else shares[Verdict.WORSE]
            missed = missed or wrong > SCENARIOS[name].tolerated
    return int(missed)


def _of(case: tuple[str, float]) -> dict[Verdict, float]:
    name, difference = case
    return verdicts(SCENARIOS[name], difference, RELEASES)


if __name__ == "__main__":
    sys.exit(main())
