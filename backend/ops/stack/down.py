"""`commandcenter down`. Asks no part anything, and so loads no driver and no client."""

from typing import Annotated, Final

import typer
from rich.console import Console

from ops.stack import lock, orphans
from ops.stack.layout import Layout
from ops.stack.names import STORES
from ops.stack.plainly import plainly
from ops.stack.supervisor import Supervisor

_console: Final = Console()


@plainly
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
            supervisor.stop(name for name in names if name not in STORES)
            supervisor.stop(name for name in names if name in STORES)
        supervisor.shut_down()
        orphans.end(layout.data, layout.postgres_home, None)
        _console.print("CommandCenter is down.")
        if data:
            for folder in layout.delete():
                _console.print(f"Deleted {folder}", highlight=False, soft_wrap=True)
