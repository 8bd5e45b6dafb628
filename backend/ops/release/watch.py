"""The watch over a new version: checkpoints at 1, 24 and 48 hours, each recomputed from Prometheus's history.

A missed look loses nothing: what was due is made up for, as of when it was due. Only two things roll back by
themselves, once: WORSE at two full hours running, or health that fails 3 of 5 times.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from ops.release import exits, history
from ops.release.baseline import Baseline
from ops.release.history import Window
from ops.release.journal import Journal
from ops.release.judging import Judged, in_words, judgement
from ops.release.prometheus import Failed, Prometheus, said
from ops.release.rollback import FULL, QUICK
from ops.release.state import START, Entry
from ops.release.statistics import Verdict
from ops.stack.errors import StackError, in_plain_words

ROLLBACK_STEP: Final = "watch rollback"
CHECKPOINTS: Final = (timedelta(hours=1), timedelta(hours=24), timedelta(hours=48))
PROBES: Final = 5
FAILURES: Final = 3
PROBE_PAUSE_S: Final = 30.0
# The last scrape of an hour, and the time until it can be asked for.
_SETTLE: Final = timedelta(minutes=2)
_HOUR: Final = timedelta(hours=1)

Health = Callable[[], str]
Rollback = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was judged as of one moment."""

    name: str
    at: datetime
    judged: Judged


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the release found.

    Attributes:
        outcome: `rolled back`, `rollback failed`, `worse`, `waiting`, `inconclusive` or `passed`.
        why: in words.
        made: checkpoints that were due and are written down now.
        next_at: when the next one is due; None after the last.
    """

    outcome: Literal["rolled back", "rollback failed", "worse", "waiting", "inconclusive", "passed"]
    why: str
    made: Sequence[Checkpoint] = ()
    next_at: datetime | None = None

    @property
    def exit_code(self) -> int:
        """What it means to a script."""
        return _EXIT_CODES[self.outcome]

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.outcome in {"rolled back", "rollback failed"} or (
            self.next_at is None and self.outcome != "waiting"
        )


_EXIT_CODES: Final = {
    "passed": exits.OK,
    "worse": exits.FAILED,
    "waiting": exits.WAITING,
    "inconclusive": exits.INCONCLUSIVE,
    "rolled back": exits.ROLLED_BACK,
    "rollback failed": exits.ROLLBACK_FAILED,
}


def released_at(journal: Journal) -> datetime:
    """Return when the new version was healthy.

    Raises:
        StackError: it is not in service, by the journal.
    """
    return _started(journal).moment


def is_of_this_service(journal: Journal, entry: Entry) -> bool:
    """Whether a line was written since the new version is in service. By its place: clocks are too coarse, or go wrong.

    Raises:
        StackError: it is not in service, by the journal.
    """
    return entry.number > _started(journal).number


def _started(journal: Journal) -> Entry:
    """Return the line by which the version came into service; it may have been taken back since."""
    state = journal.state().steps.get(START)
    started = [entry for entry in journal.entries if (entry.kind, entry.step) == ("done", START)]
    if state is None or state.status not in {"done", "undone"} or not started:
        raise StackError(f"Release {journal.release} is not in service.", "commandcenter release apply --yes")
    return started[-1]


def taken_back(journal: Journal) -> str:
    """Return which way the release was taken back last since it was in service, and how that ended; or nothing.

    `rollback-full: done` only once all of it is; until then the step it stopped at, as `rollback-schema: failed`.
    """
    state = journal.state()
    steps = [
        each
        for step, each in state.steps.items()
        if step.startswith("rollback") and is_of_this_service(journal, each.entry)
    ]
    if not steps:
        return ""
    last = max(steps, key=lambda each: each.entry.number)
    if last.step == QUICK:
        return f"{QUICK}: {last.status}"
    if state.steps[START].status == "undone":
        return f"{FULL}: done"
    # All its steps may be done, and its end not be written yet.
    return f"{last.step}: {'unknown' if last.is_done else last.status}"


def named(after: timedelta) -> str:
    """Return a checkpoint's name."""
    return f"watch {after // _HOUR} h"


def missing(journal: Journal) -> list[timedelta]:
    """Return the checkpoints that nobody has written since the version is in service."""
    written = journal.state().verdicts
    return [
        after
        for after in CHECKPOINTS
        if not any(is_of_this_service(journal, entry) for entry in written.get(named(after), ()))
    ]


def failing_health(health: Health, pause: Callable[[float], object] = time.sleep) -> str:
    """Return what is wrong if the service fails too often; a single failure is asked again.

    It takes minutes where the service is away, so nobody's way back should have to wait for it.

    Args:
        health: asks the service, and returns what is wrong in words, or nothing.
        pause: waits between two questions, in seconds.
    """
    failures: list[str] = []
    for asked in range(PROBES):
        problem = health()
        failures += [problem] if problem else []
        if len(failures) == FAILURES:
            return failures[-1]
        # The rest can't make it three any more.
        if FAILURES - len(failures) > PROBES - 1 - asked or not failures:
            return ""
        pause(PROBE_PAUSE_S)
    return ""


