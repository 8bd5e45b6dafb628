"""What a Celery task costs more for being observed, beside OpenTelemetry's instrumentation: `python -m bench.tasks`.

A task is run as a worker's child runs it (Celery's own tracer, signals and all), without a broker. Rounds in random
order; what a variant costs is the median over rounds of its time less the bare one's in the same round.
"""

import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from celery import Celery, signals
from celery.app.trace import build_tracer

from app.telemetry.celery_signals import CelerySignals
from app.telemetry.log_sink import DescriptorSink
from app.telemetry.logs import configure_logging

ROUNDS = 400
CALLS = 20

_OURS = (signals.before_task_publish, signals.task_prerun, signals.task_postrun, signals.task_retry,
         signals.task_failure, signals.task_revoked)  # fmt: skip

app = Celery("bench", broker="memory://", backend="cache+memory://")
app.conf.task_ignore_result = True


@app.task(name="bench.nothing", ignore_result=True)
def nothing() -> None:
    """Do nothing."""


@contextmanager
def bare() -> Iterator[None]:
    """No receiver of anybody's."""
    yield


@contextmanager
def ours() -> Iterator[None]:
    """Correlation, metrics, queue wait, two log lines a run."""
    before = {signal: list(signal.receivers or []) for signal in _OURS}
    CelerySignals(["celery"]).install(app)
    try:
        yield
    finally:
        for signal, receivers in before.items():
            signal.receivers = receivers
            if hasattr(signal, "sender_receivers_cache"):
                signal.sender_receivers_cache.clear()


@contextmanager
def opentelemetry() -> Iterator[None]:
    """opentelemetry-instrumentation-celery, with an SDK that samples and drops."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    instrumentor = CeleryInstrumentor()  # type: ignore[no-untyped-call]
    instrumentor.instrument(tracer_provider=TracerProvider())
    try:
        yield
    finally:
        instrumentor.uninstrument()


@contextmanager
def without_lines() -> Iterator[None]:
    """The same at level warning: what is left when nothing is told of a good run."""
    _log("warning")
    try:
        with ours():
            yield
    finally:
        _log("info")


_nowhere = os.open(os.devnull, os.O_WRONLY)


def _log(level: str) -> None:
    configure_logging("bench", level, DescriptorSink(_nowhere))


CORE: Final = "ours: correlation + metrics"
GOAL: Final = 0.5
VARIANTS: dict[str, Callable[[], Any]] = {
    "bare Celery": bare,
    CORE: without_lines,
    "ours: the same + two JSON lines": ours,
    "opentelemetry-instrumentation-celery": opentelemetry,
}


def _time() -> float:
    """Return seconds a run, over CALLS runs."""
    # The task itself, as a worker has it, not the proxy that the decorator left.
    task = app.tasks[nothing.name]
    trace = build_tracer(task.name, task, app=app)
    total = 0.0
    for _ in range(CALLS):
        task_id = str(uuid4())
        request = {
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "task": nothing.name,
            "delivery_info": {"routing_key": "celery"},
            "request_id": "01a20ccf-feeb-7354-ae2f-f130902195da",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "published_at": 0.0,
        }
        started = perf_counter()
        trace(task_id, [], {}, request)
        total += perf_counter() - started
    return total / CALLS


def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return for each variant but the bare one the seconds a run it adds, one figure a round; and the bare times."""
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 10):
        order = list(VARIANTS)
        random.shuffle(order)
        for name in order:
            with VARIANTS[name]():
                taken = _time()
            if number >= 10:  # noqa: PLR2004 - the first ten warm up
                times[name].append(taken)
    return times


def main() -> int:
    """Print the table and return 1 where the goal was missed: without its lines, half of OpenTelemetry's."""
    app.finalize()
    _log("info")
    times = measure()
    base = times["bare Celery"]
    added = {
        name: statistics.median(taken - bare for taken, bare in zip(figures, base, strict=True))
        for name, figures in times.items()
    }
    reference = added["opentelemetry-instrumentation-celery"]
    print(f"bare Celery runs an empty task in {statistics.median(base) * 1e6:.1f} µs")
    print(f"{'adds to a task':45} {'µs':>8} {'x OTel':>8}")
    for name, figure in added.items():
        if name != "bare Celery":
            print(f"{name:45} {figure * 1e6:8.1f} {figure / reference:8.2f}")
    return int(added[CORE] > GOAL * reference)


if __name__ == "__main__":
    sys.exit(main())
