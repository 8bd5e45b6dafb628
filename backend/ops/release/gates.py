"""The gates at sign-off: each a question to Prometheus, a bound, and what to do when it is not kept.

Only a value can pass. What nobody has proven yet is named so, and never passed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ops.release import findings, history
from ops.release.findings import Finding
from ops.release.history import Hour, Window
from ops.release.judging import advice, in_words, judgement
from ops.release.loading import Loads
from ops.release.prometheus import Answer, Failed, Prometheus, Value, said
from ops.release.statistics import MARGIN, Verdict

_OVERHEAD: Final = "commandcenter_observability_overhead_seconds"
_OVERHEAD_BOUND_S: Final = 0.001
# The 99.9th percentile of fewer is one request's luck.
_OVERHEAD_REQUESTS: Final = 1000
_POOL_BOUND: Final = 0.5
_LOAD_BOUND_S: Final = 3.0


class Status(StrEnum):
    """What a gate says. Only PASS opens it; everything else takes a person's word."""

    PASS = "PASS"  # noqa: S105 - no password.
    FAIL = "FAIL"
    WANTS_A_WORD = "WANTS A PERSON'S WORD"
    INCONCLUSIVE = "INCONCLUSIVE"
    INSUFFICIENT = "INSUFFICIENT"
    NO_VALUE = "NO VALUE"
    NOT_YET_PROVEN = "NOT YET PROVEN"


@dataclass(frozen=True, slots=True)
class Result:
    """What one gate said.

    Attributes:
        gate: its name, as `--waive` takes it.
        about: what is asked, in words.
        status: see Status.
        value: in words.
        bound: in words.
        advice: what to do if it did not pass.
        queries: what Prometheus was asked.
        details: figures behind the value (JSON).
    """

    gate: str
    about: str
    status: Status
    value: str
    bound: str
    advice: str
    queries: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        """Whether it opens by itself."""
        return self.status is Status.PASS

    def finding(self) -> Finding:
        """Return it as a line to show."""
        says_so = self.passes or self.value.startswith(self.status)
        shown = self.value if says_so else f"{self.status}: {self.value}"
        verdict = _FINDINGS.get(self.status, "inconclusive")
        return Finding(f"{self.gate} ({self.about})", verdict, shown, self.bound, "" if self.passes else self.advice)

    def as_json(self) -> dict[str, Any]:
        """Return it for a script, or for the report."""
        return asdict(self)


_FINDINGS: Final[Mapping[Status, findings.Verdict]] = {Status.PASS: "ok", Status.FAIL: "failed"}


@dataclass(frozen=True)
class Ground:
    """What gates judge from.

    Attributes:
        prometheus: whom to ask.
        baseline: the hours before the release.
        since: when the new version was healthy.
        until: up to when it is judged.
        windows: deployments and drills.
        loads: times how long dashboards take; None where there are none.
    """

    prometheus: Prometheus
    baseline: Sequence[Hour]
    since: datetime
    until: datetime
    windows: Sequence[Window] = ()
    loads: Callable[[Prometheus, datetime], Loads | Failed] | None = None

    @property
    def range(self) -> str:
        """The time that is judged, as PromQL says it; a minute at least."""
        return f"{max(60, round((self.until - self.since).total_seconds()))}s"

    def ask(self, query: str) -> Answer:
        """Ask for one number, as of the end of that time."""
        return self.prometheus.instant(query, self.until.timestamp())


def evaluate(ground: Ground) -> list[Result]:
    """Return what every gate says."""
    return [gate(ground) for gate in GATES.values()]


def error_ratio(ground: Ground) -> Result:
    """Is the share of failed requests equivalent to the baseline's?"""
    judged = judgement(ground.prometheus, ground.baseline, ground.since, ground.until, ground.windows)
    about = "share of failed requests, against the same hours of the week before"
    bound = f"equivalent within ±{MARGIN * 100:g} points"
    queries = (history.REQUESTS, history.UP)
    if isinstance(judged, Failed):
        return Result("error-ratio", about, Status.NO_VALUE, said(judged), bound, _REACH, queries)
    status = _STATUS[judged.of.verdict]
    if judged.of.verdict.passes and judged.of.wants_word:
        status = Status.WANTS_A_WORD
    return Result("error-ratio", about, status, in_words(judged.of), bound, advice(judged), queries, judged.as_json())


_STATUS: Final = {
    Verdict.EQUIVALENT: Status.PASS,
    Verdict.BETTER: Status.PASS,
    Verdict.WORSE: Status.FAIL,
    Verdict.INCONCLUSIVE: Status.INCONCLUSIVE,
    Verdict.INSUFFICIENT: Status.INSUFFICIENT,
}
_REACH: Final = "Start Prometheus, or give it the address with which it answers: commandcenter status"


