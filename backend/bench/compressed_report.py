"""The page of a compressed release: first what it is not, then what sign-off said, then all that was typed."""

import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ops.release import report
from tests.native_stack import BACKEND

FOLDER: Final = BACKEND.parent / "docs" / "reports"
COMMAND: Final = "python -m bench.compressed_release"
# A machine's name says nothing to a reader.
HOST: Final = "here"
_TOLD: Final = """
# Release of {after} in compressed time: {verdict}

**Compressed time: this is no watch of 48 hours.** All of it took {took_min:.1f} minutes. One recorded second counts as
{minutes} minutes: the {after_s:.0f} s after the release stand for 48 hours, and {before_s:.0f} s before it for the same
hours of the week before. Gates named NOT YET PROVEN are not passed by this; they are waived here, by name.

Made by `{command}`: a native stack of its own, {before} in service first, then {after}.

## What is real, and what is not

- Real: both versions, all commands below, backup and restore test, the restart, what clients were answered over HTTP
  (by status: {answers}), and every value that Prometheus scraped. A 500 comes from a table that is gone for a moment,
  every eight seconds in both halves, but not while `verify` runs.
- Stretched: times of samples, by {factor}. Between two scrapes the value of the earlier one stands, once a minute.
  Rates that are worked out from it are lower by that factor; ratios, counts, quantiles and gauges are as recorded.
- Ahead: the clock of `watch` and `signoff`, and so the times of their lines in the journal. All other lines bear the
  real time.
- Not shown: what takes hours by itself, as a leak does; traffic by day and night. Alert rules were evaluated in real
  time: one that waits for five minutes hardly had the time. Dashboards were timed over a sample a minute;
  `python -m bench.dashboards` times them at a true density.
"""


@dataclass(frozen=True)
class Typed:
    """One command: how it was typed, how it ended, how long it took, what it said."""

    command: str
    exit_code: int
    took_s: float
    said: str


@dataclass(frozen=True)
class Facts:
    """What a compressed release did.

    Attributes:
        versions: commits, before and after.
        factor: by how much the judges' clock ran faster.
        scrape_s: real seconds between two scrapes of the API.
        recorded_s: real seconds recorded, before and after.
        shown: since when each of them counts, on the judges' clock.
        samples: recorded and kept, of both.
        layer: requests that the layer itself took no longer for than each bound (seconds, as text), after.
        asked: the clients' answers by status.
        typed: all commands.
        folder: the release's.
    """

    versions: tuple[str, str]
    factor: int
    scrape_s: int
    recorded_s: tuple[float, float]
    shown: tuple[datetime, datetime]
    samples: int
    layer: Mapping[str, float]
    asked: Mapping[str, int]
    typed: Sequence[Typed]
    folder: Path


def write(facts: Facts, took_min: float) -> tuple[Path, bool]:
    """Write Markdown and JSON; return the page, and whether the release was signed off."""
    signed = _without_host((facts.folder / report.MARKDOWN).read_text())
    document: dict[str, Any] = json.loads(_without_host((facts.folder / report.JSON).read_text()))
    run = {
        "command": COMMAND,
        "took_min": round(took_min, 1),
        "versions": facts.versions,
        "factor": facts.factor,
        "recorded_s": [round(each, 1) for each in facts.recorded_s],
        "shown_since": [each.isoformat(timespec="seconds") for each in facts.shown],
        "samples": facts.samples,
        "layer": facts.layer,
        "answers": facts.asked,
        "commands": [
            {"command": each.command, "exit_code": each.exit_code, "took_s": round(each.took_s, 1)}
            for each in facts.typed
        ],
    }
    name = f"{datetime.now(UTC):%Y-%m-%d}-compressed"
    FOLDER.mkdir(exist_ok=True)
    page = FOLDER / f"{name}.md"
    page.write_text(_page(facts, took_min, signed, is_signed_off=document["signed_off"]))
    whole = {"compressed_time": True, "run": run, "signoff": document}
    page.with_suffix(".json").write_text(json.dumps(whole, indent=2) + "\n")
    return page, document["signed_off"]


def _without_host(text: str) -> str:
    return text.replace(socket.gethostname(), HOST)


def _page(facts: Facts, took_min: float, signed: str, *, is_signed_off: bool) -> str:
    before, after = facts.versions
    minutes = facts.factor * facts.scrape_s // 60
    answers = ", ".join(f"{count} {status}" for status, count in sorted(facts.asked.items()))
    facts_told = {
        "after": after,
        "before": before,
        "verdict": "signed off" if is_signed_off else "NOT signed off",
        "took_min": took_min,
        "minutes": minutes,
        "factor": facts.factor,
        "after_s": facts.recorded_s[1],
        "before_s": facts.recorded_s[0],
        "answers": answers,
        "command": COMMAND,
    }
    parts = [
        _TOLD.format(**facts_told).strip(),
        "## What was typed",
        _commands(facts.typed),
        "## What sign-off wrote",
        re.sub(r"^#", "###", signed, flags=re.MULTILINE).strip(),
        "## What the layer itself took",
        "Behind the gate *overhead*: requests by the layer's own time, after the release.",
        _layer(facts.layer),
        "## What the commands said",
        *[f"`{each.command}`\n\n```\n{_plain(each.said)}\n```" for each in facts.typed],
    ]
    return "\n\n".join(parts) + "\n"


def _commands(typed: Sequence[Typed]) -> str:
    rows = [f"| `{each.command}` | {each.exit_code} | {each.took_s:.1f} |" for each in typed]
    return "\n".join(["| command | exit code | seconds |", "| --- | --- | --- |", *rows])


def _layer(layer: Mapping[str, float]) -> str:
    rows, before = [], 0.0
    for bound, count in layer.items():
        told = "longer" if bound == "+Inf" else f"up to {float(bound) * 1000:g} ms"
        rows.append(f"| {told} | {count - before:.0f} |")
        before = count
    return "\n".join(["| took | requests |", "| --- | --- |", *rows])


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
