"""One `up` or `down` at a time for a stack."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.stack.errors import LOCKED, StackError


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock until the block ends; the kernel frees it too if this process dies.

    Raises:
        StackError: somebody else holds it; exit code 7.
    """
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StackError(
                    "Another `up` or `down` is at work on this stack.", "Wait until it is done.", LOCKED
                ) from error
            # Between open and flock, a `down` may have deleted the file: then this lock excludes nobody.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue
            yield
            return
