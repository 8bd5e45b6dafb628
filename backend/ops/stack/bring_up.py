"""Bringing a stack up: stores first, then the schema, then the rest, each waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from ops.stack import database, health, monitoring, orphans, parts, preflight
from ops.stack.names import STORES
from ops.stack.secret_store import write_private
from ops.stack.supervisor import Supervisor
from ops.stack.wait import Waiter, step

_WARM_UP_INTERVAL: Final = "1s"


def bring_up(stack: parts.Stack, console: Console, *, for_release: bool = False) -> None:
    """Start what isn't running yet, restart what changed, and return when all is healthy.

    Args:
        stack: what is to run; its lock is held.
        console: where the progress is shown.
        for_release: a release sees to the schema before, and to what Prometheus reaches after; nothing waits for the
            next scrape here.

    Raises:
        StackError: a part doesn't come up; says which, and how its log ends.
    """
    settings, layout = stack.settings, stack.settings.layout
    supervisor = Supervisor(layout)
    is_up = supervisor.is_up()
    swept = orphans.end(layout.data, layout.postgres_home, supervisor.pid() if is_up else None)
    if swept:
        console.print(f"[dim]Ended what an earlier run left behind: {', '.join(swept)}[/]")
    if not is_up:
        preflight.check_ports(settings, stack.names)
    if layout.postgres_home.parent != layout.data:
        console.print(
            f"[dim]PostgreSQL's account can't enter {layout.data}; its data lies in {layout.postgres_home}.[/]",
            soft_wrap=True,
        )
    if not (stack.cluster.data / "PG_VERSION").exists():
        step(console, "database made", lambda: stack.cluster.initialise(settings["POSTGRES_PASSWORD"]))
    programs = parts.build(stack)
    supervisor.configure(programs)
    if is_up:
        supervisor.reload()
        states = supervisor.states()
        idle = [name for name in stack.names if name not in states or not states[name].pid]
        preflight.check_ports(settings, idle)
    else:
        supervisor.start()
    _launch(stack, supervisor, console, for_release=for_release)


def _is_running(supervisor: Supervisor, name: str) -> bool:
    state = supervisor.states().get(name)
    return state is not None and state.pid != 0


def _launch(stack: parts.Stack, supervisor: Supervisor, console: Console, *, for_release: bool) -> None:
    settings = stack.settings
    waiter = Waiter(console, settings.layout, supervisor)
    checks = health.checks(stack, targets=not for_release)
    for name in STORES:
        supervisor.launch(name)
    waiter.until_healthy({name: checks[name] for name in STORES})
    database.prepare(settings)
    if not for_release:
        step(console, "migrations", lambda: database.migrate(settings))
    if "postgres-exporter" not in settings.deployment.stopped:
        database.let_exporter_in(settings)
    with _quick_first_scrape(stack, supervisor):
        others = [name for name in stack.names if name not in STORES]
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
