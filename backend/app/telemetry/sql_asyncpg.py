"""asyncpg's transactions: their BEGIN takes the ID along; see sql.py."""

from collections.abc import Coroutine
from typing import Any

import asyncpg

from app.telemetry.sql import set_application_name
from app.utils.metrics import hook_failed


class AttributedConnection(asyncpg.Connection):
    """An asyncpg connection whose transactions bear the ID. Hand it in as `connection_class`."""

    def execute(self, query: str, *args: Any, timeout: float | None = None) -> Coroutine[Any, Any, str]:
        """Run `query`; a BEGIN takes the ID along in the same message."""
        if not args and query.startswith("BEGIN"):
            try:
                query += set_application_name(separator="")
            except Exception:  # noqa: BLE001 - a transaction without a name is better than none
                hook_failed("sql_begin")
        return super().execute(query, *args, timeout=timeout)