class Watch:
    """Looks at one release, as often as one likes.

    Args:
        prometheus: whom to ask.
        journal: the release's; checkpoints and the rollback are written there.
        baseline: what it is judged against; without, only its health is.
        windows: deployments and drills, as they are known at each look.
        rollback: takes the release back, the quick way, for a reason; raises StackError where that fails.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        journal: Journal,
        baseline: Baseline | None,
        windows: Callable[[], Sequence[Window]],
        rollback: Rollback,
    ) -> None:
        self._prometheus = prometheus
        self._journal = journal
        self._baseline = baseline
        self._windows = windows
        self._rollback = rollback
        # The deployment's own hour is not judged.
        self._released_at = released_at(journal)
        self.since = history.hour_after(self._released_at)

    def look(self, now: datetime, sick: str = "") -> Look:
        """Look once: health first, then what is due, then whether it is worse.

        Args:
            now: the time.
            sick: what `failing_health` said.
        """
        ended = self._ended_before()
        if ended is not None:
            return ended
        if sick:
            return self._roll_back(f"health failed {FAILURES} of {PROBES} times: {sick}")
        if self._baseline is None:
            ends_at = self.since + CHECKPOINTS[-1]
            why = "no baseline was kept: errors can't be judged, only its health is watched"
            return Look("inconclusive", why, next_at=ends_at if now < ends_at else None)
        made: list[Checkpoint] = []
        for after in missing(self._journal):
            if self.since + after + _SETTLE > now:
                break
            found = self._judge(self.since + after)
            if isinstance(found, Failed):
                return Look("inconclusive", f"{named(after)} is due, but Prometheus gives {said(found)}", made, now)
            made.append(self._write(after, found))
        return self._conclude(now, made)

    def _ended_before(self) -> Look | None:
        own = self._journal.state().steps.get(ROLLBACK_STEP)
        is_ours = own is not None and is_of_this_service(self._journal, own.entry)
        way = taken_back(self._journal)
        if own is not None and is_ours and own.status != "done":
            if way.endswith(": done"):
                # A person finished it, or it was done before its end could be written down.
                self._journal.append("done", ROLLBACK_STEP, evidence={"found": way})
                return Look("rolled back", f"the release was taken back ({way})")
            if own.status == "unknown":
                return self._finish_rollback(str(own.entry.evidence.get("reason", "")))
            return Look("rollback failed", f"this watch tried to roll back before, and it failed ({way or 'at once'})")
        if way and not way.endswith(": done"):
            return Look("rollback failed", f"it was begun and did not end well ({way})")
        return Look("rolled back", f"the release was taken back ({way or 'by this watch'})") if way or is_ours else None

    def _judge(self, until: datetime) -> Judged | Failed:
        hours = self._baseline.hours if self._baseline else ()
        return judgement(self._prometheus, hours, self.since, until, self._windows())

    def _write(self, after: timedelta, judged: Judged) -> Checkpoint:
        at = self.since + after
        evidence = {
            "since": self.since.isoformat(),
            "until": at.isoformat(),
            "queries": [history.REQUESTS, history.UP],
            **judged.as_json(),
        }
        self._journal.append("verdict", named(after), evidence=evidence)
        return Checkpoint(named(after), at, judged)

    def _conclude(self, now: datetime, made: Sequence[Checkpoint]) -> Look:
        """Say how it stands at the last full hour, and roll back if it was worse at the one before, too."""
        following = missing(self._journal)
        next_at = self.since + following[0] + _SETTLE if following else None
        last = history.hour_before(now - _SETTLE)
        if last <= self.since:
            return Look("waiting", "no full hour is over yet", made, next_at)
        found = self._judge(last)
        if isinstance(found, Failed):
            return Look("inconclusive", f"Prometheus gives {said(found)}", made, next_at)
        words = in_words(found.of)
        if found.of.verdict is Verdict.WORSE:
            before = self._judge(last - _HOUR)
            if isinstance(before, Judged) and before.of.verdict is Verdict.WORSE:
                return self._roll_back(f"worse at two full hours running: {words}", made)
        if found.of.verdict is Verdict.WORSE or found.of.is_already_worse:
            return Look("worse", words, made, next_at)
        if next_at is not None:
            return Look("waiting", words, made, next_at)
        return Look("passed" if found.of.passes else "inconclusive", words, made)

    def _roll_back(self, reason: str, made: Sequence[Checkpoint] = ()) -> Look:
        """Roll back, once in the life of a release; written down before, so that no second watch does it again."""
        reason = self._journal.masked(reason)
        if ROLLBACK_STEP in self._journal.state().steps:
            return Look("worse", f"{reason}; it was rolled back by itself once, now a person must decide", made)
        self._journal.append("intent", ROLLBACK_STEP, evidence={"reason": reason})
        return self._finish_rollback(reason, made)

    def _finish_rollback(self, reason: str, made: Sequence[Checkpoint] = ()) -> Look:
        """Do it, or go on where a watch was killed that did."""
        try:
            with in_plain_words("The way back"):
                self._rollback(reason)
        except StackError as error:
            self._journal.append("failed", ROLLBACK_STEP, evidence={"exit_code": error.exit_code})
            return Look("rollback failed", f"{reason}. {error.problem} {error.way_out}", made)
        self._journal.append("done", ROLLBACK_STEP, evidence={"reason": reason})
        return Look("rolled back", reason, made)
