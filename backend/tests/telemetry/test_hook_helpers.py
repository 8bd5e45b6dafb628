"""Whatever a hook calls may fail: what is called outside of any guard has no name to be missed."""

import io
import logging
import types
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import structlog

from app.correlation import bind, for_request
from app.middleware import correlation as correlation_layer
from app.middleware import errors as errors_layer
from app.middleware import http_metrics as metrics_layer
from app.telemetry import celery_signals, logs, pool, sql
from app.telemetry import outbound as outbound_layer
from app.telemetry.logs import configure_logging
from tests.telemetry.observed import Bench, ask, broken, call_outside, query


def requests(_: Bench) -> None:
    """Go every way that our layers have."""
    for status in (200, 500):
        ask(status)
        ask(status, **{"X-Request-ID": "not an ID", "X-Trail-Token": "1.a", "traceparent": "00-1-2-01"})


def statements(bench: Bench) -> None:
    query(bench, "psycopg")
    query(bench, "asyncpg")


def lines(_: Bench) -> None:
    configure_logging("test", "info", io.StringIO())
    with bind(for_request("a")):
        for log in (structlog.get_logger("app.test"), logging.getLogger("app.test")):
            log.debug("noted")
            log.info("written")
            log.error("failed", exc_info=LookupError("it is not there"))


OBSERVED: Final[dict[types.ModuleType, Callable[[Bench], None]]] = {
    correlation_layer: requests,
    metrics_layer: requests,
    errors_layer: requests,
    logs: lines,
    outbound_layer: lambda _: call_outside(),
    sql: statements,
    pool: statements,
}
# The context itself; what makes the answer; what is called at start; what has a case above, in which it raises nothing.
NO_HOOKS: Final = {
    *("current", "request_id", "problem", "set_own_packages", "add_source"),
    *("hook_failed", "keep_publishing", "as_text"),
}


def helpers() -> list[tuple[types.ModuleType, str]]:
    """Return our functions that the observing modules have from others, each with who has it."""
    return [
        (module, name)
        for module in OBSERVED
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType) and value.__module__.startswith("app.")
        if value.__module__ != module.__name__ and name not in NO_HOOKS
    ]


@pytest.mark.parametrize(("module", "name"), helpers(), ids=lambda each: getattr(each, "__name__", each))
def test_whatever_a_hook_calls_may_fail(
    module: types.ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    """What is observed goes on, also where nobody thought of a name for that failure."""
    bench = Bench(monkeypatch, database_url, tmp_path)
    bench.break_(f"{module.__name__}.{name}")
    OBSERVED[module](bench)


def test_every_receiver_is_guarded() -> None:
    """Celery would catch what one raises, and nobody would count it."""
    guarded = celery_signals._open("a-name", broken).__code__
    assert [name for name, receiver in celery_signals._RECEIVERS if receiver.__code__ is not guarded] == []
