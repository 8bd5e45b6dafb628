"""The two ways back. Quick: the layer off, the exporter stopped, nothing else touched. Full: schema and code as before.

Full goes in this order, for the older code can't: our services stop, the newer version takes its migrations back, then
the older one starts. Rows are counted before and after.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ops.release import backup, schema
from ops.release.apply import is_running, remembered
from ops.release.journal import Journal
from ops.release.state import BACKUP, MIGRATE, PREPARE, RESTORE_TEST, START
from ops.release.steps import Runner, Step, silently
from ops.release.target import Target
from ops.stack.errors import StackError

QUICK: Final = "rollback-quick"
FULL: Final = "rollback-full"
COUNT: Final = "rollback-count"
_SCHEMA: Final = "rollback-schema"
# What `full` undoes of `apply`. The backup too: it holds what was there before, and not what has come since.
TAKEN_BACK: Final = (START, MIGRATE, RESTORE_TEST, BACKUP)
# Alembic's own, and no data.
_UNCOUNTED: Final = "alembic_version"


def quick(target: Target, journal: Journal, runner: Runner) -> float:
    """Switch the layer off and stop the exporter; return how many seconds it took.

    Raises:
        StackError: it failed; run again, it goes on.
    """
    started = time.monotonic()
    wanted = target.without_layer(target.running())
    runner.run(
        Step(
            QUICK,
            "the layer off, the exporter stopped, our services started again",
            do=silently(lambda: target.deploy(wanted)),
            verify=lambda: _runs(target, wanted),
            is_done=lambda: is_running(target, wanted),
            inputs=wanted,
        )
    )
    return _timed(journal, QUICK, started)


def full(
    target: Target, journal: Journal, runner: Runner, revision: str | None = None, accepted: str | None = None
) -> float:
    """Take the release's schema and code back; return how many seconds it took.

    Args:
        target: the system.
        journal: of the release that is taken back.
        runner: runs the steps.
        revision: to take the schema back to; what it was before the release, unless given.
        accepted: why rows may differ afterwards; they must not, unless given.

    Raises:
        StackError: another release is in service; nothing was touched. Or it failed; run again, it goes on.
    """
    started = time.monotonic()
    before = remembered(journal)
    goal = revision or before["schema"]
    if goal is None:
        raise StackError("Before this release there was no schema at all.", "Name a revision with --to.")
    _refuse_another(target, journal, before["running"])
    runner.run(_halting(target))
    with _told_as_halted():
        runner.run(_counting(target, journal))
        if schema.revision(target) != goal:
            runner.run(_downgrading(target, journal, goal))
        counted = journal.state().steps[COUNT].entry.evidence["rows"]
        runner.run(_comparing(target, journal, counted, accepted))
        runner.run(_starting(target, before["running"]))
    for step in TAKEN_BACK:
        journal.append("undo", step, evidence={"by": "rollback full"})
    return _timed(journal, FULL, started)


def _refuse_another(target: Target, journal: Journal, older: Mapping[str, Any]) -> None:
    """Touch nothing where another release is in service: its schema is not this one's to take back."""
    prepared = journal.state().steps.get(PREPARE)
    newer = str(prepared.entry.evidence.get("commit", "")) if prepared else ""
    running = str(target.running()["commit"])
    if running not in {newer, older["commit"]}:
        raise StackError(
            f"Version {running} runs, which release {journal.release} did not bring: nothing was touched.",
            "`commandcenter release status` names the releases; take that one back first, or leave --release away.",
        )
    now = schema.revision(target)
    if newer and now is not None and now not in target.revisions(newer):
        raise StackError(
            f"The schema is at {now}, of a version newer than {newer}: nothing was touched.",
            "Take the newer release back first: `commandcenter release status`.",
        )


@contextmanager
def _told_as_halted() -> Iterator[None]:
    """Say with each failure that the service was stopped, and how it comes back."""
    try:
        yield
    except StackError as error:
        raise StackError(
            f"API, worker and beat were stopped. {error.problem}",
            f"{error.way_out} Then run the same again. Or stay: `commandcenter release apply --yes` starts it again.",
            error.exit_code,
        ) from error


def _halting(target: Target) -> Step:
    return Step(
        "rollback-halt",
        "stop API, worker, beat and the exporter",
        do=silently(target.halt),
        verify=dict,
        is_done=lambda: False,
    )


def _counting(target: Target, journal: Journal) -> Step:
    def is_done() -> bool:
        """Whether the schema was touched since: only what was counted before that can show that something is lost."""
        counted, touched = (journal.state().steps.get(step) for step in (COUNT, _SCHEMA))
        ended = journal.state().verdicts.get(FULL, ())
        return (
            counted is not None
            and touched is not None
            and touched.entry.number > counted.entry.number
            and not any(entry.number > counted.entry.number for entry in ended)
        )

    return Step(COUNT, "count the rows", do=lambda: {"rows": _rows(target)}, verify=dict, is_done=is_done)


def _downgrading(target: Target, journal: Journal, goal: str) -> Step:
    # Only the version that brought the migrations knows how to take them back.
    newer = str(journal.state().steps[PREPARE].entry.evidence["commit"])
    return Step(
        _SCHEMA,
        f"take the schema back to {goal}",
        do=lambda: schema.migrate(target, newer, "downgrade", goal),
        verify=lambda: schema.at(target, goal),
        is_done=lambda: schema.revision(target) == goal,
        inputs=goal,
    )


def _comparing(target: Target, journal: Journal, counted: Mapping[str, int], accepted: str | None) -> Step:
    def compare() -> dict[str, Any]:
        now = _rows(target)
        lost = {table: (rows, now[table]) for table, rows in counted.items() if table in now and now[table] != rows}
        if lost and not accepted:
            told = ", ".join(f"{table} had {before}, has {after}" for table, (before, after) in lost.items())
            raise StackError(
                f"Rows differ after the migration: {told}.",
                "The backup of this release holds what was there. Or take it: --accept-rows 'why that is right'.",
            )
        if lost:
            journal.append("approval", FULL, evidence={"reason": journal.masked(accepted or ""), "rows": lost})
        return {"rows": now}

    return Step("rollback-compare", "count them again", do=compare, verify=dict, is_done=lambda: False)


def _starting(target: Target, older: Mapping[str, Any]) -> Step:
    wanted = older if schema.has_exporter_role(target) else target.without_exporter(older)
    return Step(
        "rollback-start",
        f"start {older['commit']} again",
        do=silently(lambda: target.deploy(wanted)),
        verify=lambda: _runs(target, wanted),
        is_done=lambda: is_running(target, wanted),
        inputs=wanted,
    )


def _rows(target: Target) -> dict[str, int]:
    with target.connect() as connection:
        return {table: rows for table, rows in backup.row_counts(connection).items() if table != _UNCOUNTED}


def _runs(target: Target, wanted: Mapping[str, Any]) -> dict[str, Any]:
    problems = {name: problem for name, problem in target.answers().items() if problem}
    if problems or target.running() != wanted:
        told = "; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "another version runs"
        raise StackError(f"The way back did not end well: {told}", "commandcenter status")
    return {"commit": wanted["commit"]}


def _timed(journal: Journal, name: str, started: float) -> float:
    took_s = round(time.monotonic() - started, 1)
    journal.append("verdict", name, evidence={"took_s": took_s})
    return took_s
