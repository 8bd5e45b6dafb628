"""How long each dashboard takes to load with two days of history: `python -m bench.dashboards`.

Runs the real system for a moment to learn its series, makes up 48 h of them at a scrape every 15 s, has promtool write
the blocks and work out the recording rules over them, and asks a Prometheus that holds nothing else every query as
Grafana would: all panels of a dashboard at once, six requests at a time as a browser does, a step for 1,500 pixels.
Goals: under 1 s for an hour, under 3 s for 48 h.
"""

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Final

import httpx

from app.utils.metrics import HTTP_DURATION
from bench import history
from dashboards.names import TRAFFIC, buckets
from dashboards.recording import LATENCY_OF_ALL, quantile
from tests.backfill import prometheus_over, promtool
from tests.grafana import BACKEND, Dashboard, Target, dashboards, filled_in, step_s
from tests.monitoring_stack import monitored_system
from tests.promql import wants
from tests.services import postgres_server, redis_server
from tests.traffic import make_traffic

HOURS: Final = 48
GOALS_S: Final = {1: 1.0, HOURS: 3.0}
RUNS: Final = 5
# A browser's connections to one host.
AT_ONCE: Final = 6
RECORDING: Final = BACKEND.parent / "monitoring" / "recording.yml"


def learn(scratch: Path) -> tuple[list[history.Labels], dict[str, str]]:
    """Return the labels of every series that panels and recording rules read, and each family's type."""
    with (
        postgres_server(scratch) as server,
        redis_server(scratch) as redis,
        monitored_system(scratch / "watched", server, redis) as watched,
    ):
        (scratch / "repositories").mkdir()
        make_traffic(watched, scratch / "repositories")
        found = watched.get("series", **{"match[]": '{__name__=~".+"}'})
        types = {name: each[0]["type"] for name, each in watched.get("metadata").items()}
    text = RECORDING.read_text()
    read = {
        name
        for each in dashboards()
        for target in _queries(each)
        for name in wants(filled_in(target.expression, 3600)).labels
    }
    wanted = [labels for labels in found if labels["__name__"] in read or labels["__name__"] in text]
    return [labels for labels in wanted if ":" not in labels["__name__"]], types


def _queries(dashboard: Dashboard) -> list[Target]:
    return [*dashboard.targets(), *dashboard.annotations()]


def load(client: httpx.Client, dashboard: Dashboard, hours: int, end_s: int) -> tuple[float, int]:
    """Return how long a dashboard takes, in seconds, and how many of its queries gave series."""
    panels = [list(targets) for _, targets in groupby(_queries(dashboard), key=lambda target: target.panel)]
    range_s = hours * 3600

    def ask(targets: list[Target]) -> int:
        return sum(_has_series(client, target, range_s, end_s) for target in targets)

    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answered = sum(pool.map(ask, panels))
    return time.perf_counter() - started, answered


def _has_series(client: httpx.Client, target: Target, range_s: int, end_s: int) -> bool:
    expression = filled_in(target.expression, range_s)
    if target.instant:
        answer = client.get("/api/v1/query", params={"query": expression, "time": end_s})
    else:
        window = {"start": end_s - range_s, "end": end_s, "step": step_s(range_s)}
        answer = client.get("/api/v1/query_range", params={"query": expression, **window})
    answer.raise_for_status()
    return bool(answer.json()["data"]["result"])


def measure(url: str, end_s: int) -> Mapping[tuple[str, int], tuple[float, float, int, int]]:
    """Return for each dashboard and span: the first load, the median of the others, queries with series, queries."""
    found = {}
    with httpx.Client(base_url=url, timeout=120) as client:
        for each in dashboards():
            for hours in GOALS_S:
                first, answered = load(client, each, hours, end_s)
                again = statistics.median(load(client, each, hours, end_s)[0] for _ in range(RUNS - 1))
                found[each.uid, hours] = (first, again, answered, len(_queries(each)))
    return found


def what_recording_saves(url: str, end_s: int) -> tuple[float, float]:
    """Return seconds for one p95 over all of the history: from the recorded sums, and from the buckets themselves."""
    raw = f"histogram_quantile(0.95, sum by (le) (rate({buckets(HTTP_DURATION)}{{{TRAFFIC}}}[5m])))"
    took = []
    with httpx.Client(base_url=url, timeout=120) as client:
        for expression in (quantile(0.95, LATENCY_OF_ALL), raw):
            runs = []
            for _ in range(RUNS):
                started = time.perf_counter()
                _has_series(client, Target("", "", expression, instant=False), HOURS * 3600, end_s)
                runs.append(time.perf_counter() - started)
            took.append(statistics.median(runs))
    return took[0], took[1]


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name:
        scratch = Path(name)
        data = scratch / "data"
        found, types = learn(scratch)
        series = history.make_up(history.widen(found), types)
        end_s = int(time.time()) // history.INTERVAL_S * history.INTERVAL_S
        start_s = end_s - HOURS * 3600
        started = time.monotonic()
        samples = history.write_blocks(series, start_s, end_s, data, scratch)
        with prometheus_over(data) as url:
            span = ("--start", str(start_s), "--end", str(end_s), "--eval-interval", f"{history.INTERVAL_S}s")
            promtool("create-blocks-from", "rules", "--url", url, *span, "--output-dir", str(data), str(RECORDING))
        print(f"{len(series)} series, {samples / 1e6:.1f} million samples, made in {time.monotonic() - started:.0f} s")
        with prometheus_over(data) as url:
            results = measure(url, end_s)
            recorded_s, raw_s = what_recording_saves(url, end_s)
    print(f"Python {platform.python_version()}; seconds: first load, then the median of {RUNS - 1}")
    print(f"{'dashboard':<26}{'hours':>6}{'first':>8}{'again':>8}{'goal':>7}  queries with series")
    for (uid, hours), (first, again, answered, queries) in results.items():
        print(f"{uid:<26}{hours:>6}{first:>8.2f}{again:>8.2f}{GOALS_S[hours]:>7.1f}  {answered} of {queries}")
    print(f"one p95 over {HOURS} h: {recorded_s * 1000:.0f} ms recorded, {raw_s * 1000:.0f} ms from the buckets")
    return int(any(max(result[:2]) > GOALS_S[hours] for (_, hours), result in results.items()))


if __name__ == "__main__":
    sys.exit(main())
