"""`commandcenter release baseline`, `watch` and `signoff`: what judges a release.

Exit codes: 0 passed, 1 failed or worse, 3 waiting, 4 not known, 5 rolled back, 6 the rollback failed, 7 another is at
work.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from ops.release import baseline as before
from ops.release import findings, history, report
from ops.release import signoff as signing
from ops.release.at_work import Work, at_work
from ops.release.changes import KEPT_ROOM, roll_back
from ops.release.choice import choose_target
from ops.release.exits import FAILED, OK
from ops.release.gates import GATES, Ground, Result, evaluate
from ops.release.loading import Loads, load
from ops.release.options import JsonOption, NewReleaseOption, ReleaseOption
from ops.release.place import new_id
from ops.release.prometheus import Failed, Prometheus
from ops.release.state import START
from ops.release.target import Target
from ops.release.watch import Look, Watch, failing_health, released_at
from ops.stack.errors import LOCKED, StackError
from ops.stack.plainly import plainly

_PAUSE_S: Final = 60.0
_OK: Final = 200
_COLORS: Final = {"passed": "green", "waiting": "blue", "inconclusive": "yellow"}


@plainly
def baseline(
    *,
    release: NewReleaseOption = None,
    days: Annotated[int, typer.Option(min=1, max=31, help="How far back; a week has every hour of the week.")] = (
        before.DAYS
    ),
    without: Annotated[
        list[str] | None, typer.Option(help="GATE=REASON: go without this one's value.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the hours before a release, to judge it against; each gate's query must give a value."""
    reasons = _reasons(without, "--without", before.CHECKED)
    console = Console(stderr=as_json, highlight=False)
    target = choose_target(console)
    with (
        at_work(console, "baseline", release or _not_yet_released(target), begin=True) as work,
        Prometheus(target.prometheus_url) as prometheus,
    ):
        if work.journal.state().is_done(START):
            raise StackError(
                f"Release {work.journal.release} is in service: it can't be its own baseline.",
                "Leave --release away: a new one is made.",
            )
        results = _take_baseline(work, prometheus, timedelta(days=days), reasons)
        missing = [result for result in results if not result.passes and result.gate not in reasons]
        text = f"Baseline of {work.journal.release}: " + ("kept." if not missing else "NOT kept.")
    _show(console, results, reasons)
    console.print(f"\n{escape(text)}" + ("" if missing else " Next: commandcenter release apply"))
    if as_json:
        _print({"release": work.journal.release, "kept": not missing, "gates": [each.as_json() for each in results]})
    if missing:
        raise typer.Exit(FAILED)


def _not_yet_released(target: Target) -> str:
    """Return the release that was begun last, unless it is in service already; else a new one's ID."""
    places = target.releases
    ids = places.ids()
    if ids and not places.journal().state().is_done(START):
        return ids[-1]
    return new_id(target.resolve("HEAD"))


def _at_stake(console: Console, release: str | None) -> str | None:
    """Return the release that was asked for; else the one that changed what runs last, whatever was begun since."""
    return release or choose_target(console).releases.at_stake()


def _take_baseline(work: Work, prometheus: Prometheus, span: timedelta, reasons: Mapping[str, str]) -> list[Result]:
    now = datetime.now(UTC)
    until = history.hour_before(now)
    since = until - span
    windows = history.windows_of(work.target.releases.journals(), now)
    inputs = {"since": since, "until": until}
    work.journal.append("intent", before.STEP, inputs=inputs)
    hours = history.hours(prometheus, since, until, windows)
    kept = [] if isinstance(hours, Failed) else hours
    ground = Ground(prometheus, kept, since, now, windows, _loads(work.target))
    results = before.check(ground, hours)
    without = [result.gate for result in results if not result.passes]
    for name in without:
        if name in reasons:
            work.journal.append("approval", f"baseline {name}", evidence={"reason": reasons[name]})
    missing = [name for name in without if name not in reasons]
    if missing:
        work.journal.append("failed", before.STEP, inputs=inputs, evidence={"without_value": missing})
    else:
        digest = before.save(before.Baseline(since, until, prometheus.url, kept), results, work.folder)
        evidence = {"sha256": digest, "hours": sum(hour.counts for hour in kept), "without": without}
        work.journal.append("done", before.STEP, inputs=inputs, evidence=evidence)
    return results


