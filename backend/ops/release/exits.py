"""What the exit codes of `commandcenter release` mean to a script."""

from typing import Final

from ops.stack.errors import FAILED, LOCKED

__all__ = ["FAILED", "INCONCLUSIVE", "LOCKED", "OK", "ROLLBACK_FAILED", "ROLLED_BACK", "WAITING"]

OK: Final = 0
WAITING: Final = 3
INCONCLUSIVE: Final = 4
ROLLED_BACK: Final = 5
ROLLBACK_FAILED: Final = 6
