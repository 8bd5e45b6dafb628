"""What one of several server processes owes to the others: to be gone when their parent is."""

import ctypes
import multiprocessing
import os
import signal
import sys
from typing import Final

# prctl(2).
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Have the kernel ask this process to stop when its parent is gone; nothing where it is the only one.

    A parent that was killed can't ask. Its children would hold the port, and no server could be started in its place.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent.pid:
        # Gone before the kernel was told.
        os.kill(os.getpid(), signal.SIGTERM)
