"""How long a critical alert can take from fault to message: an upper bound, from the rules and intervals alone.

scrape interval + window x threshold / error share + evaluation interval + `for` (in whole evaluations) + group_wait.

It holds where there is traffic enough for the alert's rule: below the rule's floor nothing fires by it. A ratio has a
bound for each share of requests that fail, and none at its threshold or under; a release is refused by the bounds for a
total failure. What is known for smaller shares is told beside it: `least_share` and `worst_s`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.alerting import stages
from ops.release import inhibition, ruleset
from ops.release.inhibition import Inhibition
from ops.release.ruleset import seconds
from ops.stack.errors import StackError
from ops.stack.monitoring import load

# A share over which a ratio alerts, behind a windowed rate: `[5m])) > 0.05`.
_SHARE: Final = re.compile(r"\[(\w+)\]\)*\s*>=?\s*(0?\.\d+)")
# Of a subquery, the range: `[30m:1m]`.
_WINDOW: Final = re.compile(r"\[(\w+)(?::\w*)?\]")
LIMIT_S: Final = 300.0
TOTAL_FAILURE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bound:
    """One critical alert's bound.

    seconds: at most, at `share`.
    share: of requests that fail, 0 to 1.
    covered_by: a critical that is in time at this share, reaches people where this one does, and mutes it; or nothing.
    least_share: people hear in time where more than this share fails, 0 to 1; None where at no share. 0 where no ratio
        decides.
    worst_s: at most, at any share that this alert fires at.
    """

    alert: str
    seconds: float
    share: float
    covered_by: str
    least_share: float | None
    worst_s: float

    @property
    def is_in_time(self) -> bool:
        """Whether people hear of this within five minutes at `share`, by this alert or the one that goes before it."""
        return self.seconds < LIMIT_S or bool(self.covered_by)


@dataclass(frozen=True, slots=True)
class _Alert:
    """A critical alert. `fixed_s`: what it takes at any share; `ratios`: windows (s), thresholds; `labels`: stated."""

    name: str
    fixed_s: float
    ratios: tuple[tuple[float, float], ...]
    labels: Mapping[str, str]
    stage: str

    @property
    def worst_s(self) -> float:
        """Seconds at most, at any share that it fires at: right over a threshold, a window has to fill."""
        return self.fixed_s + max((window for window, _ in self.ratios), default=0.0)

    @property
    def least_share(self) -> float:
        """In time where more than this share fails; infinite where at no share."""
        left_s = LIMIT_S - self.fixed_s
        if left_s <= 0:
            return math.inf
        return max((max(threshold, window * threshold / left_s) for window, threshold in self.ratios), default=0.0)

    def seconds(self, share: float) -> float:
        """Return the bound at a share of failing requests; infinite where it doesn't fire at that."""
        if any(share <= threshold for _, threshold in self.ratios):
            return math.inf
        return self.fixed_s + max((window * threshold / share for window, threshold in self.ratios), default=0.0)


def bounds(monitoring: Path, manager: Path, share: float = TOTAL_FAILURE) -> list[Bound]:
    """Return the bound of every critical alert, at this share of failing requests.

    Args:
        monitoring: folder of prometheus.yml and of the rules that it loads.
        manager: Alertmanager's configuration.
        share: 0 to 1; a ratio at or below an alert's threshold is never found by it, which gives infinity.

    Raises:
        StackError: one of these files can't be read, or is not what its program takes.
    """
    config = load(manager)
    try:
        criticals = list(_criticals(monitoring, _group_wait(config["route"], 30.0)))
        inhibitions = inhibition.read(config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StackError(
            f"Rules or configuration are not in order ({type(error).__name__}: {error}).",
            "commandcenter release preflight says which file promtool or amtool refuses.",
        ) from error
    return [
        _bound(alert, share, [each for each in criticals if each != alert and _covers(each, alert, inhibitions)])
        for alert in criticals
    ]


def _bound(alert: _Alert, share: float, covering: Sequence[_Alert]) -> Bound:
    in_time = [each for each in covering if each.seconds(share) < LIMIT_S]
    covered_by = min(in_time, key=lambda each: each.seconds(share)).name if in_time else ""
    least = min(each.least_share for each in (alert, *covering))
    known = None if math.isinf(least) else least
    return Bound(alert.name, alert.seconds(share), share, covered_by, known, alert.worst_s)


def _covers(source: _Alert, target: _Alert, inhibitions: Sequence[Inhibition]) -> bool:
    """Whether people who would hear of `target` hear of `source`, which mutes it.

    Of a shadow alert nobody hears: a live one is covered by a live one alone. While `target` is shadow itself, both are
    judged as they would be promoted.
    """
    stages_ = ("live", "live") if target.stage == "shadow" else (source.stage, target.stage)
    given, wanted = ({**each.labels, "stage": stage} for each, stage in zip((source, target), stages_, strict=True))
    return given["stage"] == "live" and any(rule.mutes(given, wanted) for rule in inhibitions)


def _criticals(monitoring: Path, wait_s: float) -> Iterator[_Alert]:
    config = load(monitoring / "prometheus.yml")
    defaults = {"scrape_interval": "1m", "evaluation_interval": "1m"} | (config.get("global") or {})
    # A bound must hold for all: that of the slowest job.
    jobs = config.get("scrape_configs") or ()
    scrape_s = max([seconds(str((defaults | job)["scrape_interval"])) for job in ({}, *jobs)])
    alerts = [rule for rule in ruleset.read(monitoring) if rule.kind == "alert"]
    staged = stages.of_config(config, [rule.name for rule in alerts])
    for rule in alerts:
        if rule.labels.get("severity") == "critical":
            every_s = seconds(rule.interval or str(defaults["evaluation_interval"]))
            for_s = math.ceil(rule.for_s / every_s) * every_s
            ratios = tuple((seconds(window), float(limit)) for window, limit in _SHARE.findall(rule.expr))
            windows = [seconds(window) for window in _WINDOW.findall(rule.expr)]
            # Where no share is read, nobody knows how much of the window it takes.
            filled_s = 0.0 if ratios else max(windows, default=0.0)
            fixed_s = scrape_s + filled_s + every_s + for_s + wait_s
            yield _Alert(rule.name, fixed_s, ratios, {**rule.labels, "alertname": rule.name}, staged[rule.name])


def _group_wait(route: Mapping[str, Any], inherited_s: float) -> float:
    """Return the longest wait (s) that a route or one below it has: a bound must hold for all."""
    own_s = seconds(str(route["group_wait"])) if "group_wait" in route else inherited_s
    return max([own_s, *(_group_wait(each, own_s) for each in route.get("routes") or ())])
