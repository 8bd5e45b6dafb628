"""The committed dashboards, asked as Grafana asks: does every panel's query work, and does it have data?"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.release.prometheus import Failed, Prometheus
from ops.stack.errors import StackError

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
# As the dashboards open.
_HOUR_S: Final = 3600
_PIXELS: Final = 1500
_SCRAPE_INTERVAL_S: Final = 15
_ANY: Final = ".*"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel with its Prometheus queries. `says_when_empty`: what it shows where there is no data, if it says so."""

    dashboard: str
    title: str
    queries: tuple[str, ...]
    says_when_empty: str

    def __str__(self) -> str:
        """Name it."""
        return f"{self.dashboard}: {self.title}"


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the dashboards, each with its name for its uid.

    Raises:
        StackError: a file is no dashboard, so Grafana would refuse it.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text())
            is_importable = (
                content["uid"] == file.stem and content["title"] and content["panels"] and content["schemaVersion"] > 0
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackError(f"{file.name} is no dashboard: {error!r}", "commandcenter dashboards build") from error
        if not is_importable:
            raise StackError(
                f"{file.name} has another uid than its name, or no panels.", "commandcenter dashboards build"
            )
        found.append(content)
    return found


def panels(dashboard: dict[str, Any]) -> Iterator[Panel]:
    """Yield the panels that ask Prometheus."""
    for panel in dashboard["panels"]:
        queries = tuple(target["expr"] for target in panel.get("targets", ()) if "expr" in target)
        if queries and panel["datasource"]["type"] == "prometheus":
            says = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")
            yield Panel(dashboard["uid"], panel["title"], queries, says)


def filled_in(query: str, range_s: int = _HOUR_S) -> str:
    """Return a query as Grafana would send it for the last `range_s` seconds; a variable stands for all its values.

    A step is no shorter than a scrape, and a rate takes four scrapes at least: Grafana's own rules.
    """
    step_s = max(range_s / _PIXELS, _SCRAPE_INTERVAL_S)
    built_in = {
        "__interval": f"{step_s:.0f}s",
        "__rate_interval": f"{max(step_s + _SCRAPE_INTERVAL_S, 4 * _SCRAPE_INTERVAL_S):.0f}s",
        "__range": f"{range_s}s",
        "__range_s": str(range_s),
    }
    return _VARIABLE.sub(lambda found: built_in.get(found[1] or found[2], _ANY), query)


def ask(prometheus: Prometheus, panel: Panel) -> Failed | bool:
    """Return whether any query of a panel has data, or why one can't be asked."""
    has_data = False
    for query in panel.queries:
        found = prometheus.vector(filled_in(query))
        if isinstance(found, Failed):
            return found
        has_data = has_data or bool(found)
    return has_data
