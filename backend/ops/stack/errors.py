"""What the stack says when it cannot go on."""

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
