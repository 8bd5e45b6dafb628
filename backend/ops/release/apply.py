"""`apply`: backup with a restore test, migration by the new version, the exporter's password, start, healthy.

Each step is written down before and after it; run again, it goes on where it was.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ops.release import backup, schema
from ops.release.journal import Journal
from ops.release.state import BACKUP, MIGRATE, PASSWORD, PREPARE, REMEMBER, RESTORE_TEST, START
from ops.release.steps import Runner, Step, silently
from ops.release.target import Target
from ops.stack.errors import StackError

# An `apply` that goes on after longer backs up again: meanwhile the service wrote.
_BACKUP_LASTS: Final = timedelta(hours=1)


def steps(target: Target, journal: Journal, commit: str, folder: Path) -> list[Step]:
    """Return the steps that bring a version into service, in their order.

    Args:
        target: the system.
        journal: the release's.
        commit: of the version.
        folder: the release's; the backup goes there.
    """
    file = folder / "backup.dump"

    def said(step: str) -> Mapping[str, Any]:
        """Return what the journal holds of a step that is done."""
        return journal.state().steps[step].entry.evidence

    def head() -> str:
        return target.revisions(commit)[0]

    def wanted() -> Mapping[str, Any]:
        made = target.prepare(commit)
        # A version from before that role has nobody to let in.
        return made if schema.has_exporter_role(target) else target.without_exporter(made)

    def let_exporter_in() -> Mapping[str, Any]:
        if not schema.has_exporter_role(target):
            return {"role": "not in this schema"}
        target.set_exporter_password()
        return {}

    return [
        Step(
            REMEMBER,
            "remember what runs now",
            do=lambda: {"running": target.kept(), "schema": schema.revision(target)},
            verify=dict,
            is_done=lambda: True,
            needs_record=True,
        ),
        Step(
            PREPARE,
            f"lay version {commit} ready",
            do=lambda: {"python": target.prepare(commit).get("python")},
            verify=lambda: _knows_the_schema(target, commit),
            is_done=lambda: target.is_prepared(commit),
            inputs=commit,
        ),
        Step(
            BACKUP,
            "back the database up",
            do=lambda: backup.take(target, backup.with_former_kept(file)),
            verify=dict,
            is_done=lambda: (
                _is_of_now(journal)
                and backup.is_whole(file, journal.state().steps[BACKUP].entry.evidence.get("sha256", ""))
            ),
            inputs=str(file),
            needs_record=True,
        ),
        Step(
            RESTORE_TEST,
            "restore the backup, and count its rows",
            do=lambda: backup.restore_test(target, file, said(BACKUP)["rows"]),
            verify=dict,
            is_done=lambda: True,
            inputs=said(BACKUP).get("sha256") if journal.state().is_done(BACKUP) else None,
            needs_record=True,
        ),
        Step(
            MIGRATE,
            "migrate the schema",
            do=lambda: schema.migrate(target, commit, "upgrade", head()),
            verify=lambda: schema.at(target, head()),
            is_done=lambda: schema.revision(target) == head(),
            inputs=commit,
        ),
        Step(
            PASSWORD,
            "set the exporter's password, as a verifier",
            do=let_exporter_in,
            verify=dict,
            # Nobody can read a password back; setting it twice does no harm.
            is_done=lambda: False,
        ),
        Step(
            START,
            f"start {commit} and wait until all is healthy",
            do=silently(lambda: target.deploy(wanted())),
            verify=lambda: _is_healthy(target, commit),
            is_done=lambda: is_running(target, wanted()),
            inputs=commit,
        ),
    ]


def _is_of_now(journal: Journal) -> bool:
    """Whether the backup holds what the migration finds. Once the schema is migrated it can't be made again."""
    state = journal.state()
    return state.is_done(MIGRATE) or datetime.now(UTC) - state.steps[BACKUP].entry.moment < _BACKUP_LASTS


def apply(target: Target, journal: Journal, runner: Runner, commit: str, folder: Path) -> None:
    """Bring a version into service.

    Raises:
        StackError: a step failed. What was done stays; run again, it goes on from there.
    """
    names = [step.name for step in steps(target, journal, commit, folder)]
    for name in names:
        # Made anew each time: what a step works from may be what the one before it wrote down.
        [step] = [each for each in steps(target, journal, commit, folder) if each.name == name]
        runner.run(step)


def remembered(journal: Journal) -> Mapping[str, Any]:
    """Return what ran before this release, `running` and `schema`.

    Raises:
        StackError: the release was never applied.
    """
    found = journal.state().steps.get(REMEMBER)
    if found is None or not found.is_done:
        raise StackError(
            f"Release {journal.release} was never applied: there is nothing to go back to.",
            "commandcenter release status",
        )
    return found.entry.evidence


def _knows_the_schema(target: Target, commit: str) -> dict[str, Any]:
    """Old code with a newer schema is a rollback, and has another order."""
    now, known = schema.revision(target), target.revisions(commit)
    if now is not None and now not in known:
        raise StackError(
            f"The database is at revision {now}, which version {commit} does not know: it is older.",
            "Go back with `commandcenter release rollback full`: there the newer version takes its changes back first.",
        )
    return {"commit": commit, "head": known[0]}


def is_running(target: Target, wanted: Mapping[str, Any]) -> bool:
    """Whether this runs, as `deploy` takes it, and every part is well."""
    return target.running() == wanted and not any(target.answers().values())


def _is_healthy(target: Target, commit: str) -> dict[str, Any]:
    problems = {name: problem for name, problem in target.answers().items() if problem}
    if problems:
        told = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise StackError(f"Not healthy: {told}", "commandcenter status; or back: commandcenter release rollback quick")
    running = target.running()["commit"]
    if running != commit:
        raise StackError(f"Version {running} runs instead of {commit}.", "commandcenter release status")
    return {"commit": running}
