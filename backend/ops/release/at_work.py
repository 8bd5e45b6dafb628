"""What every command that changes something begins with: the target, the lock, the journal, the runner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ops.release import lock
from ops.release.choice import choose_target
from ops.release.journal import Journal
from ops.release.place import new_id
from ops.release.state import PREPARE, digest
from ops.release.steps import Runner
from ops.release.target import Target
from ops.stack.errors import StackError


@dataclass(frozen=True)
class Work:
    """A release at work: `folder` is its own."""

    target: Target
    journal: Journal
    runner: Runner
    folder: Path


@contextmanager
def at_work(
    console: Console, doing: str, release: str | None = None, *, begin: bool = False, commit: str | None = None
) -> Iterator[Work]:
    """Hold the lock, and open the journal of a release.

    Args:
        console: where progress is shown.
        doing: the command, for others who want the lock.
        release: ID; the one that was begun last, unless given.
        begin: make a new release where there is none.
        commit: what the release must bring; where the latest one brings another, a new one is made.

    Raises:
        StackError: another operator is at work (exit code 7), or there is no such release.
    """
    target = choose_target(console)
    places = target.releases
    with lock.held(places.lock, doing) as held:
        secrets = tuple(target.secrets)
        if release is None and begin and (not places.ids() or not _brings(places.journal(), commit)):
            release = new_id(commit or target.resolve("HEAD"))
        journal = places.journal(release, secrets=secrets, before_append=held.check)
        if not _brings(journal, commit):
            raise StackError(
                f"Release {release} brings another version than {commit}.", "Leave --release away: a new one is made."
            )
        held.tell(journal)
        yield Work(target, journal, Runner(journal, console), places.of(journal.release))


def _brings(journal: Journal, commit: str | None) -> bool:
    """Whether a release may be about this commit: one that was never applied may be about any."""
    prepared = journal.state().steps.get(PREPARE)
    return commit is None or prepared is None or prepared.entry.inputs == digest(commit)
