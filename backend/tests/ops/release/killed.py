"""`commandcenter`, killed without warning right before or after the journal's nth line of this run is written."""

import os
import signal
from typing import Any

from ops.cli import main
from ops.release.journal import Journal


def run() -> None:
    """Run the command line with TEST_KILL_AT=n; an odd n kills before a line is written, an even one after."""
    left = int(os.environ["TEST_KILL_AT"])
    append = Journal.append

    def counted(self: Journal, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        written = append(self, *arguments, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    Journal.append = counted  # type: ignore[method-assign]
    main()
