"""Sign-off: every gate passes, or a person says why it need not, by name and with a reason."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ops.release import report
from ops.release.baseline import STEP as BASELINE
from ops.release.baseline import Baseline
from ops.release.gates import Result, Status
from ops.release.journal import Journal, operator
from ops.release.report import Report, Waiver
from ops.release.watch import CHECKPOINTS, is_of_this_service, missing, named, released_at, taken_back
from ops.stack.errors import StackError

STEP: Final = "signoff"
WATCHED: Final = "watched"


def gate_step(gate: str) -> str:
    """Return what an approval of a gate is called in the journal."""
    return f"gate {gate}"


def watched(journal: Journal) -> Result:
    """Say as a gate whether the watch has come to its end: a release signed off on its first day was not watched."""
    unwritten = _missing(journal)
    last = named(CHECKPOINTS[-1])
    return Result(
        WATCHED,
        "checkpoints of the watch",
        Status.INSUFFICIENT if last in unwritten else Status.PASS,
        f"not written: {', '.join(unwritten)}" if unwritten else "all are written",
        f"{last} is written",
        "Wait, and look: commandcenter release watch --once",
    )


def _missing(journal: Journal) -> list[str]:
    return [named(after) for after in missing(journal)]


def _verified(journal: Journal) -> dict[str, Any] | None:
    found = [each for each in journal.state().verdicts.get("verify", ()) if is_of_this_service(journal, each)]
    return {**found[-1].evidence, "at": found[-1].at, "who": found[-1].who} if found else None


def _without(journal: Journal) -> dict[str, Waiver]:
    """Return what the baseline goes without, by a person's word; only what it still lacked in the end."""
    lacking = journal.state().steps[BASELINE].entry.evidence.get("without", ())
    approvals = journal.state().approvals
    last = {gate: approvals[f"{BASELINE} {gate}"][-1] for gate in lacking if f"{BASELINE} {gate}" in approvals}
    return {
        gate: Waiver(gate, "no value before the release", entry.evidence["reason"], entry.who, entry.at)
        for gate, entry in last.items()
    }


def waive(journal: Journal, results: Sequence[Result], reasons: Mapping[str, str]) -> None:
    """Write down a person's word for gates that don't pass.

    Args:
        journal: the release's.
        results: what all gates say now.
        reasons: by gate, none of them empty.

    Raises:
        StackError: one of these gates passes.
    """
    by_name = {result.gate: result for result in results}
    for gate in reasons:
        if by_name[gate].passes:
            raise StackError(f"Gate {gate} passes: there is nothing to waive.", "Leave that --waive away.")
    for gate, reason in reasons.items():
        evidence = {
            "reason": reason,
            "status": by_name[gate].status.value,
            "value": journal.masked(by_name[gate].value),
        }
        journal.append("approval", gate_step(gate), evidence=evidence)


def waivers(journal: Journal, results: Sequence[Result]) -> dict[str, Waiver]:
    """Return the waivers that hold: of this time in service, and for what the gate says now.

    A word for INSUFFICIENT is none for WORSE.
    """
    found = {}
    for result in results:
        for entry in journal.state().approvals.get(gate_step(result.gate), ()):
            if (
                is_of_this_service(journal, entry)
                and entry.evidence.get("status") == result.status.value
                and not result.passes
            ):
                found[result.gate] = Waiver(
                    result.gate, result.status.value, entry.evidence["reason"], entry.who, entry.at
                )
    return found


def sign_off(journal: Journal, baseline: Baseline, results: Sequence[Result], folder: Path, at: datetime) -> Report:
    """Write the report, and the verdict into the journal.

    Raises:
        StackError: the release was taken back, or never was in service.
    """
    gone = taken_back(journal)
    if gone:
        raise StackError(f"Release {journal.release} was taken back ({gone}): there is nothing to sign off.", "")
    state = journal.state()
    made = Report(
        release=journal.release,
        who=operator(),
        at=at.isoformat(timespec="seconds"),
        since=released_at(journal).isoformat(timespec="seconds"),
        baseline={
            "since": baseline.since.isoformat(),
            "until": baseline.until.isoformat(),
            "sha256": state.steps[BASELINE].entry.evidence["sha256"],
        },
        results=results,
        waivers=waivers(journal, results),
        checkpoints={
            named(after): state.verdicts[named(after)][-1].evidence
            for after in CHECKPOINTS
            if named(after) in state.verdicts
        },
        steps=[
            {"step": name, "status": step.status, "at": step.entry.at, "who": step.entry.who}
            for name, step in state.steps.items()
        ],
        journal_head=journal.head,
        without=_without(journal),
        verified=_verified(journal),
        missing=_missing(journal),
    )
    evidence = {"signed_off": made.is_signed_off, "gates": {each.gate: each.status.value for each in results}}
    evidence["waivers"] = {gate: asdict(waiver) for gate, waiver in made.waivers.items()}
    for name, text in ((report.MARKDOWN, made.as_markdown()), (report.JSON, made.as_json())):
        (folder / name).write_text(text)
        evidence[name] = hashlib.sha256(text.encode()).hexdigest()
    journal.append("verdict", STEP, evidence=evidence)
    return made
