"""The system that releases are made on here: the one that was chosen is loaded, and no other."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Literal

from rich.console import Console

if TYPE_CHECKING:
    from ops.release.target import Target

# Set by the option `--target` of `commandcenter release`.
chosen: Final[ContextVar[Literal["native", "compose"]]] = ContextVar("target", default="native")


def choose_target(console: Console, versions: Path | None = None) -> "Target":
    """Return the system that releases are made on here.

    Args:
        console: where progress is shown.
        versions: where a native one lays versions out; with its data, unless given.

    Raises:
        StackError: there is none.
    """
    if chosen.get() == "compose":
        from ops.release.compose import ComposeTarget  # noqa: PLC0415 - the other one stays unloaded

        return ComposeTarget(console)
    from ops.release.native import NativeTarget  # noqa: PLC0415 - as above

    return NativeTarget(console, versions)


@contextmanager
def looked_at(console: Console) -> Iterator["Target"]:
    """Give the system to one who only looks: what has to be laid out for that is gone at the end.

    An image that was built is found again by `apply`; it changes nothing that runs.
    """
    with TemporaryDirectory() as scratch:
        yield choose_target(console, Path(scratch))
