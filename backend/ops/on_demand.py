"""Groups of commands that are loaded when asked for: who asks for a trace waits for no driver of a database."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


def on_demand(commands: Mapping[str, str]) -> type[TyperGroup]:
    """Return a group whose commands are loaded by name.

    Args:
        commands: name: `module:attribute`, a function or a group.
    """

    class OnDemand(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Click's signature
            """Return the names, in the order of the help page."""
            return list(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """Return a command, or None where there is none of that name."""
            if cmd_name in commands and cmd_name not in self.commands:
                self.commands[cmd_name] = _loaded(cmd_name, commands[cmd_name])
            return super().get_command(ctx, cmd_name)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Find the command that is meant, or say which may be."""
            if not commands.keys() & set(args[:1]):
                for name in commands:
                    self.get_command(ctx, name)
            return super().resolve_command(ctx, args)

    return OnDemand


def _loaded(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
        command.name = name
        return command
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
