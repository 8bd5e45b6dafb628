"""What the stack says when it cannot go on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FAILED: Final = 1
LOCKED: Final = 7


class StackError(Exception):
    """A reason a person can act on: what is wrong, and the way out."""

    def __init__(self, problem: str, way_out: str = "", exit_code: int = FAILED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.way_out = way_out
        self.exit_code = exit_code


@contextmanager
def in_plain_words(doing: str) -> Iterator[None]:
    """Say what the block could not do, and why, where its trouble is not in words yet.

    Raises:
        StackError: a file, a program or the database was in the way.
    """
    try:
        yield
    except Exception as error:
        if not _is_trouble(error):
            raise
        # A program's arguments, and the rest of what a database says, may hold what must not be shown.
        if isinstance(error, subprocess.TimeoutExpired):
            why = f"no answer within {error.timeout:g} s"
        elif isinstance(error, subprocess.CalledProcessError):
            why = f"a program ended with {error.returncode}"
        elif isinstance(error, OSError):
            why = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        else:
            why = (str(error).splitlines() or [type(error).__name__])[0]
        raise StackError(f"{doing} failed: {why}.", "Remove the cause, and run the same again: it goes on.") from error


def _is_trouble(error: Exception) -> bool:
    """Tell whether a file, a program or the database can't do what it is asked; all else is a mistake of ours."""
    # Where nobody loaded the driver, it raised nothing; loading it takes half of what a short command does.
    driver = sys.modules.get("psycopg")
    return isinstance(error, OSError | subprocess.SubprocessError) or bool(driver and isinstance(error, driver.Error))


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, each line indented; nothing for a log that isn't there."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 32_768))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(f"    {line[:400]}" for line in text.splitlines()[-count:])
