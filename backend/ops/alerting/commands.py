"""`commandcenter alerts list | enable | disable | config`: arguments in, text and exit codes out."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.alerting import alertmanager, stages
from ops.alerting import change as changes
from ops.alerting.change import Change, Running
from ops.stack import lock, monitoring
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.plainly import plainly
from ops.stack.settings import Settings

cli: Final = typer.Typer(help="Which alerts reach people, and by which tools.", no_args_is_help=True)
_console: Final = Console()

Severity = Literal["warning", "critical"]
JsonOption = Annotated[bool, typer.Option("--json", help="For a script to read.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it. Without, it is only shown.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the journal; --yes wants it.")]
TargetOption = Annotated[
    Literal["native", "compose"],
    typer.Option(envvar="RELEASE_TARGET", help="native: the stack of `make up`. compose: production."),
]

# How Prometheus gets to read its configuration again.
_AGAIN: Final = {"native": "`make up`.", "compose": "`docker compose kill -s HUP prometheus`."}


@cli.command("list")
@plainly
def list_alerts(*, target: TargetOption = "native", as_json: JsonOption = False) -> None:
    """Show each alert's stage and state, and the tools by which people are told."""
    settings = _settings()
    alerts = _alerts(settings)
    staged = stages.of_text(changes.source(settings).read_text(), alerts)
    prometheus = changes.running(settings, target)
    states, applied = _seen(prometheus, list(alerts), staged)
    told, problem = _told(settings, target)
    rows = [
        {
            "alert": name,
            "severity": severity,
            "stage": staged[name],
            "state": states.get(name, "unknown"),
            "runbook": f"docs/runbooks/{name}.md",
        }
        for name, severity in alerts.items()
    ]
    if as_json:
        typer.echo(json.dumps({"alerts": rows, "applied": applied, "receivers": told}, indent=2))
    else:
        _console.print(_table(rows))
        _say_who_is_told(settings, target, told)
        if applied is None:
            _console.print("[dim]Prometheus does not run here.[/]")
        elif not applied:
            _console.print(
                f"[yellow]Prometheus runs with other stages than monitoring/prometheus.yml: {_AGAIN[target]}[/]"
            )
    if problem:
        raise problem


@cli.command()
@plainly
def enable(
    severity: Annotated[Severity, typer.Argument(help="warning or critical; warnings come first.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these of them.")] = None,
    *,
    yes: YesOption = False,
    force: Annotated[bool, typer.Option("--force", help="Critical ones before all warnings; with --reason.")] = False,
    reason: ReasonOption = "",
    target: TargetOption = "native",
    as_json: JsonOption = False,
) -> None:
    """Let alerts of a severity reach people."""
    _want_reason(yes=yes, reason=reason)
    settings = _settings()
    alerts = _alerts(settings)
    chosen = names or [name for name, its in alerts.items() if its == severity]
    wrong = [name for name in chosen if alerts.get(name) != severity]
    if wrong:
        raise typer.BadParameter(f"no {severity} alert: {', '.join(wrong)}", param_hint="NAME")
    if force and not reason:
        raise typer.BadParameter("--force wants a --reason", param_hint="--reason")
    with _alone(settings, yes=yes):
        staged = stages.of_text(changes.source(settings).read_text(), alerts)
        quiet = [name for name, its in alerts.items() if its == "warning" and staged[name] != "live"]
        if severity == "critical" and quiet and not force:
            raise StackError(
                f"Warnings come first, and these are shadow still: {', '.join(quiet)}.",
                "commandcenter alerts enable warning; or --force --reason '…'.",
            )
        change = changes.plan(settings, chosen, "live")
        _carry_out(settings, change, yes=yes, reason=reason, target=target, as_json=as_json)


@cli.command()
@plainly
def disable(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Alerts that go back to shadow.")],
    *,
    yes: YesOption = False,
    reason: ReasonOption = "",
    target: TargetOption = "native",
    as_json: JsonOption = False,
) -> None:
    """Let alerts reach nobody any more; they are still recorded."""
    _want_reason(yes=yes, reason=reason)
    settings = _settings()
    alerts = _alerts(settings)
    wrong = [name for name in names if name not in alerts or name == stages.HEARTBEAT]
    if wrong:
        raise typer.BadParameter(f"no alert that can be shadow: {', '.join(wrong)}", param_hint="NAME")
    with _alone(settings, yes=yes):
        change = changes.plan(settings, names, "shadow")
        _carry_out(settings, change, yes=yes, reason=reason, target=target, as_json=as_json)


