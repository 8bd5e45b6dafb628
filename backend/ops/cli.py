"""The command line: one name, one function or group each. The work is in the packages beside this file."""

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

# Loaded when asked for: who asks for a trace waits for no driver of a database.
COMMANDS: Final = {
    "up": "ops.stack.commands:up",
    "down": "ops.stack.commands:down",
    "status": "ops.stack.commands:status",
    "demo": "ops.trace.commands:demo",
    "trace": "ops.trace.commands:trace",
    "errors": "ops.trace.commands:errors",
    "trail-token": "ops.trace.commands:trail_token",
    "dashboards": "ops.dashboards:cli",
    "alerts": "ops.alerting.commands:cli",
    "release": "ops.release.commands:cli",
}


class OnDemand(TyperGroup):
    """A group whose commands are loaded by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's signature
        """Return the names, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where there is none of that name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _loaded(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is meant, or say which may be."""
        if not COMMANDS.keys() & set(args[:1]):
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _loaded(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
        command.name = name
        return command
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)


cli = typer.Typer(
    cls=OnDemand,
    name="commandcenter",
    help="Watch over a team's Git repositories, and over this system: one ID tells the whole story.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # Locals may hold secrets.
)


@cli.callback()
def _root() -> None:
    """A group, although nothing is registered with it."""


def main() -> None:
    """Run the command line."""
    cli()
