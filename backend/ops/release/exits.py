"""What the exit codes of `commandcenter release` mean to a script."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
WAITING: Final = 3
INCONCLUSIVE: Final = 4
ROLLED_BACK: Final = 5
ROLLBACK_FAILED: Final = 6
LOCKED: Final = 7
