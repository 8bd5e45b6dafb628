"""How long dashboards take: all queries of one, as a browser sends them, over the time a dashboard must bear."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ops.release import panels
from ops.release.prometheus import Failed, Prometheus

HOURS: Final = 48
_RANGE_S: Final = HOURS * 3600
# Grafana asks for a point a pixel.
_PIXELS: Final = 1500
# A browser's connections to one host.
_AT_ONCE: Final = 6


@dataclass(frozen=True, slots=True)
class Loads:
    """Seconds until Prometheus had answered everything, by dashboard."""

    seconds: Mapping[str, float]


def load(prometheus: Prometheus, folder: Path, at: datetime) -> Loads | Failed:
    """Ask all queries of each dashboard in `folder` over the 48 hours before `at`.

    Raises:
        StackError: a file is no dashboard.
    """
    end = at.timestamp()

    def ask(panel: dict[str, Any]) -> Failed | None:
        for target in panel["targets"]:
            query = panels.filled_in(target["expr"], _RANGE_S)
            if target.get("instant"):
                found: object = prometheus.vector(query, end)
            else:
                found = prometheus.range(query, end - _RANGE_S, end, _RANGE_S / _PIXELS)
            if isinstance(found, Failed):
                return found
        return None

    seconds = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for dashboard in panels.read(folder):
            started = time.perf_counter()
            for failed in pool.map(ask, _asking_prometheus(dashboard)):
                if failed is not None:
                    return failed
            seconds[dashboard["uid"]] = time.perf_counter() - started
    return Loads(seconds) if seconds else Failed(f"there is no dashboard in {folder}")


def _asking_prometheus(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in dashboard["panels"] if each.get("targets") and each["datasource"]["type"] == "prometheus"]
