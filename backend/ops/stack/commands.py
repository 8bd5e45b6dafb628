"""`commandcenter up` and `status`: what an operator types, and what it answers."""

import json
import shutil
import subprocess
import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.stack import health, lock, packages, parts, preflight
from ops.stack.bring_up import bring_up
from ops.stack.deployment import Deployment
from ops.stack.errors import FAILED
from ops.stack.layout import Layout
from ops.stack.names import PORTS
from ops.stack.plainly import plainly
from ops.stack.settings import Settings
from ops.stack.supervisor import Supervisor

_console: Final = Console()
_DOCKER_PATIENCE_S: Final = 2


@plainly
def up() -> None:
    """Start everything that isn't running yet, wait until it is healthy, and leave it running."""
    started = time.monotonic()
    layout = Layout.from_environment()
    preflight.check_disk(layout.data)
    _mention_docker(layout)
    packages.ensure(_console)
    preflight.check_programs()
    layout.make()
    with lock.held(layout.lock):
        settings = Settings.load(layout)
        for name in settings.ignored:
            _console.print(f"[dim]{name} is set, but this stack brings its own; not used.[/]")
        stack = parts.plan(settings)
        _mention_release(settings.deployment)
        for name in stack.missing:
            _console.print(f"[yellow]Without {name}: its program is not installed.[/]")
        bring_up(stack, _console)
        _greet(stack, time.monotonic() - started)


def _mention_release(deployed: Deployment) -> None:
    if deployed.is_release:
        switched = "".join(f", {name}={value}" for name, value in deployed.switches.items())
        stopped = "".join(f", without {name}" for name in deployed.stopped)
        _console.print(f"[dim]Release {deployed.commit} is deployed here, not the checkout{switched}{stopped}.[/]")


def _mention_docker(layout: Layout) -> None:
    compose = layout.root / "docker-compose.prod.yml"
    docker = shutil.which("docker")
    if not docker or not compose.exists():
        return
    try:
        asked = subprocess.run([docker, "info"], capture_output=True, timeout=_DOCKER_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return
    if asked.returncode == 0:
        _console.print(
            f"[dim]A Docker engine answers: {compose.name} runs it in containers; docs/production.md says how.[/]"
        )


def _greet(stack: parts.Stack, took_s: float) -> None:
    settings = stack.settings
    api = health.api_url(settings)
    command = ".venv/bin/commandcenter"
    _console.print(f"\n[bold green]CommandCenter is up[/] [dim]({took_s:.1f} s)[/]\n")
    watchers = {"Prometheus": "PROMETHEUS_PORT", "Alertmanager": "ALERTMANAGER_PORT"}
    urls = {name: f"http://127.0.0.1:{settings[port]}" for name, port in watchers.items()}
    present = {name: url for name, url in urls.items() if name.lower() in stack.names}
    for name, url in {"API": f"{api}/docs", **present}.items():
        _console.print(f"  {name:<13}{url}", highlight=False)
    _console.print(f"  {'Logs':<13}{settings.layout.logs}", highlight=False, soft_wrap=True)
    _console.print("\nNext:")
    nexts = {
        f"{command} demo": "register a repository, sync it, follow its ID",
        f"curl -I {api}/api/v1/repositories": "see the ID every answer bears",
        f"{command} status": "how the parts are",
        "make down": "stop; DATA=1 deletes the data too",
    }
    width = max(len(each) for each in nexts) + 2
    for line, why in nexts.items():
        _console.print(f"  {line:<{width}}[dim]{why}[/]", highlight=False, soft_wrap=True)


@plainly
def status(*, as_json: Annotated[bool, typer.Option("--json", help="For a script to read.")] = False) -> None:
    """Show each part: does it run, since when, is it healthy. Exit code 1 unless all are."""
    layout = Layout.from_environment()
    rows = _rows(layout) if layout.exists() else []
    healthy = bool(rows) and all(row["health"] == "ok" for row in rows)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "data": str(layout.data), "parts": rows}, indent=2))
    elif rows:
        _console.print(_table(rows))
        # A column of its own would be broken over several lines on most terminals.
        _console.print(f"Logs: {layout.logs}/<part>.log", highlight=False, soft_wrap=True)
    else:
        _console.print("This stack was never up. Start it: make up")
    if not healthy:
        raise typer.Exit(FAILED)


def _rows(layout: Layout) -> list[dict[str, Any]]:
    settings = Settings.load(layout)
    stack = parts.plan(settings)
    states = Supervisor(layout).states()
    checks = health.checks(stack, unknown_is_well=True)
    running = {name: check for name, check in checks.items() if name in states and states[name].pid}
    problems = health.ask(running)
    rows = []
    for name in stack.names:
        state = states.get(name)
        pid = state.pid if state and state.pid else None
        rows.append(
            {
                "part": name,
                "state": state.state.lower() if state else "stopped",
                "pid": pid,
                "uptime_s": int(time.time() - state.started_at) if state and pid else None,
                "port": settings.port(PORTS[name]) if name in PORTS else None,
                "health": (problems[name] or "ok") if name in problems else "down",
                "log": str(layout.logs / f"{name}.log"),
            }
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "state", "pid", "uptime", "port", "health"):
        table.add_column(column, justify="right" if column in {"pid", "uptime", "port"} else "left", overflow="fold")
    for row in rows:
        color = "green" if row["health"] == "ok" else "red"
        uptime = _duration(row["uptime_s"]) if row["uptime_s"] is not None else "-"
        figures = [str(row[name] or "-") for name in ("part", "state", "pid")]
        table.add_row(*figures, uptime, str(row["port"] or "-"), f"[{color}]{escape(row['health'])}[/]")
    return table


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
