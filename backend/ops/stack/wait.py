"""Waiting until parts are healthy, side by side, and showing it."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ops.stack.errors import StackError, last_lines
from ops.stack.health import Check
from ops.stack.layout import Layout
from ops.stack.supervisor import State, Supervisor

_PAUSE_S: Final = 0.05
_PATIENCE_S: Final = 60.0


class Waiter:
    """Waits for parts and tells how it goes: a line each, with a spinner where somebody watches."""

    def __init__(self, console: Console, layout: Layout, supervisor: Supervisor) -> None:
        self._console = console
        self._layout = layout
        self._supervisor = supervisor

    def until_healthy(self, checks: Mapping[str, Check], patience_s: float = _PATIENCE_S) -> None:
        """Return when every check is content.

        Raises:
            StackError: a part crashed or isn't healthy in time; with the end of its log.
        """
        deadline = time.monotonic() + patience_s
        columns = (SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description}"), TimeElapsedColumn())
        with (
            Progress(
                *columns, console=self._console, transient=True, disable=not self._console.is_terminal
            ) as progress,
            ThreadPoolExecutor(max_workers=len(checks) or 1) as pool,
        ):
            started = time.monotonic()
            given_up = Event()

            def wait_for(name: str, check: Check) -> None:
                bar = progress.add_task(name, total=1)
                self._until_content(name, check, deadline, given_up)
                if given_up.is_set():
                    return
                progress.update(bar, completed=1)
                self._console.print(f"  [green]✓[/] {name} [dim]({time.monotonic() - started:.1f} s)[/]")

            futures = [pool.submit(wait_for, name, check) for name, check in checks.items()]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                # With one part lost, or a Ctrl-C, there is nothing more to wait for.
                given_up.set()

    def _until_content(self, name: str, check: Check, deadline: float, given_up: Event) -> None:
        while not given_up.wait(_PAUSE_S):
            state = self._supervisor.states().get(name)
            if state is not None and state.has_crashed:
                raise self._crashed(name, state)
            problem = "it is not running" if state is None or state.pid == 0 else check()
            if not problem and state is not None and (name != "beat" or state.is_running):
                return
            if time.monotonic() > deadline:
                raise self._late(name, problem)

    def _crashed(self, name: str, state: State) -> StackError:
        log = self._layout.logs / f"{name}.log"
        why = f" ({state.problem})" if state.problem else ""
        return StackError(
            f"{name} ends right after its start{why}. The end of its log:\n{last_lines(log)}", f"Its log: {log}"
        )

    def _late(self, name: str, problem: str) -> StackError:
        log = self._layout.logs / f"{name}.log"
        return StackError(
            f"{name} is not healthy in time: {problem}. The end of its log:\n{last_lines(log)}", f"Its log: {log}"
        )


def step(console: Console, name: str, work: Callable[[], object]) -> None:
    """Do one thing and tell that it is done."""
    started = time.monotonic()
    if console.is_terminal:
        with console.status(name):
            work()
    else:
        work()
    console.print(f"  [green]✓[/] {name} [dim]({time.monotonic() - started:.1f} s)[/]")


def until_content(ask: Callable[[], str], patience_s: float, way_out: str) -> None:
    """Return when nothing is wrong any more.

    Raises:
        StackError: something still is; says what.
    """
    deadline = time.monotonic() + patience_s
    while problem := ask():
        if time.monotonic() > deadline:
            raise StackError(f"Not healthy in time: {problem}", way_out)
        time.sleep(_PAUSE_S)
