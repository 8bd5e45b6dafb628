"""Two days of series for a Prometheus that has watched nothing: the real ones, wider and longer.

Labels are those that the real system's Prometheus has just now; values are made up, and grow or wander as they would.
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.backfill import promtool

Labels = Mapping[str, str]

INTERVAL_S: Final = 15
# Prometheus's own blocks are as long.
BLOCK_S: Final = 2 * 3600
_DAY_S: Final = 24 * 3600
# What a busy system has more of than one that a test has used for seconds.
_WIDER: Final = {"handler": 15, "queryid": 100}


@dataclass(frozen=True)
class Series:
    """One series to make up."""

    text: str
    is_counter: bool
    # A second's increase, or the middle of what a gauge shows.
    scale: float
    phase: float


def widen(found: Iterable[Labels]) -> list[Labels]:
    """Return the series, with as many handlers and statements as a busy system has."""
    all_of = [dict(labels) for labels in found]
    for label, count in _WIDER.items():
        values = sorted({labels[label] for labels in all_of if label in labels})
        if not values:
            continue
        like = [labels for labels in all_of if labels.get(label) == values[0]]
        new = [{**labels, label: f"{values[0]}-{number}"} for number in range(count - len(values)) for labels in like]
        all_of += new
    return list({tuple(sorted(labels.items())): labels for labels in all_of}.values())


def make_up(found: Iterable[Labels], types: Mapping[str, str], seed: int = 0) -> list[Series]:
    """Return what to write for each series, ordered by name as the format wants it."""
    randomness = random.Random(seed)  # noqa: S311 - the same history each time
    made = []
    for labels in sorted(found, key=lambda each: (each["__name__"], sorted(each.items()))):
        name = labels["__name__"]
        counts = name.endswith(("_total", "_bucket", "_count", "_sum")) or types.get(name) in {"counter", "unknown"}
        rest = {key: value for key, value in labels.items() if key != "__name__"}
        # Buckets of one histogram must not cross: each gets the share below its bound.
        scale = 5 * (1 - math.exp(-3 * float(rest["le"]))) if "le" in rest else randomness.uniform(0.1, 5)
        inside = ",".join(f'{key}="{escaped(value)}"' for key, value in rest.items())
        made.append(Series(f"{name}{{{inside}}}", counts, scale, randomness.uniform(0, _DAY_S)))
    return made


def escaped(value: str) -> str:
    """Return a label's value as the exposition format writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _samples(series: Series, start_s: int, end_s: int, birth_s: int) -> Iterator[str]:
    for at in range(start_s, end_s, INTERVAL_S):
        wave = math.sin((at + series.phase) * 2 * math.pi / _DAY_S)
        value = series.scale * (at - birth_s) if series.is_counter else series.scale * (2 + wave)
        yield f"{series.text} {value:.6g} {at}\n"


def write_blocks(all_of: Iterable[Series], start_s: int, end_s: int, folder: Path, scratch: Path) -> int:
    """Write the samples of [start, end) as blocks to `folder` and return how many there were.

    promtool reads its whole input for each block of two hours, so each block gets a file of its own.
    """
    series = list(all_of)
    first = start_s - start_s % BLOCK_S

    def write(begin_s: int) -> int:
        file = scratch / f"{begin_s}.om"
        count = 0
        with file.open("w") as output:
            for each in series:
                lines = list(_samples(each, max(begin_s, start_s), min(begin_s + BLOCK_S, end_s), first))
                output.writelines(lines)
                count += len(lines)
            output.write("# EOF\n")
        promtool("create-blocks-from", "openmetrics", str(file), str(folder))
        file.unlink()
        return count

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(write, range(first, end_s, BLOCK_S)))
