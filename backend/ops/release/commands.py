"""`commandcenter release …`: arguments in, text and exit codes out."""

from typing import Final

import typer

cli: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)  # Locals may hold secrets.


@cli.callback()
def release() -> None:
    """A release: each step checked, done, verified and written down, and the way back."""
