"""A release in compressed time: values are those recorded, times are not, and judges believe that it is later."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.stretching import HOLD_S, Clock, past, recorded, stretched
from ops.release.history import hours
from ops.release.prometheus import Prometheus
from tests.backfill import prometheus_with
from tests.native_stack import BACKEND
from tests.release_history import RELEASED, requests, series

# A recorded second is twelve minutes.
FACTOR = 720
BEGAN_S = 1_700_000_000.25


def clock(shown_s: float = 0.0) -> Clock:
    return Clock(BEGAN_S, shown_s, FACTOR)


def test_only_what_was_recorded_is_shown() -> None:
    """A value stands until the next one, once a minute; nothing lies between two values."""
    shown = list(stretched([(BEGAN_S, 3.0), (BEGAN_S + 1, 8.0), (BEGAN_S + 2.5, 8.5)], clock()))
    assert [value for at, value in shown if at < 720] == [3.0] * 12
    assert [value for at, value in shown if 720 <= at < 1800] == [8.0] * 18
    assert {value for at, value in shown if at >= 1800} == {8.5}
    assert [at for at, _ in shown] == [60.0 * minute for minute in range(len(shown))]


def test_what_went_away_is_not_shown() -> None:
    """A scrape that comes late changes nothing; a gap is a gap."""
    shown = list(stretched([(BEGAN_S, 1.0), (BEGAN_S + 100, 2.0)], clock()))
    assert max(at for at, value in shown if value == 1.0) < HOLD_S * FACTOR
    assert min(at for at, value in shown if value == 2.0) == 100 * FACTOR


def test_requests_stay_as_many(tmp_path: Path) -> None:
    """From one Prometheus to the next, through the very functions that judge: counts are those of the real seconds."""
    real = {
        series("up"): [(BEGAN_S + second, 1.0) for second in range(31)],
        requests("200"): [(BEGAN_S + second, 100.0 + 7 * second) for second in range(31)],
        requests("500", "a @b@"): [(BEGAN_S + second, float(second // 10)) for second in range(31)],
    }
    # A label may hold what has to be escaped.
    escaped = {name.replace("@", '\\"'): samples for name, samples in real.items()}
    with prometheus_with(escaped, tmp_path / "real") as url:
        found = recorded(url, {"up", "http_requests_total"}, BEGAN_S, BEGAN_S + 30)
    assert sum(map(len, found.values())) == 93
    shown = past(found, clock(RELEASED.timestamp()))
    with prometheus_with(shown, tmp_path / "shown") as url, Prometheus(url) as client:
        judged = hours(client, RELEASED, RELEASED.replace(hour=16), ())
    assert isinstance(judged, list)
    assert all(hour.counts for hour in judged)
    # Five seconds an hour; the second at its end belongs to it.
    assert [hour.n for hour in judged] == [35.0, 36.0, 35.0, 36.0, 35.0, 36.0]
    assert [hour.k for hour in judged] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_judges_believe_that_it_is_later(tmp_path: Path) -> None:
    """And write it so; nobody else does."""
    code = (
        "from unittest.mock import patch\n"
        "import bench.later as later, pathlib, sys\n"
        "from ops.release import judgements\n"
        "from ops.release.journal import Journal\n"
        "from datetime import UTC, datetime\n"
        "def show():\n"
        f"    entry = Journal(pathlib.Path({str(tmp_path)!r}), 'r').append('verdict', 'x')\n"
        "    for at in (judgements.datetime.now(UTC), entry.moment, datetime.now(UTC)): print(at.timestamp())\n"
        "with patch.object(later, 'main', show): later.run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BACKEND,
        env=dict(os.environ) | {"LATER_S": "3600000"},
        check=True,
        capture_output=True,
        text=True,
    )
    judges, written, others = map(float, done.stdout.split())
    assert min(judges, written) > time.time() + 3_000_000
    assert others <= time.time()
