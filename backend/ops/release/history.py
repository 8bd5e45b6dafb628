"""Hours of a service's life, from Prometheus's history: how many requests, how many failed, and was it up.

From counters that existed before the release. Counts are whole: a series that is born with its first error counts from
zero, which `increase()` would miss, and one that starts again does not count backwards.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Final, Literal

from ops.release.journal import Journal
from ops.release.prometheus import Failed, Line, Prometheus
from ops.release.state import Entry
from ops.release.statistics import Pair

# As the alerts count: probes and scrapes are no traffic.
REQUESTS: Final = 'http_requests_total{service="api",handler!~"(/api/v1)?/(health.*|metrics)"}'
# Two minutes: with the usual five, a Prometheus that stood still would seem to have looked.
UP: Final = 'last_over_time(up{service="api"}[2m])'
STEP_S: Final = 60
HOUR_S: Final = 3600
MIN_UP: Final = 0.9
_DOWN: Final = f"up under {MIN_UP:.0%} of the time"
_DAY_S: Final = 24 * HOUR_S
_GIVEN_UP_AFTER: Final = timedelta(hours=1)
# Steps in a journal that leave the service alone; all others belong to a deployment.
_HARMLESS: Final = ("baseline", "verify", "watch", "signoff")


@dataclass(frozen=True, slots=True)
class Window:
    """A time that says nothing of the version's own errors. `why`: `deployment` or `drill`."""

    start: datetime
    end: datetime
    why: Literal["deployment", "drill"]


@dataclass(frozen=True, slots=True)
class Hour:
    """One full hour (UTC). `n` and `k` are None where nothing was measured; `left_out` says why it doesn't count."""

    start: datetime
    n: float | None
    k: float | None
    up: float
    left_out: str

    @property
    def counts(self) -> bool:
        """Whether it may be compared."""
        return not self.left_out

    @property
    def of_week(self) -> int:
        """Hours since Monday, midnight UTC."""
        return self.start.weekday() * 24 + self.start.hour


@dataclass(frozen=True, slots=True)
class Pairing:
    """Hours of the new version beside those of the baseline, and those that have no partner there."""

    pairs: Sequence[Pair]
    without_partner: Sequence[Hour]


