"""Steps that change something: each asks whether it is done, does, verifies, and is written down before and after.

Run again, what is done is left alone. What was begun and never ended is asked of reality: nobody knows what a process
did that was killed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from ops.release.journal import Journal
from ops.stack.errors import StackError, in_plain_words

Evidence = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        name: in the journal.
        about: what it does, in a few words.
        do: does it, and returns what is worth writing down. Bears being run twice.
        verify: raises StackError unless it is done; what it returns is written down too.
        is_done: asks reality, without changing it. Only asked where the journal doesn't say `done`, or may be outdated.
        inputs: what it works from; done for other inputs is not done.
        needs_record: what it found counts, so it is done again where a crash kept that from being written down.
    """

    name: str
    about: str
    do: Callable[[], Evidence]
    verify: Callable[[], Evidence]
    is_done: Callable[[], bool]
    inputs: Any = None
    needs_record: bool = False


def silently(action: Callable[[], None]) -> Callable[[], Evidence]:
    """Return something to do that has nothing to say."""

    def do() -> Evidence:
        action()
        return {}

    return do


class Runner:
    """Runs steps and tells how it goes, a line each.

    Args:
        journal: the release's.
        console: where it is shown.
    """

    def __init__(self, journal: Journal, console: Console) -> None:
        self._journal = journal
        self._console = console

    def run(self, step: Step) -> Evidence:
        """Do a step unless it is done; return what the journal says of it.

        Raises:
            StackError: it failed; the journal says so too.
        """
        before = self._journal.state().steps.get(step.name)
        with in_plain_words(step.about):
            is_done = self._journal.state().is_done(step.name, step.inputs) and step.is_done()
        if is_done:
            self._console.print(f"  [green]✓[/] {step.about} [dim](done before)[/]", highlight=False)
            return before.entry.evidence if before else {}
        started = time.monotonic()
        was_cut_off = before is not None and before.status == "unknown"
        self._journal.append("intent", step.name, inputs=step.inputs)
        try:
            evidence: dict[str, Any] = {}
            with in_plain_words(step.about):
                if was_cut_off and not step.needs_record and step.is_done():
                    evidence["found"] = "done already, by a run that was cut off"
                else:
                    evidence |= self._watched(step)
                evidence |= step.verify()
        except StackError as error:
            self._journal.append(
                "failed", step.name, inputs=step.inputs, evidence={"problem": self._journal.masked(error.problem)}
            )
            self._console.print(f"  [red]✗[/] {step.about}", highlight=False)
            raise
        took_s = round(time.monotonic() - started, 3)
        self._journal.append("done", step.name, inputs=step.inputs, evidence=evidence | {"took_s": took_s})
        told = escape(_shown(evidence))
        self._console.print(f"  [green]✓[/] {step.about} [dim]({took_s:.1f} s){told}[/]", highlight=False)
        return evidence

    def _watched(self, step: Step) -> Evidence:
        if not self._console.is_terminal:
            return step.do()
        with self._console.status(step.about):
            return step.do()


def _shown(evidence: Evidence) -> str:
    """Return the short figures of what was done."""
    figures = [f"{name} {value}" for name, value in evidence.items() if isinstance(value, (int, float, bool))]
    return f" {', '.join(figures)}" if figures else ""
