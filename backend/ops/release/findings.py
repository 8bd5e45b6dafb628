"""What a check found, one line each: what was asked, the value, the bound, and what to do if it is not well."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from rich.console import Console
from rich.markup import escape

from ops.release.exits import FAILED, INCONCLUSIVE, OK

Verdict = Literal["ok", "failed", "inconclusive"]
_SHOWN: Final = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "inconclusive": "[yellow]?[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question. `advice`: what to do, where it is not `ok`."""

    check: str
    verdict: Verdict
    value: str
    bound: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for a script, or for the journal."""
        return asdict(self)


def judged(check: str, *, well: bool, value: str, bound: str, advice: str) -> Finding:
    """Return a finding that is either well or failed."""
    return Finding(check, "ok" if well else "failed", value, bound, "" if well else advice)


def show(finding: Finding, console: Console) -> None:
    """Print the line of a finding, and a second one with the advice."""
    text = f"  {_SHOWN[finding.verdict]} {escape(finding.check)}: {escape(finding.value)}"
    if finding.verdict == "ok":
        console.print(f"{text} [dim](wanted: {escape(finding.bound)})[/]", highlight=False, soft_wrap=True)
        return
    console.print(f"{text} [bold](wanted: {escape(finding.bound)})[/]", highlight=False, soft_wrap=True)
    if finding.advice:
        console.print(f"    → {escape(finding.advice)}", highlight=False, soft_wrap=True)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return what they all amount to: 1 if any failed, else 4 if any could not be told."""
    verdicts = {finding.verdict for finding in findings}
    if "failed" in verdicts:
        return FAILED
    return INCONCLUSIVE if "inconclusive" in verdicts else OK