def overhead(ground: Ground) -> Result:
    """Does the layer itself take under 1 ms, for 999 of 1,000 requests?"""
    selected = f'{{service="api"}}[{ground.range}]'
    query = f"histogram_quantile(0.999, sum by (le) (increase({_OVERHEAD}_bucket{selected})))"
    count_query = f"sum(increase({_OVERHEAD}_count{selected}))"
    about, bound = "what the layer itself takes, p99.9", "under 1 ms"
    count = ground.ask(count_query)
    if isinstance(count, Value) and count.number < _OVERHEAD_REQUESTS:
        value = f"{count.number:.0f} requests measured, {_OVERHEAD_REQUESTS} are needed"
        todo = "Wait for more traffic"
        return Result("overhead", about, Status.INSUFFICIENT, value, bound, todo, (query, count_query))
    return _bounded(
        "overhead",
        about,
        ground.ask(query),
        _OVERHEAD_BOUND_S,
        lambda seconds: f"{seconds * 1000:.2f} ms",
        bound,
        "Find the hook that takes it (python -m bench.paired); CORRELATION_ENABLED=false switches the layer off",
        (query, count_query),
    )


def pool(ground: Ground) -> Result:
    """Was the fullest connection pool at most half full?"""
    share = (
        'sum by (service) (commandcenter_db_pool_connections{state="checked_out"})'
        " / sum by (service) (commandcenter_db_pool_max_connections)"
    )
    query = f"max(max_over_time(({share})[{ground.range}:15s]))"
    return _bounded(
        "pool",
        "connections taken of the fullest pool, at its worst moment",
        ground.ask(query),
        _POOL_BOUND,
        lambda taken: f"{taken:.0%}",
        "under 50 %",
        "See who holds connections (dashboard database-performance); raise DB_POOL_SIZE if it is traffic",
        (query,),
    )


def false_positives(ground: Ground) -> Result:
    """Did an alert fire without reason? Nobody has kept a ledger yet: what fired is shown, and nothing passed."""
    query = (
        f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing",alertname!="Watchdog"}}[{ground.range}]))'
    )
    found = ground.prometheus.vector(query, ground.until.timestamp())
    if isinstance(found, Failed):
        value, fired = said(found), None
    else:
        fired = sorted(each.labels.get("alertname", "?") for each in found)
        value = f"no ledger says which were right; fired: {', '.join(fired) or 'none'}"
    return Result(
        "false-positives",
        "alerts that fired without reason",
        Status.NOT_YET_PROVEN,
        value,
        "none",
        "Look at each alert that fired; if each had a reason, say so with --waive",
        (query,),
        {} if fired is None else {"fired": fired},
    )


def time_to_detect(_: Ground) -> Result:
    """Does every critical alert find its fault in time? Only a drill can tell."""
    return Result(
        "time-to-detect",
        "from a real fault to its critical alert",
        Status.NOT_YET_PROVEN,
        "no drill was held",
        "under 5 min",
        "There is no drill yet; if you go without, say so with --waive",
    )


def dashboards(ground: Ground) -> Result:
    """Does Prometheus answer all of a dashboard's queries in time, for 48 h?"""
    about, bound = "all queries of the slowest dashboard, over 48 h", "under 3 s"
    todo = "Find the slow query (python -m bench.dashboards), and record its sum (backend/dashboards/recording.py)"
    if ground.loads is None:
        return Result("dashboards", about, Status.NOT_YET_PROVEN, "no dashboards at hand", bound, todo)
    found = ground.loads(ground.prometheus, ground.until)
    if isinstance(found, Failed):
        return Result("dashboards", about, Status.NO_VALUE, said(found), bound, todo)
    slowest = max(found.seconds, key=lambda name: found.seconds[name])
    status = Status.PASS if found.seconds[slowest] < _LOAD_BOUND_S else Status.FAIL
    value = f"{slowest}: {found.seconds[slowest]:.2f} s"
    return Result("dashboards", about, status, value, bound, todo, details={"seconds": dict(found.seconds)})


GATES: Final[Mapping[str, Callable[[Ground], Result]]] = {
    "error-ratio": error_ratio,
    "overhead": overhead,
    "pool": pool,
    "false-positives": false_positives,
    "time-to-detect": time_to_detect,
    "dashboards": dashboards,
}


def _bounded(
    gate: str,
    about: str,
    answer: Answer,
    limit: float,
    shown: Callable[[float], str],
    bound: str,
    todo: str,
    queries: Sequence[str],
) -> Result:
    if not isinstance(answer, Value):
        missing = "Is the metric there, and is its target up? commandcenter release verify"
        return Result(gate, about, Status.NO_VALUE, said(answer), bound, missing, queries)
    status = Status.PASS if answer.number < limit else Status.FAIL
    return Result(gate, about, status, shown(answer.number), bound, todo, queries, {"value": answer.number})
