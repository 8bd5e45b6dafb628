"""`commandcenter release plan`, `preflight`, `verify`: what only looks. Exit code 1: a check failed; 4: can't tell."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from ops.release import detection, monitoring_files, schema
from ops.release.apply import steps
from ops.release.choice import choose_target, looked_at
from ops.release.config_diff import config_diff
from ops.release.exits import OK
from ops.release.findings import Finding, exit_code, show
from ops.release.options import JsonOption, ReleaseOption
from ops.release.place import new_id
from ops.release.preflight import preflight as look_before
from ops.release.prometheus import Prometheus
from ops.release.target import Target
from ops.release.verify import Ground
from ops.release.verify import verify as look_at_all
from ops.stack.plainly import plainly

_PATIENCE_S: Final = 5.0

RefArgument = Annotated[str, typer.Argument(help="Commit, branch or tag.")]


@plainly
def plan(ref: RefArgument = "HEAD", *, as_json: JsonOption = False) -> None:
    """Print what a release would do: steps, SQL, what differs in configuration, times to detect.

    Changes nothing that runs. On compose it builds the version's image where that is missing: `apply` needs it anyway.
    """
    console = Console(stderr=as_json, highlight=False)
    with looked_at(console) as target:
        commit = target.resolve(ref)
        document = _planned(target, commit)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _print_plan(console, target.name, document)


def _planned(target: Target, commit: str) -> dict[str, Any]:
    now, running = schema.revision(target), target.running()
    head = target.revisions(commit)[0]
    release = new_id(commit)
    journal, folder = target.releases.journal(release), target.releases.of(release)
    bounds = detection.bounds(target.checkout / "monitoring", monitoring_files.alertmanager_file(target))
    return {
        "commit": commit,
        "running": running["commit"],
        "schema": {
            "from": now,
            "to": head,
            "sql": target.schema_sql(commit, now or "base", head) if now != head else "",
        },
        "steps": [step.about for step in steps(target, journal, commit, folder)],
        "config": config_diff(target.checkout, str(running["commit"]), commit),
        "switches_taken_back": dict(running.get("switches", {})),
        "time_to_detect": [asdict(each) for each in bounds],
    }


def _print_plan(console: Console, kind: str, planned: Mapping[str, Any]) -> None:
    console.print(f"From [bold]{planned['running']}[/] to [bold]{planned['commit']}[/], on the {kind} stack\n\nSteps:")
    for number, line in enumerate(planned["steps"], 1):
        console.print(f"  {number}. {escape(line)}")
    way, sql = planned["schema"], planned["schema"]["sql"]
    console.print(f"\nSchema: {way['from'] or 'empty'} → {way['to']}" + ("" if sql else " (nothing to do)"))
    if sql:
        console.print(escape(sql.strip()), style="dim", soft_wrap=True)
    _print_config(console, planned["config"])
    if planned["switches_taken_back"]:
        console.print(f"\nTakes back what a rollback switched: {escape(str(planned['switches_taken_back']))}")
    console.print("\nTime to detect, at most, for a total failure; and at worst, at any share that an alert fires at:")
    for bound in planned["time_to_detect"]:
        covered = f", but {bound['covered_by']} goes before it" if bound["covered_by"] else ""
        less = f" (where over {bound['least_share']:.0%} fail, people hear in time)" if bound["least_share"] else ""
        console.print(f"  {bound['alert']}: {bound['seconds']:.0f} s{covered}; {bound['worst_s']:.0f} s{less}")
    console.print("\nNothing was changed. Next: commandcenter release preflight")


def _print_config(console: Console, config: Mapping[str, Any] | None) -> None:
    console.print("\nConfiguration:", end="")
    if config is None:
        console.print(" can't be compared: this checkout does not know the version that runs.")
        return
    if not config["files"]:
        console.print(" no difference")
        return
    told = [f"settings {what}: {', '.join(names)}" for what, names in config["settings"].items() if names]
    for line in ("", *config["files"], *told, *config["alerts"]):
        console.print(f" {line.rstrip()}" if line else "", markup=False, highlight=False, soft_wrap=True)


@plainly
def preflight(ref: RefArgument = "HEAD", *, as_json: JsonOption = False) -> None:
    """Check everything that can be known before: tools, secrets, disk, migrations, rules, times to detect."""
    with looked_at(Console(stderr=as_json, highlight=False)) as target:
        _report(
            look_before(target, target.resolve(ref)), as_json=as_json, next_command="commandcenter release baseline"
        )


@plainly
def verify(*, release: ReleaseOption = None, as_json: JsonOption = False) -> None:
    """Make a request, and find its ID everywhere: answer, logs, PostgreSQL's log, task, metrics. About a minute."""
    target = choose_target(Console(stderr=as_json, highlight=False))
    places = target.releases
    with Prometheus(target.prometheus_url, _PATIENCE_S) as prometheus, closing(target.api()) as api:
        ground = Ground(target, api, prometheus, target.secret_key)
        found = _report(look_at_all(ground), as_json=as_json, next_command="commandcenter release watch", leave=False)
    if places.ids():
        journal = places.journal(release or places.at_stake(), secrets=tuple(target.secrets))
        failed = [each.check for each in found if each.verdict != "ok"]
        journal.append("verdict", "verify", evidence={"checks": len(found), "not_ok": failed})
    _leave(found)


def _report(findings: Iterable[Finding], *, as_json: bool, next_command: str, leave: bool = True) -> list[Finding]:
    console = Console(stderr=as_json, highlight=False)
    found = []
    for finding in findings:
        show(finding, console)
        found.append(finding)
    if as_json:
        typer.echo(
            json.dumps({"findings": [each.as_json() for each in found], "exit_code": exit_code(found)}, indent=2)
        )
    well = sum(each.verdict == "ok" for each in found)
    console.print(
        f"\n{well} of {len(found)} checks are well." + (f" Next: {next_command}" if well == len(found) else "")
    )
    if leave:
        _leave(found)
    return found


def _leave(found: list[Finding]) -> None:
    code = exit_code(found)
    if code != OK:
        raise typer.Exit(code)