def hour_before(moment: datetime) -> datetime:
    """Return the last full hour (UTC) that is not after `moment`."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hour_after(moment: datetime) -> datetime:
    """Return the first full hour (UTC) that is not before `moment`."""
    hour = hour_before(moment)
    return hour if hour == moment else hour + timedelta(hours=1)


def hours(prometheus: Prometheus, start: datetime, end: datetime, windows: Iterable[Window]) -> list[Hour] | Failed:
    """Return the full hours between two times, and which of them don't count.

    Args:
        prometheus: whom to ask.
        start: the first full hour from here on.
        end: the last full hour until here.
        windows: deployments and drills; an hour that touches one is left out.
    """
    first, last = hour_after(start), hour_before(end)
    count = round((last - first).total_seconds() / HOUR_S)
    if count <= 0:
        return []
    # An hour more in front: what was there already is not new.
    begin, finish = first.timestamp() - HOUR_S, last.timestamp()
    up = _range(prometheus, UP, begin, finish)
    if isinstance(up, Failed):
        return up
    requests = _range(prometheus, REQUESTS, begin, finish)
    if isinstance(requests, Failed):
        return requests
    n, k, seen = _counts(requests, _first_seen(up), first.timestamp(), count)
    shares = _up_shares(up, first.timestamp(), count)
    out = list(windows)
    found = []
    for number in range(count):
        begins = first + timedelta(hours=number)
        measured = number in seen
        reason = _left_out(begins, out, shares[number], is_measured=measured)
        found.append(
            Hour(begins, n[number] if measured else None, k[number] if measured else None, shares[number], reason)
        )
    return found


def _range(prometheus: Prometheus, query: str, start: float, end: float) -> list[Line] | Failed:
    """Ask day by day: one answer for two weeks of all series would take its time, and much memory."""
    found: list[Line] = []
    while start < end:
        part = prometheus.range(query, start, min(end, start + _DAY_S), STEP_S)
        if isinstance(part, Failed):
            return part
        found += part
        start += _DAY_S + STEP_S
    return found


def _left_out(begins: datetime, windows: Iterable[Window], up: float, *, is_measured: bool) -> str:
    ends = begins + timedelta(hours=1)
    for window in windows:
        if window.start < ends and window.end >= begins:
            return window.why
    if up < MIN_UP:
        return _DOWN
    return "" if is_measured else "nothing measured"


def _first_seen(up: Iterable[Line]) -> dict[str, float]:
    """Return since when each instance is known to be up."""
    found: dict[str, float] = {}
    for line in up:
        instance = line.labels.get("instance", "")
        for at, value in line.points:
            if value == 1:
                found[instance] = min(at, found.get(instance, at))
                break
    return found


def _up_shares(up: Iterable[Line], first: float, count: int) -> list[float]:
    """Return for each hour the share of minutes that an instance was up, on average; a minute without word is none."""
    minutes: dict[int, list[float]] = {}
    for line in up:
        for at, value in line.points:
            minutes.setdefault(round((at - first) / STEP_S), []).append(value)
    shares = []
    for number in range(count):
        # As with counts, the minute at the full hour belongs to the hour that ends with it.
        each = [minutes.get(minute) for minute in range(number * 60 + 1, number * 60 + 61)]
        shares.append(sum(sum(values) / len(values) for values in each if values) / 60)
    return shares


def _counts(
    requests: Iterable[Line], first_seen: dict[str, float], first: float, count: int
) -> tuple[list[float], list[float], set[int]]:
    """Return requests and failed requests of each hour, and the hours in which there was any series."""
    n, k = [0.0] * count, [0.0] * count
    seen: set[int] = set()
    for (labels, is_error), points in _series(requests).items():
        since = first_seen.get(dict(labels).get("instance", ""))
        for at, increase in _increases(points, since):
            hour = int((at - first - 1) // HOUR_S)
            if 0 <= hour < count:
                seen.add(hour)
                n[hour] += increase
                k[hour] += increase if is_error else 0
    return n, k, seen


def _series(lines: Iterable[Line]) -> dict[tuple[tuple[tuple[str, str], ...], bool], list[tuple[float, float]]]:
    """Return the points of each series in order; days were asked for one by one."""
    found: dict[tuple[tuple[tuple[str, str], ...], bool], list[tuple[float, float]]] = {}
    for line in lines:
        key = tuple(sorted(line.labels.items()))
        found.setdefault((key, line.labels.get("status", "").startswith("5")), []).extend(line.points)
    return found


def _increases(points: Sequence[tuple[float, float]], seen_since: float | None) -> Iterator[tuple[float, float]]:
    """Yield by how much a counter grew up to each point.

    A series that appears while its instance is already watched was born then: all of its value is new. One that was
    there when we began to look is not.
    """
    before: float | None = None
    for at, value in points:
        if before is None:
            yield at, value if seen_since is not None and seen_since < at else 0.0
        else:
            yield at, value - before if value >= before else value
        before = value


def pair(baseline: Iterable[Hour], new: Iterable[Hour]) -> Pairing:
    """Return the hours that count, each beside the same hour of the week in the baseline."""
    before = _by_hour_of_week(baseline)
    after = _by_hour_of_week(new)
    pairs = [
        Pair(*_sums(mine), *_sums(before[hour_of_week]))
        for hour_of_week, mine in after.items()
        if hour_of_week in before
    ]
    alone = [hour for hour_of_week, mine in after.items() if hour_of_week not in before for hour in mine]
    return Pairing(pairs, alone)


def _by_hour_of_week(all_of: Iterable[Hour]) -> dict[int, list[Hour]]:
    found: dict[int, list[Hour]] = {}
    for hour in all_of:
        if hour.counts:
            found.setdefault(hour.of_week, []).append(hour)
    return found


def _sums(some: Iterable[Hour]) -> tuple[float, float]:
    measured = list(some)
    return sum(hour.n or 0.0 for hour in measured), sum(hour.k or 0.0 for hour in measured)


def windows_of(journals: Iterable[Journal], now: datetime) -> list[Window]:
    """Return the deployments and drills that journals tell of.

    What has no end yet goes on until now, but no longer than an hour after its journal's last word, nor into another
    release: what was given up without a word must not swallow all history that comes after it.
    """
    written = sorted((journal.entries for journal in journals if journal.entries), key=lambda each: each[0].moment)
    beginnings = [entries[0].moment for entries in written[1:]]
    found: list[Window] = []
    for entries, following in zip_longest(written, beginnings):
        found += _windows(entries, min(now, entries[-1].moment + _GIVEN_UP_AFTER, following or now))
    return found


def _windows(entries: Sequence[Entry], until: datetime) -> Iterator[Window]:
    begun: dict[str, datetime] = {}
    for entry in entries:
        if entry.kind in {"verdict", "approval"} or entry.step.startswith(_HARMLESS):
            continue
        if entry.kind == "intent":
            begun.setdefault(entry.step, entry.moment)
        else:
            yield Window(begun.pop(entry.step, entry.moment), entry.moment, _why(entry.step))
    for step, start in begun.items():
        yield Window(start, max(start, until), _why(step))


def _why(step: str) -> Literal["deployment", "drill"]:
    return "drill" if step.startswith("drill") else "deployment"
