"""The report of a sign-off, for people (Markdown) and for scripts (JSON): the same facts in both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ops.release.gates import Result

MARKDOWN: Final = "signoff.md"
JSON: Final = "signoff.json"


@dataclass(frozen=True, slots=True)
class Waiver:
    """A person's word that a gate need not pass: for what it said then, and nothing else."""

    gate: str
    status: str
    reason: str
    who: str
    at: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that a sign-off rests on.

    Attributes:
        release: ID.
        who: signs.
        at: when, ISO 8601 with its zone.
        since: since when the version is in service.
        baseline: from when to when, and its SHA-256.
        results: what each gate said.
        waivers: by gate.
        checkpoints: what the watch wrote down, by name.
        steps: what was done, when, and how it ended.
        without: what the baseline lacks, by gate, with a person's reason.
        verified: the last verdict of `verify` since the version is in service; None where there is none.
        missing: checkpoints that nobody has written.
        journal_head: the journal's last hash at sign-off: nothing before it can be changed unnoticed.
    """

    release: str
    who: str
    at: str
    since: str
    baseline: Mapping[str, str]
    results: Sequence[Result]
    waivers: Mapping[str, Waiver]
    checkpoints: Mapping[str, Mapping[str, Any]]
    steps: Sequence[Mapping[str, str]]
    journal_head: str
    without: Mapping[str, Waiver] = field(default_factory=dict)
    verified: Mapping[str, Any] | None = None
    missing: Sequence[str] = ()

    @property
    def open_gates(self) -> list[Result]:
        """The gates that neither pass nor are waived."""
        return [result for result in self.results if not result.passes and result.gate not in self.waivers]

    @property
    def is_signed_off(self) -> bool:
        """Whether every gate passes, or is waived with a reason."""
        return not self.open_gates

    def as_json(self) -> str:
        """Return it for scripts."""
        return json.dumps({"signed_off": self.is_signed_off, **asdict(self)}, indent=2, default=str) + "\n"

    def as_markdown(self) -> str:
        """Return it for people."""
        verdict = "signed off" if self.is_signed_off else f"NOT signed off: {_names(self.open_gates)}"
        parts = [
            f"# Release {self.release}: {verdict}",
            f"By {self.who}, {self.at}. In service since {self.since}.",
            _table(("gate", "asked", "value", "wanted", "verdict"), [self._row(result) for result in self.results]),
        ]
        if self.open_gates:
            parts += ["## To do", "\n".join(f"- **{result.gate}**: {result.advice}" for result in self.open_gates)]
        parts += ["## Verified", self._verified(), "## Waived", _waived(self.waivers)]
        parts += ["## Missing from the baseline", _waived(self.without), "## Error ratio", self._error_ratio()]
        parts += ["## Ledger", self._ledger(), "## Queries", self._queries()]
        steps = [(step["step"], step["status"], step["at"], step["who"]) for step in self.steps]
        parts += ["## What was done", _table(("step", "status", "when", "who"), steps)]
        parts.append(f"Journal up to `{self.journal_head}`.")
        return "\n\n".join(parts) + "\n"

    def _row(self, result: Result) -> tuple[str, ...]:
        waived = f" (waived: {self.waivers[result.gate].reason})" if result.gate in self.waivers else ""
        return (result.gate, result.about, result.value, result.bound, f"{result.status}{waived}")

    def _verified(self) -> str:
        if self.verified is None:
            return "**Not verified** since it is in service: `commandcenter release verify`."
        not_ok = self.verified["not_ok"]
        well = self.verified["checks"] - len(not_ok)
        text = (
            f"{well} of {self.verified['checks']} checks were well, {self.verified['at']}, by {self.verified['who']}."
        )
        return text + (f" **Not well**: {', '.join(not_ok)}." if not_ok else "")

    def _error_ratio(self) -> str:
        lines = [
            f"Baseline: {self.baseline['since']} to {self.baseline['until']} (SHA-256 `{self.baseline['sha256']}`).",
            "How it is judged: docs/release-statistics.md.",
        ]
        rows = [(name, *_judged(evidence)) for name, evidence in self.checkpoints.items()]
        final = [each.details for each in self.results if each.gate == "error-ratio" and "verdict" in each.details]
        rows += [("at sign-off", *_judged(details)) for details in final]
        head = (
            "as of",
            "verdict",
            "failed / requests",
            "before",
            "difference, 90 % interval (points)",
            "hours",
            "not counted",
        )
        gone = [f"Checkpoints that nobody has written: **{', '.join(self.missing)}**."] if self.missing else []
        return "\n\n".join([*lines, _table(head, rows), *gone])

    def _ledger(self) -> str:
        fired = next((result.details.get("fired") for result in self.results if "fired" in result.details), None)
        seen = "unknown: Prometheus gave no answer" if fired is None else ", ".join(fired) or "none"
        return (
            f"Alerts that fired since: {seen}.\n\n"
            "Drills, backtests and a ledger of true and false alerts: **NOT YET PROVEN**. Proven of alerts is what "
            "their unit tests show."
        )

    def _queries(self) -> str:
        blocks = [
            f"{result.gate}:\n\n```\n" + "\n".join(result.queries) + "\n```"
            for result in self.results
            if result.queries
        ]
        return "\n\n".join(blocks)


def _waived(waivers: Mapping[str, Waiver]) -> str:
    rows = [(waiver.gate, waiver.status, waiver.reason, waiver.who, waiver.at) for waiver in waivers.values()]
    return _table(("gate", "said", "why it may be", "who", "when"), rows) if rows else "Nothing."


def _names(results: Sequence[Result]) -> str:
    return ", ".join(result.gate for result in results)


def _judged(figures: Mapping[str, Any]) -> tuple[str, ...]:
    new, before = figures["new"], figures["baseline"]
    low, high = figures["interval_90"]
    difference = "-" if figures["difference"] is None else f"{100 * figures['difference']:+.2f}"
    left_out = sum(figures["hours_left_out"].values()) + figures["hours_without_partner"]
    return (
        figures["verdict"],
        f"{new['failed']:.0f} / {new['requests']:.0f}",
        f"{before['failed']:.0f} / {before['requests']:.0f}",
        f"{difference} ({100 * low:+.2f} to {100 * high:+.2f}), {figures['method']}",
        str(figures["paired_hours"]),
        str(left_out),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """A cell ends at a bar, and a row at the end of a line."""
    return text.replace("|", "\\|").replace("\n", " ")
