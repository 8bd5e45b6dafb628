"""The judgement of a release's hours against its baseline, in figures and in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.release import history
from ops.release.history import Hour, Window
from ops.release.prometheus import Failed, Prometheus
from ops.release.statistics import MIN_HOURS, Judgement, Verdict, judge


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement of hours, with those that did not count."""

    of: Judgement
    hours: Sequence[Hour]
    without_partner: Sequence[Hour]

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        reasons = sorted({hour.left_out for hour in self.hours if hour.left_out})
        judged = self.of
        return {
            "verdict": judged.verdict.value,
            "difference": judged.difference,
            "interval_90": list(judged.interval),
            "method": judged.method,
            "new": {"failed": judged.new[0], "requests": judged.new[1]},
            "baseline": {"failed": judged.baseline[0], "requests": judged.baseline[1]},
            "paired_hours": judged.hours,
            "requests_needed": judged.needed,
            "hours_to_go": judged.hours_to_go,
            "wants_word": judged.wants_word,
            "is_already_worse": judged.is_already_worse,
            "hours_left_out": {reason: sum(hour.left_out == reason for hour in self.hours) for reason in reasons},
            "hours_without_partner": len(self.without_partner),
        }


def judgement(
    prometheus: Prometheus, baseline: Iterable[Hour], since: datetime, until: datetime, windows: Iterable[Window]
) -> Judged | Failed:
    """Judge the full hours from `since` to `until` against the baseline."""
    found = history.hours(prometheus, since, until, windows)
    if isinstance(found, Failed):
        return found
    pairing = history.pair(baseline, found)
    return Judged(judge(pairing.pairs), found, pairing.without_partner)


def in_words(judged: Judgement) -> str:
    """Return a judgement in one line."""
    if judged.difference is None:
        return f"{judged.verdict}: no requests to compare in {judged.hours} paired hours; nothing is excluded"
    (k, n), (baseline_k, baseline_n) = judged.new, judged.baseline
    low, high = (100 * limit for limit in judged.interval)
    text = (
        f"{judged.verdict}: {100 * k / n:.2f} % of {n:.0f} requests failed, {100 * baseline_k / baseline_n:.2f} % of "
        f"{baseline_n:.0f} before; {100 * judged.difference:+.2f} points, 90 % sure from {low:+.2f} to {high:+.2f}, "
        f"{judged.hours} paired hours"
    )
    if judged.verdict is Verdict.INSUFFICIENT:
        text += f"; a rise of {high:.1f} points is not excluded, {_time_to_go(judged)}"
    if judged.is_already_worse:
        text += "; ALREADY WORSE than the margin allows, though it is early"
    if judged.wants_word:
        text += f"; {k:.0f} failed where {baseline_k / baseline_n * n:.0f} were to be expected"
    return text


def _time_to_go(judged: Judgement) -> str:
    """Return how long it takes until there is enough to judge."""
    if judged.hours_to_go is None:
        return "and at this rate of requests it never will be"
    return f"which takes about {judged.hours_to_go:.0f} hours more at this rate"


def advice(found: Judged) -> str:
    """Return what to do with a judgement that did not pass."""
    judged = found.of
    if judged.verdict is Verdict.WORSE or judged.is_already_worse:
        return "Look what fails (commandcenter errors); go back: commandcenter release rollback quick --yes"
    if judged.wants_word:
        return (
            "Errors rose by more than half. Look at them: commandcenter errors. If you accept them, say so with --waive"
        )
    return _how_to_know_more(found)


def _how_to_know_more(found: Judged) -> str:
    judged = found.of
    if not found.hours:
        return f"Wait: no full hour is over yet, and {MIN_HOURS} are the least"
    if not judged.hours:
        alone = len(found.without_partner)
        return (
            f"No hour has a partner in the baseline: {len(found.hours) - alone} were left out, {alone} have none there"
        )
    if judged.hours_to_go is None:
        return "Without traffic nothing is proven. Send real requests, or accept that with --waive and a reason"
    if judged.hours_to_go > 0:
        return f"Wait: about {judged.hours_to_go:.0f} hours more at this rate"
    return "Check the measurement: is it the same service, the same traffic?" if judged.verdict.passes else "Wait"
