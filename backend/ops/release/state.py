"""What a journal's entries are, and what they add up to."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import orjson

Kind = Literal["intent", "done", "failed", "undo", "verdict", "approval"]
# The steps of `apply`, as journals name them.
REMEMBER: Final = "remember"
PREPARE: Final = "prepare"
BACKUP: Final = "backup"
RESTORE_TEST: Final = "restore-test"
MIGRATE: Final = "migrate"
PASSWORD: Final = "password"  # noqa: S105 - no password.
START: Final = "start"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `at` is ISO 8601 with its zone; `inputs` is the SHA-256 of what the step worked from, or empty."""

    number: int
    release: str
    at: str
    who: str
    kind: Kind
    step: str
    inputs: str
    evidence: Mapping[str, Any]
    before: str
    hash: str

    @property
    def moment(self) -> datetime:
        """When it was written."""
        return datetime.fromisoformat(self.at)


@dataclass(frozen=True, slots=True)
class StepState:
    """What is known of one step: `unknown` means it was begun and nobody wrote how it ended: ask reality."""

    step: str
    status: Literal["unknown", "done", "failed", "undone"]
    entry: Entry

    @property
    def is_done(self) -> bool:
        """Whether it need not be done again, for the same inputs."""
        return self.status == "done"


@dataclass(frozen=True, slots=True)
class State:
    """What a journal adds up to."""

    steps: Mapping[str, StepState] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    approvals: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)

    def is_done(self, step: str, inputs: Any = None) -> bool:
        """Whether `step` is done, and with these inputs where some are given."""
        found = self.steps.get(step)
        return found is not None and found.is_done and (inputs is None or found.entry.inputs == digest(inputs))

    @property
    def unknown(self) -> tuple[str, ...]:
        """The steps whose end nobody wrote down."""
        return tuple(step for step, state in self.steps.items() if state.status == "unknown")


_STATUS: Final[Mapping[Kind, Literal["unknown", "done", "failed", "undone"]]] = {
    "intent": "unknown",
    "done": "done",
    "failed": "failed",
    "undo": "undone",
}


def fold(entries: Iterable[Entry]) -> State:
    """Return what the entries add up to: of each step its last word, verdicts and approvals in order.

    A step is taken back by a new `intent`, and then `undo` once that was verified, or `failed`.
    """
    steps: dict[str, StepState] = {}
    verdicts: dict[str, tuple[Entry, ...]] = {}
    approvals: dict[str, tuple[Entry, ...]] = {}
    for entry in entries:
        if entry.kind == "verdict":
            verdicts[entry.step] = (*verdicts.get(entry.step, ()), entry)
        elif entry.kind == "approval":
            approvals[entry.step] = (*approvals.get(entry.step, ()), entry)
        else:
            steps[entry.step] = StepState(entry.step, _STATUS[entry.kind], entry)
    return State(steps, verdicts, approvals)


def digest(inputs: Any) -> str:
    """Return the SHA-256 of inputs (JSON), whatever the order of their keys; empty for None."""
    return "" if inputs is None else hashlib.sha256(encoded(inputs)).hexdigest()


def encoded(value: Any) -> bytes:
    """Return JSON, the same for the same value."""
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
