"""`commandcenter release status`: what the journal says a release is at, and which version runs."""

import json
from typing import Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.release.choice import choose_target
from ops.release.journal import Journal
from ops.release.options import JsonOption, ReleaseOption
from ops.stack.plainly import plainly

_COLORS: Final = {"done": "green", "undone": "blue", "failed": "red", "unknown": "yellow"}


@plainly
def status(*, release: ReleaseOption = None, as_json: JsonOption = False) -> None:
    """Show how far a release is: each step, each verdict, who and when; and which version runs now."""
    console = Console(stderr=as_json, highlight=False)
    target = choose_target(console)
    journal = target.releases.journal(release, secrets=tuple(target.secrets))
    document = _document(journal, target.releases.ids(), str(target.running()["commit"]))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    console.print(f"Release [bold]{escape(journal.release)}[/]; {document['running']} runs now\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("step", "state", "when", "who"):
        table.add_column(column, overflow="fold")
    for step in document["steps"]:
        state = f"[{_COLORS[step['status']]}]{step['status']}[/]"
        table.add_row(escape(step["step"]), state, step["at"], escape(step["who"]))
    for verdict in document["verdicts"]:
        table.add_row(escape(verdict["step"]), escape(verdict["said"]), verdict["at"], escape(verdict["who"]))
    console.print(table)
    for step in document["steps"]:
        if step["status"] == "failed":
            console.print(f"\n{escape(step['step'])} failed: {escape(step['problem'])}", soft_wrap=True)
        if step["status"] == "unknown":
            console.print(f"\n{escape(step['step'])} was begun, and nobody wrote how it ended: run it again.")


def _document(journal: Journal, releases: list[str], running: str) -> dict[str, Any]:
    state = journal.state()
    return {
        "release": journal.release,
        "releases": releases,
        "running": running,
        "steps": [
            {
                "step": step.step,
                "status": step.status,
                "at": step.entry.at,
                "who": step.entry.who,
                "problem": str(step.entry.evidence.get("problem", "")),
            }
            for step in state.steps.values()
        ],
        "verdicts": [
            {"step": name, "said": _said(entries[-1].evidence), "at": entries[-1].at, "who": entries[-1].who}
            for name, entries in state.verdicts.items()
        ],
    }


def _said(evidence: Any) -> str:
    """Return a verdict's short figures."""
    short = {name: value for name, value in evidence.items() if not isinstance(value, (dict, list)) or not value}
    return ", ".join(f"{name} {value}" for name, value in short.items()) or "see --json"