@cli.command()
@plainly
def config(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The receivers' files.", file_okay=False)],
) -> None:
    """Print Alertmanager's configuration for the containers, with the receivers that have their files in a folder."""
    typer.echo(monitoring.container_alertmanager_config(_settings(), folder), nl=False)


def _want_reason(*, yes: bool, reason: str) -> None:
    if yes and not reason.strip():
        raise typer.BadParameter("--yes wants a reason, for the journal", param_hint="--reason")


def _alone(settings: Settings, *, yes: bool) -> AbstractContextManager[None]:
    """Keep others away from reading the stages until they are changed: a plan made before is of what was there then."""
    return lock.held(settings.layout.lock) if yes else nullcontext()


def _carry_out(settings: Settings, change: Change, *, yes: bool, reason: str, target: str, as_json: bool) -> None:
    prometheus = changes.running(settings, target)
    is_behind = not change.names and changes.is_behind(change, prometheus)
    done = False
    if (change.names or is_behind) and yes:
        changes.apply(settings, change, prometheus, reason, target)
        done = True
    elif change.names:
        changes.check(settings, change, target)
    if as_json:
        told: dict[str, Any] = {"alerts": list(change.names), "stage": change.stage, "changed": done}
        typer.echo(json.dumps(told | {"reloaded": done and prometheus is not None, "diff": change.diff}, indent=2))
        return
    if is_behind:
        text = "The file has them so already, and Prometheus ran with other stages"
        _console.print(
            f"[green]✓[/] {text}: it has taken over the file's." if done else f"{text}. Do it: the same with --yes",
            soft_wrap=True,
        )
        return
    if not change.names:
        _console.print(f"Nothing to do: they are {change.stage} already.")
        return
    _console.print(escape(change.diff), highlight=False, soft_wrap=True)
    if not done:
        _console.print("\nChecked, and not done. Do it: the same with --yes")
        return
    taken_over = "Prometheus has taken it over" if prometheus else "Prometheus takes it over at the next `up`"
    _console.print(f"\n[green]✓[/] {len(change.names)} now {change.stage}. {taken_over}. Commit the file.")


def _told(settings: Settings, target: str) -> tuple[dict[str, list[str]] | None, StackError | None]:
    """Return who is told, by receiver; or why nobody can say. What else there is to list is listed all the same."""
    try:
        return alertmanager.tools(settings, target), None
    except StackError as error:
        return None, error


def _say_who_is_told(settings: Settings, target: str, told: dict[str, list[str]] | None) -> None:
    if told is None:
        return
    for name in ("critical", "warning", "heartbeat"):
        tools = ", ".join(told.get(name, ())) or alertmanager.nobody(settings, target)
        _console.print(f"{name} → {escape(tools)}", highlight=False, soft_wrap=True)
    if outdated := alertmanager.outdated(settings, target):
        _console.print(f"[yellow]{escape(outdated)}[/]", highlight=False, soft_wrap=True)


def _settings() -> Settings:
    layout = Layout.from_environment()
    layout.make()
    return Settings.load(layout)


def _alerts(settings: Settings) -> dict[str, str]:
    return stages.severities(settings.layout.root / "monitoring" / "alerts.yml")


def _seen(prometheus: Running | None, alerts: list[str], staged: dict[str, str]) -> tuple[dict[str, str], bool | None]:
    """Return the alerts' states, and whether Prometheus runs with these stages; None where none runs."""
    if prometheus is None:
        return {}, None
    return prometheus.states(), prometheus.stages(alerts) == staged


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("alert", "severity", "stage", "state"):
        table.add_column(column)
    colors = {"live": "green", "firing": "red", "pending": "yellow"}
    for row in rows:
        cells = [row[column] for column in ("alert", "severity", "stage", "state")]
        table.add_row(*(f"[{colors[cell]}]{cell}[/]" if cell in colors else cell for cell in cells))
    return table
