"""How a command says that it can't go on: the problem, the way out, an exit code; never a traceback."""

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from ops.stack.errors import StackError, in_plain_words
from ops.trace.text import safe

_errors: Final = Console(stderr=True)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn what a person can act on into words and an exit code: a StackError, a full disk, a database that is away."""

    @functools.wraps(command)
    def guarded(*arguments: _P.args, **options: _P.kwargs) -> _R:
        try:
            with in_plain_words(f"`{getattr(command, '__name__', 'this')}`"):
                return command(*arguments, **options)
        except StackError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                # Who read us has left, as `head` does: click ends without a word.
                raise error.__cause__ from None
            _errors.print(f"[red]✗[/] {_shown(error.problem)}", highlight=False, soft_wrap=True)
            if error.way_out:
                _errors.print(f"  → {_shown(error.way_out)}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return guarded


def _shown(text: str) -> str:
    """Return lines that no terminal obeys, and rich neither: logs and names of files are full of both."""
    return escape("\n".join(safe(line.expandtabs()) for line in text.split("\n")))
