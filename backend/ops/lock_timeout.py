"""How long a migration waits for a lock, and how it is told that it waited in vain.

While it waits, everybody who comes after it waits behind it.
"""

from typing import Final

# For PGOPTIONS.
OPTION: Final = "-c lock_timeout=1s"
# What PostgreSQL says when that has passed (SQLSTATE 55P03).
_MESSAGE: Final = "canceling statement due to lock timeout"
IN_VAIN: Final = "Another session holds a lock that the migration needs."


def has_passed(said: str) -> bool:
    """Whether alembic failed for want of a lock, by what it said."""
    return _MESSAGE in said
