"""How a command says that it can't go on: the problem, the way out, an exit code; never a traceback."""

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from ops.stack.errors import StackError, in_plain_words

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
            # Logs are full of brackets, which are no markup of ours.
            _errors.print(f"[red]✗[/] {escape(error.problem)}", highlight=False, soft_wrap=True)
            if error.way_out:
                _errors.print(f"  → {escape(error.way_out)}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return guarded
