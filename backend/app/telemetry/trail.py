"""The trail: what a request or task did, kept in memory while it runs and told when it ends."""

from dataclasses import dataclass
from typing import Any, Final

from app.correlation import Correlation

_MAX_TEXT: Final = 500


@dataclass(slots=True)
class Trail:
    """SQL of one request or task: how many statements, how long, and which was slowest.

    Times in seconds; the text is without parameters.
    """

    sql_count: int = 0
    sql_time_s: float = 0.0
    sql_slowest_s: float = 0.0
    sql_slowest: str = ""

    def add_statement(self, text: str, duration_s: float) -> None:
        """Add one statement that took `duration_s`."""
        self.sql_count += 1
        self.sql_time_s += duration_s
        if duration_s >= self.sql_slowest_s:
            self.sql_slowest_s = duration_s
            self.sql_slowest = text

    def sql_summary(self) -> dict[str, Any]:
        """Return the `sql` object of the log schema."""
        summary: dict[str, Any] = {"count": self.sql_count, "time_ms": round(self.sql_time_s * 1000, 3)}
        if self.sql_count:
            summary["slowest_ms"] = round(self.sql_slowest_s * 1000, 3)
            summary["slowest"] = self.sql_slowest[:_MAX_TEXT]
        return summary


def trail_of(correlation: Correlation) -> Trail:
    """Return the trail of a request or task; a new one at first."""
    trail = correlation.trail
    if trail is None:
        trail = correlation.trail = Trail()
    assert isinstance(trail, Trail)  # noqa: S101 - nobody else sets it
    return trail