@plainly
def watch(
    *,
    release: ReleaseOption = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and leave: for a timer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a release for 48 hours: checkpoints at 1, 24 and 48 h. Takes it back, once, if it is plainly worse."""
    console = Console(stderr=as_json, highlight=False)
    told = ""
    while True:
        try:
            look = _look(console, release)
        except StackError as error:
            if choose_target(console).releases.free_reserve():
                console.print(f"[yellow]The disk is full[/]: {KEPT_ROOM}", soft_wrap=True)
                continue
            if once or error.exit_code != LOCKED:
                raise
            console.print(f"[yellow]?[/] {escape(error.problem)} Looking again later.", soft_wrap=True)
        else:
            is_last = once or look.is_over
            # A line a minute for two days is read by nobody.
            if look.why != told or is_last:
                _tell(console, look, as_json=as_json)
                told = look.why
            if is_last:
                raise typer.Exit(look.exit_code)
        time.sleep(_PAUSE_S)


def _look(console: Console, release: str | None) -> Look:
    # Asked before the lock is held: a service that is away lets one wait for minutes, and others may want to go back.
    sick = failing_health(lambda: _health(choose_target(console)))
    with (
        at_work(console, "watch", _at_stake(console, release)) as work,
        Prometheus(work.target.prometheus_url) as prometheus,
    ):
        has_baseline = work.journal.state().is_done(before.STEP)
        return Watch(
            prometheus,
            work.journal,
            before.load(work.folder, work.journal) if has_baseline else None,
            lambda: history.windows_of(work.target.releases.journals(), datetime.now(UTC)),
            lambda _: roll_back(work, "quick"),
        ).look(datetime.now(UTC), sick)


def _health(target: Target) -> str:
    """Return what is wrong with the service by its own word, or nothing."""
    try:
        with closing(target.api()) as api:
            answer = api.call("GET", "/health/ready")
    except StackError as error:
        return error.problem
    return "" if answer.status == _OK else f"/health/ready answers {answer.status}"


def _tell(console: Console, look: Look, *, as_json: bool) -> None:
    for made in look.made:
        console.print(
            f"  {escape(made.name)}: {escape(made.judged.of.verdict)} [dim](as of {made.at:%d %b %H:%M} UTC)[/]"
        )
    color = _COLORS.get(look.outcome, "red")
    following = f" [dim]Next due: {look.next_at:%d %b %H:%M} UTC.[/]" if look.next_at else ""
    console.print(f"[{color}]{look.outcome}[/]: {escape(look.why)}{following}", soft_wrap=True)
    if as_json:
        _print(
            {
                "outcome": look.outcome,
                "why": look.why,
                "exit_code": look.exit_code,
                "next_at": look.next_at,
                "made": [{"checkpoint": made.name, "at": made.at, **made.judged.as_json()} for made in look.made],
            }
        )


@plainly
def signoff(
    *,
    release: ReleaseOption = None,
    waive: Annotated[
        list[str] | None, typer.Option(help="GATE=REASON: accept what this gate says now.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every gate and write the report: all pass, or are waived with a reason."""
    reasons = _reasons(waive, "--waive", (*GATES, signing.WATCHED))
    console = Console(stderr=as_json, highlight=False)
    with (
        at_work(console, "signoff", _at_stake(console, release)) as work,
        Prometheus(work.target.prometheus_url) as prometheus,
    ):
        now = datetime.now(UTC)
        kept = before.load(work.folder, work.journal)
        windows = history.windows_of(work.target.releases.journals(), now)
        since = released_at(work.journal)
        ground = Ground(prometheus, kept.hours, since, now, windows, _loads(work.target))
        results = [*evaluate(ground), signing.watched(work.journal)]
        signing.waive(work.journal, results, reasons)
        made = signing.sign_off(work.journal, kept, results, work.folder, now)
    _show(console, results, {gate: waiver.reason for gate, waiver in made.waivers.items()})
    if made.is_signed_off:
        console.print(f"\n[green]Release {escape(made.release)} is signed off.[/]")
    else:
        names = ", ".join(each.gate for each in made.open_gates)
        console.print(f"\n[red]Release {escape(made.release)} is not signed off[/]: {escape(names)}", soft_wrap=True)
    console.print(f"Report: {work.folder / report.MARKDOWN}", soft_wrap=True)
    if as_json:
        typer.echo(made.as_json(), nl=False)
    code = findings.exit_code(each.finding() for each in made.open_gates)
    if code != OK:
        raise typer.Exit(code)


def _loads(target: Target) -> Any:
    folder = target.checkout / "monitoring" / "grafana" / "dashboards"

    def asked(prometheus: Prometheus, at: datetime) -> Loads | Failed:
        return load(prometheus, folder, at)

    return asked


def _reasons(given: Sequence[str] | None, option: str, gates: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given or ():
        gate, _, reason = each.partition("=")
        if gate.strip() not in gates:
            raise typer.BadParameter(f"no such gate; there are {', '.join(gates)}", param_hint=option)
        if not reason.strip():
            raise typer.BadParameter("GATE=REASON, and the reason in words", param_hint=option)
        found[gate.strip()] = reason.strip()
    return found


def _show(console: Console, results: Sequence[Result], accepted: Mapping[str, str]) -> None:
    for result in results:
        findings.show(result.finding(), console)
        if result.gate in accepted and not result.passes:
            console.print(f"    accepted: {escape(accepted[result.gate])}", soft_wrap=True)


def _print(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, default=str))
