"""`commandcenter up`, `down` and `status`: what an operator types, and what it answers."""

import functools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.stack import database, health, lock, monitoring, orphans, packages, parts, preflight
from ops.stack.deployment import Deployment
from ops.stack.errors import FAILED, StackError
from ops.stack.layout import Layout
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings
from ops.stack.supervisor import Supervisor
from ops.stack.wait import Waiter, step

_console: Final = Console()
_errors: Final = Console(stderr=True)
_DOCKER_PATIENCE_S: Final = 2
_WARM_UP_INTERVAL: Final = "1s"


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn a StackError into its words and its exit code."""

    @functools.wraps(command)
    def guarded(*arguments: _P.args, **options: _P.kwargs) -> _R:
        try:
            return command(*arguments, **options)
        except StackError as error:
            # Logs are full of brackets, which are no markup of ours.
            _errors.print(f"[red]✗[/] {escape(error.problem)}", highlight=False, soft_wrap=True)
            if error.way_out:
                _errors.print(f"  → {escape(error.way_out)}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return guarded


@_plainly
def up() -> None:
    """Start everything that isn't running yet, wait until it is healthy, and leave it running."""
    started = time.monotonic()
    layout = Layout.from_environment()
    preflight.check_disk(layout.data)
    _mention_docker(layout)
    packages.ensure(_console)
    layout.make()
    with lock.held(layout.lock):
        settings = Settings.load(layout)
        for name in settings.ignored:
            _console.print(f"[dim]{name} is set, but this stack brings its own; not used.[/]")
        stack = parts.plan(settings)
        _mention_release(settings.deployment)
        for name in stack.missing:
            _console.print(f"[yellow]Without {name}: its program is not installed.[/]")
        _start(stack)
        _greet(stack, time.monotonic() - started)


def _start(stack: parts.Stack) -> None:
    settings, layout = stack.settings, stack.settings.layout
    supervisor = Supervisor(layout)
    is_up = supervisor.is_up()
    swept = orphans.end(layout.data, layout.postgres_home, supervisor.pid() if is_up else None)
    if swept:
        _console.print(f"[dim]Ended what an earlier run left behind: {', '.join(swept)}[/]")
    if not is_up:
        preflight.check_ports(settings, stack.names)
    if layout.postgres_home.parent != layout.data:
        _console.print(
            f"[dim]PostgreSQL's account can't enter {layout.data}; its data lies in {layout.postgres_home}.[/]",
            soft_wrap=True,
        )
    if not (stack.cluster.data / "PG_VERSION").exists():
        step(_console, "database made", lambda: stack.cluster.initialise(settings["POSTGRES_PASSWORD"]))
    programs = parts.build(stack)
    supervisor.configure(programs)
    if is_up:
        supervisor.reload()
        idle = [name for name in stack.names if not _is_running(supervisor, name)]
        preflight.check_ports(settings, idle)
    else:
        supervisor.start()
    _bring_up(stack, supervisor)


def _is_running(supervisor: Supervisor, name: str) -> bool:
    state = supervisor.states().get(name)
    return state is not None and state.pid != 0


def _bring_up(stack: parts.Stack, supervisor: Supervisor) -> None:
    settings = stack.settings
    waiter = Waiter(_console, settings.layout, supervisor)
    checks = health.checks(stack)
    for name in parts.STORES:
        supervisor.launch(name)
    waiter.until_healthy({name: checks[name] for name in parts.STORES})
    database.prepare(settings)
    step(_console, "migrations", lambda: database.migrate(settings))
    if "postgres-exporter" not in settings.deployment.stopped:
        database.let_exporter_in(settings)
    with _quick_first_scrape(stack, supervisor):
        others = [name for name in stack.names if name not in parts.STORES]
        for name in others:
            supervisor.launch(name)
        waiter.until_healthy({name: checks[name] for name in others})


@contextmanager
def _quick_first_scrape(stack: parts.Stack, supervisor: Supervisor) -> Iterator[None]:
    """Let a Prometheus that just starts look around every second, and go over to its real interval when all is up.

    It spreads first scrapes over one interval: at 15 s, they alone would take longer than all the rest of `up`.
    """
    if "prometheus" not in stack.names or _is_running(supervisor, "prometheus"):
        yield
        return
    config = stack.settings.layout.data / "prometheus" / "prometheus.yml"
    write_private(config, monitoring.prometheus_config(stack.settings, stack.names, _WARM_UP_INTERVAL))
    try:
        yield
    finally:
        write_private(config, monitoring.prometheus_config(stack.settings, stack.names))
        if _is_running(supervisor, "prometheus"):
            supervisor.signal("prometheus", "HUP")


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
            f"[dim]A Docker engine answers: docker compose -f {compose.name} up -d runs it in containers.[/]"
        )


def _greet(stack: parts.Stack, took_s: float) -> None:
    settings = stack.settings
    api = health.api_url(settings)
    command = ".venv/bin/commandcenter"
    _console.print(f"\n[bold green]CommandCenter is up[/] [dim]({took_s:.1f} s)[/]\n")
    places = {"API": f"{api}/docs", "Prometheus": "PROMETHEUS_PORT", "Alertmanager": "ALERTMANAGER_PORT"}
    for name, place in places.items():
        if name == "API" or name.lower() in stack.names:
            url = place if name == "API" else f"http://127.0.0.1:{settings[place]}"
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


@_plainly
def down(
    *,
    data: Annotated[bool, typer.Option("--data", help="Delete the stack's data too. Nothing is asked.")] = False,
) -> None:
    """Stop everything. The data stays, unless told otherwise."""
    layout = Layout.from_environment()
    if not layout.exists():
        _console.print("Nothing to stop: this stack was never up.")
        return
    with lock.held(layout.lock):
        supervisor = Supervisor(layout)
        if supervisor.is_up():
            names = supervisor.states()
            supervisor.stop(name for name in names if name not in parts.STORES)
            supervisor.stop(name for name in names if name in parts.STORES)
        supervisor.shut_down()
        orphans.end(layout.data, layout.postgres_home, None)
        _console.print("CommandCenter is down.")
        if data:
            for folder in layout.delete():
                _console.print(f"Deleted {folder}", highlight=False, soft_wrap=True)


@_plainly
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
    running = {name: check for name, check in health.checks(stack).items() if name in states and states[name].pid}
    with ThreadPoolExecutor(max_workers=len(stack.names)) as pool:
        problems = dict(zip(running, pool.map(_ask, running.values()), strict=True))
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
                "port": settings.port(parts.PORTS[name]) if name in parts.PORTS else None,
                "health": (problems[name] or "ok") if name in problems else "down",
                "log": str(layout.logs / f"{name}.log"),
            }
        )
    return rows


def _ask(check: health.Check) -> str:
    try:
        return check()
    except StackError as error:
        return error.problem


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
