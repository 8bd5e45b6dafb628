"""`commandcenter release apply` and `rollback`: what changes the running system. Dry unless told `--yes`."""

import json
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape

from ops.release import rollback as way_back
from ops.release import schema
from ops.release.apply import apply as bring_in
from ops.release.apply import remembered, steps
from ops.release.at_work import Work, at_work
from ops.release.baseline import STEP as BASELINE
from ops.release.choice import choose_target
from ops.release.exits import ROLLBACK_FAILED
from ops.release.journal import Journal
from ops.release.options import JsonOption, NewReleaseOption, ReleaseOption, YesOption
from ops.release.place import new_id
from ops.stack.errors import LOCKED, StackError, in_plain_words
from ops.stack.plainly import plainly

Kind = Literal["quick", "full"]

KEPT_ROOM: Final = "what `apply` kept for this case is free now. Make room soon."
_UNJUDGED: Final = "apply without baseline"
_QUICK: Final = "quick"


def _console(*, as_json: bool) -> Console:
    """Progress is for people; a script reads one JSON document from standard output."""
    return Console(stderr=as_json, highlight=False)


@plainly
def apply(
    ref: Annotated[str, typer.Argument(help="Commit, branch or tag.")] = "HEAD",
    *,
    release: NewReleaseOption = None,
    without_baseline: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Go without one: errors can't be judged then.", show_default=False),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a version into service: backup, restore test, migration, start, healthy. Run again, it goes on."""
    console = _console(as_json=as_json)
    target = choose_target(console)
    commit = target.resolve(ref)
    if not yes:
        journal = target.releases.journal(release or new_id(commit))
        planned = [step.about for step in steps(target, journal, commit, target.releases.of(journal.release))]
        _tell_plan(console, f"Would bring {commit} into service, {target.running()['commit']} runs now:", planned)
        if as_json:
            typer.echo(json.dumps({"commit": commit, "would": planned}, indent=2))
        return
    with at_work(console, f"apply {commit}", release, begin=True, commit=commit) as work:
        console.print(f"Release [bold]{escape(work.journal.release)}[/]: {commit}")
        _want_baseline(work.journal, without_baseline)
        with in_plain_words("Keeping room for a way back"):
            work.target.releases.keep_reserve()
        bring_in(work.target, work.journal, work.runner, commit, work.folder)
        if as_json:
            typer.echo(json.dumps({"release": work.journal.release, "commit": commit, "applied": True}, indent=2))
        console.print("\nNext: commandcenter release verify")


def _want_baseline(journal: Journal, reason: str | None) -> None:
    """Refuse a version that nothing could be held against: whether it is worse, nobody could say afterwards."""
    if journal.state().is_done(BASELINE) or _UNJUDGED in journal.state().approvals:
        return
    if reason is None or not reason.strip():
        raise StackError(
            "No baseline was kept: whether this version fails more often could not be told.",
            "commandcenter release baseline; or go without: --without-baseline 'why'.",
        )
    journal.append("approval", _UNJUDGED, evidence={"reason": journal.masked(reason.strip())})


@plainly
def rollback(
    kind: Annotated[
        Kind, typer.Argument(help="quick: the layer off, the exporter stopped. full: schema and code too.")
    ],
    *,
    release: ReleaseOption = None,
    to: Annotated[str | None, typer.Option(help="full: schema revision; the one before unless given.")] = None,
    accept_rows: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="full: why rows may differ afterwards.", show_default=False),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a release back. Exit code 6 where that fails: run it again, it goes on."""
    for option, value in (("--to", to), ("--accept-rows", accept_rows)):
        if value is not None and kind == _QUICK:
            raise typer.BadParameter("only goes with full", param_hint=option)
    console = _console(as_json=as_json)
    if not yes:
        planned = _rollback_plan(console, kind, release, to)
        if as_json:
            typer.echo(json.dumps({"kind": kind, "would": planned}, indent=2))
        return
    try:
        with in_plain_words("The way back"):
            places = choose_target(console).releases
            if places.free_reserve():
                console.print(f"[yellow]The disk is full[/]: {KEPT_ROOM}", soft_wrap=True)
            release = release or places.at_stake()
            with at_work(console, f"rollback {kind}", release, begin=kind == _QUICK) as work:
                took_s = _rolled_back(work, kind, to, accept_rows)
    except StackError as error:
        if error.exit_code != LOCKED:
            error.exit_code = ROLLBACK_FAILED
        raise
    if as_json:
        typer.echo(json.dumps({"kind": kind, "took_s": took_s}, indent=2))
    following = "docker compose ps" if work.target.name == "compose" else "commandcenter status"
    console.print(f"\n[green]Rolled back[/] ({kind}, {took_s:.1f} s). Next: {following}")


def _rolled_back(work: Work, kind: Kind, to: str | None, accept_rows: str | None) -> float:
    """Take it back; what another operator keeps from being done once it was begun is a failure, too, not a wait."""
    try:
        return roll_back(work, kind, to, accept_rows)
    except StackError as error:
        error.exit_code = ROLLBACK_FAILED
        raise


def roll_back(work: Work, kind: Kind, to: str | None = None, accept_rows: str | None = None) -> float:
    """Take a release back, `quick` or `full`; return the seconds it took."""
    if kind == _QUICK:
        return way_back.quick(work.target, work.journal, work.runner)
    return way_back.full(work.target, work.journal, work.runner, to, accept_rows)


def _rollback_plan(console: Console, kind: Kind, release: str | None, to: str | None) -> list[str]:
    target = choose_target(console)
    if kind == _QUICK:
        planned = ["switch the layer off", "stop the exporter", "start our services again", "wait until all is healthy"]
    else:
        before: Any = remembered(target.releases.journal(release or target.releases.at_stake()))
        goal = to or before["schema"]
        now = schema.revision(target)
        planned = ["stop API, worker, beat and the exporter", "count the rows"]
        if now != goal:
            planned.append(f"take the schema back from {now} to {goal}")
        planned += ["count them again", f"start {before['running']['commit']} again", "wait until all is healthy"]
    _tell_plan(console, f"Would roll back ({kind}):", planned)
    return planned


def _tell_plan(console: Console, title: str, planned: list[str]) -> None:
    console.print(title)
    for number, line in enumerate(planned, 1):
        console.print(f"  {number}. {escape(line)}")
    console.print("\nNothing was changed. Do it: the same with --yes")
