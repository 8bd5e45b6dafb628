"""The baseline: the hours before a release, kept with it, so that nobody can judge it by other hours later."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ops.release import history
from ops.release.gates import GATES, Ground, Result, Status
from ops.release.history import Hour
from ops.release.journal import Journal
from ops.release.prometheus import Failed, said
from ops.release.statistics import MIN_HOURS
from ops.stack.errors import StackError

FILE: Final = "baseline.json"
STEP: Final = "baseline"
DAYS: Final = 7
_WATCHED_HOURS: Final = 48
# These have no query of their own: one is told by drills, one is made of hours and asked in another way.
_OWN: Final = ("time-to-detect", "error-ratio")
CHECKED: Final = ("error-ratio", "partners", *(gate for gate in GATES if gate not in _OWN))


@dataclass(frozen=True, slots=True)
class Baseline:
    """Hours between two times, with what they were asked of."""

    since: datetime
    until: datetime
    prometheus: str
    hours: Sequence[Hour]


def check(ground: Ground, hours: Sequence[Hour] | Failed) -> list[Result]:
    """Return whether each gate's query gives a value, over the hours before the release."""
    results = [_has_hours(hours), _has_partners(hours, ground.until)]
    for name, gate in GATES.items():
        if name in _OWN:
            continue
        found = gate(ground)
        # Whether the value is good is asked later; here it must be there.
        is_there = found.status is not Status.NO_VALUE and not _is_unanswered(found)
        status = Status.PASS if is_there else Status.FAIL
        missing = f"{found.advice}. If the old version can't have it, say so: --without {name}=REASON"
        results.append(Result(name, found.about, status, found.value, "a value", missing, found.queries, found.details))
    return results


def _is_unanswered(result: Result) -> bool:
    return result.status is Status.NOT_YET_PROVEN and not result.details


def _has_hours(hours: Sequence[Hour] | Failed) -> Result:
    about, bound = "share of failed requests, hour by hour", f"{MIN_HOURS} hours that count, with requests"
    queries = (history.REQUESTS, history.UP)
    if isinstance(hours, Failed):
        todo = "Start Prometheus, or wait for it: commandcenter status"
        return Result("error-ratio", about, Status.FAIL, said(hours), bound, todo, queries)
    counting = [hour for hour in hours if hour.counts]
    n, k = sum(hour.n or 0 for hour in counting), sum(hour.k or 0 for hour in counting)
    reasons = sorted({hour.left_out for hour in hours if hour.left_out})
    left_out = ", ".join(f"{sum(hour.left_out == reason for hour in hours)} {reason}" for reason in reasons)
    value = f"{len(counting)} of {len(hours)} hours count" + (f" (left out: {left_out})" if left_out else "")
    if n:
        value += f"; {100 * k / n:.2f} % of {n:.0f} requests failed"
    status = Status.PASS if len(counting) >= MIN_HOURS and n else Status.FAIL
    todo = "Wait for a day of history with traffic. Or accept that nothing can be proven: --without error-ratio=REASON"
    return Result("error-ratio", about, status, value, bound, todo, queries)


def _has_partners(hours: Sequence[Hour] | Failed, until: datetime) -> Result:
    """Tell how many of the hours to come can be paired."""
    known = set() if isinstance(hours, Failed) else {hour.of_week for hour in hours if hour.counts}
    first = history.hour_after(until)
    coming = [Hour(first + timedelta(hours=number), 0, 0, 1, "").of_week for number in range(_WATCHED_HOURS)]
    paired = sum(each in known for each in coming)
    return Result(
        "partners",
        "hours to come that have the same hour of the week here",
        Status.PASS if paired >= MIN_HOURS else Status.FAIL,
        f"{paired} of {_WATCHED_HOURS}",
        f"{MIN_HOURS} at least",
        f"The baseline must reach back a week (--days {DAYS}) over hours that count. Or: --without partners=REASON",
    )


def save(baseline: Baseline, results: Iterable[Result], folder: Path) -> str:
    """Write the baseline into the release's folder, and return its SHA-256."""
    document = {
        "since": baseline.since.isoformat(),
        "until": baseline.until.isoformat(),
        "prometheus": baseline.prometheus,
        "queries": {"requests": history.REQUESTS, "up": history.UP},
        "gates": [result.as_json() for result in results],
        "hours": [
            {"start": hour.start.isoformat(), "n": hour.n, "k": hour.k, "up": hour.up, "left_out": hour.left_out}
            for hour in baseline.hours
        ],
    }
    content = (json.dumps(document, indent=1) + "\n").encode()
    (folder / FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load(folder: Path, journal: Journal) -> Baseline:
    """Return a release's baseline.

    Raises:
        StackError: none was taken, or it isn't the one that was.
    """
    taken = journal.state().steps.get(STEP)
    path = folder / FILE
    if taken is None or not taken.is_done or not path.exists():
        raise StackError(
            f"Release {journal.release} has no baseline: there is nothing to judge it against.",
            "It must be taken before `apply`: commandcenter release baseline",
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != taken.entry.evidence.get("sha256"):
        raise StackError(f"{path} was changed since it was taken.", "Put back the file that the journal means.")
    document: Mapping[str, Any] = json.loads(content)
    return Baseline(
        datetime.fromisoformat(document["since"]),
        datetime.fromisoformat(document["until"]),
        document["prometheus"],
        [Hour(**{**hour, "start": datetime.fromisoformat(hour["start"])}) for hour in document["hours"]],
    )
