"""How long a critical alert can take from fault to message: an upper bound, from the rules and intervals alone.

scrape interval + window x threshold / error share + evaluation interval + `for` (in whole evaluations) + group_wait.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# A share over which a ratio alerts, behind a windowed rate: `[5m])) > 0.05`.
_SHARE: Final = re.compile(r"\[(\w+)\]\)*\s*>=?\s*(0?\.\d+)")
_WINDOW: Final = re.compile(r"\[(\w+)\]")
LIMIT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Bound:
    """One critical alert's bound. `share`: of requests that fail; `covered_by`: a faster critical that mutes it."""

    alert: str
    seconds: float
    share: float
    covered_by: str = ""

    @property
    def is_in_time(self) -> bool:
        """Whether people hear of a total failure within five minutes, by this alert or the one that goes before it."""
        return self.seconds < LIMIT_S or bool(self.covered_by)


def seconds(duration: str) -> float:
    """Return a Prometheus duration (`1m30s`) in seconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


def bounds(monitoring: Path, share: float = 1.0) -> list[Bound]:
    """Return the bound of every critical alert, at this share of failing requests.

    Args:
        monitoring: folder of prometheus.yml, alerts.yml, alertmanager.yml.
        share: 0 to 1; a ratio below an alert's threshold is never found by it, which gives infinity.
    """
    prometheus = _load(monitoring / "prometheus.yml")["global"]
    manager = _load(monitoring / "alertmanager.yml")
    criticals = [
        rule
        for group in _load(monitoring / "alerts.yml")["groups"]
        for rule in group["rules"]
        if rule.get("labels", {}).get("severity") == "critical"
    ]
    wait_s = _group_wait(manager["route"])
    interval_s = seconds(prometheus["scrape_interval"]), seconds(prometheus["evaluation_interval"])
    found = {rule["alert"]: _bound(rule, *interval_s, wait_s, share) for rule in criticals}
    covered = {
        target: source
        for source, targets in _mutes(manager).items()
        for target in targets
        if source in found and target in found and found[source] < LIMIT_S
    }
    return [Bound(name, bound, share, covered.get(name, "")) for name, bound in found.items()]


def _bound(rule: dict[str, Any], scrape_s: float, evaluation_s: float, wait_s: float, share: float) -> float:
    ratios = [(seconds(window), float(threshold)) for window, threshold in _SHARE.findall(rule["expr"])]
    if ratios:
        if any(share <= threshold for _, threshold in ratios):
            return math.inf
        window_s = max(window * threshold / share for window, threshold in ratios)
    else:
        window_s = max((seconds(window) for window in _WINDOW.findall(rule["expr"])), default=0.0)
    for_s = math.ceil(seconds(str(rule.get("for", "0s"))) / evaluation_s) * evaluation_s
    return scrape_s + window_s + evaluation_s + for_s + wait_s


def _group_wait(route: dict[str, Any]) -> float:
    """Return the longest wait that any route has: a bound must hold for all."""
    default = seconds(route.get("group_wait", "30s"))
    return max([default, *(_group_wait({"group_wait": f"{default:.0f}s", **each}) for each in route.get("routes", ()))])


def _mutes(manager: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in manager.get("inhibit_rules", ()):
        sources = _alerts(rule["source_matchers"])
        for source in sources:
            found.setdefault(source, set()).update(_alerts(rule["target_matchers"]))
    return found


def _alerts(matchers: list[str]) -> list[str]:
    for matcher in matchers:
        named = re.fullmatch(r'\s*alertname\s*=~?\s*"([^"]+)"\s*', matcher)
        if named:
            return named[1].split("|")
    return []


def _load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content
