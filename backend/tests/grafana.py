"""Dashboards as Grafana sees them: their panels' queries, with variables filled in as Grafana does it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

BACKEND: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = BACKEND.parent / "monitoring" / "grafana" / "dashboards"
# Provisioning says so, and prometheus.yml.
SCRAPE_INTERVAL_S: Final = 15
# A panel that is 1,500 pixels wide asks for as many points.
POINTS: Final = 1500


@dataclass(frozen=True)
class Target:
    """One query of one panel."""

    dashboard: str
    panel: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        """Name it as a test's parameter."""
        return f"{self.dashboard}: {self.panel}"


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    uid: str
    content: dict[str, Any] = field(repr=False)

    @property
    def panels(self) -> list[dict[str, Any]]:
        """All panels."""
        found: list[dict[str, Any]] = self.content["panels"]
        return found

    @property
    def variables(self) -> list[dict[str, Any]]:
        """All variables."""
        found: list[dict[str, Any]] = self.content["templating"]["list"]
        return found

    def targets(self, kind: str = "prometheus") -> Iterator[Target]:
        """Yield the queries of one kind of data source."""
        for panel in self.panels:
            if panel["datasource"]["type"] == kind:
                for target in panel["targets"]:
                    yield Target(self.uid, panel["title"], target["expr"], bool(target.get("instant")))

    def annotations(self) -> Iterator[Target]:
        """Yield the annotations' queries."""
        for each in self.content["annotations"]["list"]:
            yield Target(self.uid, f"annotation {each['name']}", each["expr"], instant=False)


def dashboards() -> list[Dashboard]:
    """Return the committed dashboards, by uid."""
    return [Dashboard(file.stem, json.loads(file.read_text())) for file in sorted(FOLDER.glob("*.json"))]


def step_s(range_s: float) -> float:
    """Return the step Grafana takes for a graph: no shorter than a scrape, no more points than pixels."""
    return max(range_s / POINTS, SCRAPE_INTERVAL_S)


def filled_in(expression: str, range_s: float, variables: Mapping[str, str] | None = None) -> str:
    """Return an expression as Grafana would send it; a variable that isn't given stands for all its values.

    Source: Grafana's documentation of `$__rate_interval`: max($__interval + scrape interval, 4 x scrape interval).
    """
    rate_s = max(step_s(range_s) + SCRAPE_INTERVAL_S, 4 * SCRAPE_INTERVAL_S)
    values = {
        "__rate_interval": f"{rate_s:.0f}s",
        "__range_s": f"{range_s:.0f}",
        "__range": f"{range_s:.0f}s",
        **(variables or {}),
    }
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), expression)
