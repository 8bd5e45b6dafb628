"""What an answer of postgres_exporter says of the database it watches; it answers 200 where it reaches none, too."""

import re
from typing import Final

# Old versions name the server in a label.
_IS_UP: Final = re.compile(r"^pg_up(\{[^}]*\})? 1$", re.MULTILINE)


def pg_up_problem(metrics: str) -> str:
    """Return in words that it does not reach PostgreSQL, or says nothing of it; or nothing."""
    return "" if _IS_UP.search(metrics) else "pg_up is not 1"
