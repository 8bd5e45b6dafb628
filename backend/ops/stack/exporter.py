"""postgres_exporter: who it is in the database, and what its answer says of that; it answers 200 in vain, too."""

import re
from typing import Final

ROLE: Final = "exporter_user"
# Old versions name the server in a label.
_IS_UP: Final = re.compile(r"^pg_up(\{[^}]*\})? 1$", re.MULTILINE)


def pg_up_problem(metrics: str) -> str:
    """Return in words that it does not reach PostgreSQL, or says nothing of it; or nothing."""
    return "" if _IS_UP.search(metrics) else "pg_up is not 1"
