"""Figures that must not outlive, nor run on behind, what they are of."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI

from app import serve
from app.broker import make_celery
from app.middleware.http_metrics import HttpMetricsMiddleware
from app.telemetry import exposition
from app.telemetry.celery_figures import LOST
from app.utils.metrics import CELERY_TASKS, HTTP_DURATION
from tests.telemetry.lost import lose_a_run


def test_a_process_that_is_gone_takes_its_live_gauges_along(tmp_path: Path) -> None:
    """A child that was killed would hold its connections in the figures for ever; what it counted stays."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [tmp_path / f"counter_{gone.pid}.db", tmp_path / "gauge_livesum_1.db"]
    for file in (*kept, tmp_path / f"gauge_livesum_{gone.pid}.db"):
        file.touch()
    exposition.forget_dead_processes(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_figures_of_an_earlier_start_are_gone_at_the_next(tmp_path: Path) -> None:
    """Else a restart would go on counting for processes that are no more."""
    folder = tmp_path / "metrics"
    serve._empty(folder)
    (folder / "counter_4711.db").touch()
    (folder / "not-ours.txt").touch()
    serve._empty(folder)
    assert [path.name for path in folder.iterdir()] == ["not-ours.txt"]


async def test_the_clock_of_a_request_stops_before_its_background_tasks() -> None:
    """The client has its answer; what runs on is no latency."""
    app = FastAPI()
    app.add_middleware(HttpMetricsMiddleware)
    counted: Callable[[], float] = HTTP_DURATION.labels("GET", "/background-of-a-test")._sum.get
    while_it_runs: list[bool] = []

    @app.get("/background-of-a-test")
    async def answer(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: while_it_runs.append(counted() > 0))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        await client.get("/background-of-a-test")
    assert while_it_runs == [True]


def test_whatever_a_message_says_of_its_queue_a_lost_run_makes_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to Redis names the queue in the message; only those that there are may be a label."""
    app = make_celery("redis://127.0.0.1:1/0")

    @app.task(name="figures.lost", shared=False)
    def lost() -> None: ...

    for queue in ("sync", "made-up", "made-up-again"):
        lose_a_run(app, "figures.lost", queue, monkeypatch)
    [family] = CELERY_TASKS.collect()
    counted = {
        sample.labels["queue"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["task"] == "figures.lost" and sample.labels["state"] == LOST
    }
    assert counted == {"sync": 1, "other": 2}
