"""Every hook fails open and counts itself: each is broken here, once, and what it observes goes on."""

import ast
import io
import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import structlog
from celery import Celery, signals
from prometheus_client import REGISTRY

from app.broker import make_celery
from app.telemetry import exposition, publisher
from app.telemetry.logs import configure_logging
from app.telemetry.queues import QueueProbe
from app.telemetry.trail import waiting_for
from app.utils.metrics import hook_failed
from ops.stack.ports import free_port
from tests.services import redis_server
from tests.system import BACKEND, SECRET_KEY, clean_environment
from tests.telemetry.lost import lose_a_run
from tests.telemetry.observed import Bench, ask, broken, call_outside, failures, query

APP: Final = BACKEND / "app"
Break = Callable[[str], None]


# --- HTTP


def correlation(bench: Bench) -> None:
    bench.break_("app.middleware.correlation.is_valid_id")
    ask(200)


def http_metrics(bench: Bench) -> None:
    bench.break_("app.middleware.http_metrics.route_template")
    ask(200)


def error_boundary(bench: Bench) -> None:
    bench.break_("app.middleware.errors.fingerprint")
    ask(500)


def overhead(bench: Bench) -> None:
    bench.break_("app.middleware.correlation.note_overhead")
    ask(200)


def keep_publishing(bench: Bench) -> None:
    """A machine without a thread to spare; once it has one, the process publishes."""
    started: list[str] = []
    monkeypatch = bench.monkeypatch
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(bench.folder))
    monkeypatch.setattr(publisher, "_threads", {})
    monkeypatch.setattr(threading.Thread, "start", broken)
    ask(200)
    assert publisher._threads == {}
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    ask(200)
    ask(200)
    assert started == ["publish-metrics"]


def outbound(bench: Bench) -> None:
    bench.break_("app.telemetry.outbound.note")
    call_outside()


def trail_wait(bench: Bench) -> None:
    bench.break_("app.telemetry.trail.note")
    with waiting_for("a lock"):
        pass


# --- SQL


def sql_comment(bench: Bench) -> None:
    bench.break_("app.telemetry.sql.sql_comment")
    query(bench, "psycopg")


def sql_begin(bench: Bench) -> None:
    bench.break_("app.telemetry.sql.is_valid_id")
    query(bench, "psycopg")
    before = failures("sql_begin")
    query(bench, "asyncpg")
    assert failures("sql_begin") > before, "by asyncpg, too"


def sql_timing(bench: Bench) -> None:
    bench.break_("app.telemetry.sql.observe_later")
    query(bench, "psycopg")


def pool_wait(bench: Bench) -> None:
    bench.break_("app.telemetry.pool.observe_later")
    query(bench, "psycopg")


# --- Celery


def spot(bench: Bench) -> Celery:
    """Return an application with a task that gives 1, one that fails, and one that is tried once more."""
    app = make_celery("redis://127.0.0.1:1/0")
    app.conf.task_store_eager_result = False
    app.conf.task_ignore_result = True
    bench.at_end.append(app.close)

    @app.task(shared=False, name="hooks.one")
    def one() -> int:
        return 1

    @app.task(shared=False, name="hooks.fail")
    def fail() -> None:
        raise LookupError("it is not there")

    @app.task(shared=False, name="hooks.again", bind=True)
    def again(self: Any) -> int:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return 1

    return app


def celery_prerun(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_signals.correlation_of")
    assert spot(bench).tasks["hooks.one"].apply().get() == 1


def celery_postrun(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_figures.RunFigures.ended")
    assert spot(bench).tasks["hooks.one"].apply().get() == 1


def celery_failure(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_signals.fingerprint")
    assert isinstance(spot(bench).tasks["hooks.fail"].apply().result, LookupError)


def celery_retry(bench: Bench) -> None:
    # What the retry is told with; its own hook fails on it, and nobody else looks.
    bench.monkeypatch.setattr("app.telemetry.celery_signals.log.warning", broken, raising=False)
    assert spot(bench).tasks["hooks.again"].apply().get() == 1


def celery_revoked(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_signals.correlation_of")
    task = spot(bench).tasks["hooks.one"]
    answers = signals.task_revoked.send(sender=task, request=task.request, terminated=False, signum=None, expired=True)
    assert [answer for _, answer in answers if isinstance(answer, Exception)] == []


def celery_publish(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_message.new_id")
    with redis_server(bench.folder) as url, redis.Redis.from_url(url) as client:
        app = make_celery(url)
        try:
            app.send_task("hooks.one", queue="default", ignore_result=True)
        finally:
            app.close()
        assert client.llen("default") == 1


def celery_lost(bench: Bench) -> None:
    bench.break_("app.telemetry.celery_signals.fingerprint")
    lose_a_run(spot(bench), "hooks.one", "default", bench.monkeypatch)


# --- figures and lines


def queue_probe(_: Bench) -> None:
    with redis.Redis(port=free_port(), socket_connect_timeout=1) as client:
        QueueProbe(client, ["nobody-answers"]).refresh()
    depth = REGISTRY.get_sample_value("celery_queue_depth", {"queue": "nobody-answers"})
    assert depth is not None
    assert math.isnan(depth), "an old figure would be a lie"


def metrics_refresh(_: Bench) -> None:
    statuses: list[str] = []

    def start(status: str, *_: object) -> Any:
        statuses.append(status)

    [body] = exposition._wsgi_app(None, broken)({"PATH_INFO": "/metrics"}, start)
    assert statuses == ["200 OK"]
    assert b"commandcenter_build_info" in body


def publish(bench: Bench) -> None:
    written: list[int] = []
    bench.monkeypatch.setattr(publisher, "_sources", [broken, lambda: written.append(1)])
    publisher.publish()
    assert written == [1], "the next one is written all the same"


def log_write(_: Bench) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    configure_logging("test", "info", Full())
    structlog.get_logger("test").info("lost")


def log_record(_: Bench) -> None:
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    logging.getLogger("library").warning("%d items", "some")
    logging.getLogger("library").warning(Textless())
    assert "%d items" in stream.getvalue()
    assert "<Textless without a text>" in stream.getvalue()


class Textless:
    """Fails to tell what it is."""

    __str__ = __repr__ = broken  # type: ignore[assignment]


def log_text(_: Bench) -> None:
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    log = structlog.get_logger("test")
    log.info(Textless())
    log.info("a value", one=Textless(), other={Textless(): 10**5000})
    assert stream.getvalue().count("<Textless without a text>") == 3
    assert "<int without a text>" in stream.getvalue()


def log_call(_: Bench) -> None:
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    structlog.get_logger("test").info("%d items of %(kind)s", "some")
    structlog.get_logger("test").warn("%d items are %s", 2, "fine")
    assert "%d items of %(kind)s" in stream.getvalue()
    assert "2 items are fine" in stream.getvalue()


def heartbeat(_: Bench) -> None:
    """In a process of its own: the worker's module is one application, with its settings."""
    script = """
from prometheus_client import REGISTRY
from app import worker
worker._beat(); worker._stop()
print(REGISTRY.get_sample_value("commandcenter_observability_failures_total", {"hook": "heartbeat"}))
"""
    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=BACKEND,
        env={
            **clean_environment(),
            "DATABASE_URL": "postgresql://u@127.0.0.1/d",
            "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "SECRET_KEY": SECRET_KEY,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == "2.0"
    # Counted there; here, for the table.
    hook_failed("heartbeat")


CASES: Final[dict[str, Callable[[Bench], None]]] = {
    case.__name__: case
    for case in (
        correlation, http_metrics, error_boundary, overhead, outbound, trail_wait,
        sql_comment, sql_begin, sql_timing, pool_wait,
        celery_prerun, celery_postrun, celery_failure, celery_retry, celery_revoked, celery_publish, celery_lost,
        queue_probe, metrics_refresh, publish, keep_publishing, log_write, log_record, log_text, log_call, heartbeat,
    )
}  # fmt: skip


@pytest.mark.parametrize("hook", CASES)
def test_a_broken_hook_is_counted_and_breaks_nothing(
    hook: str, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    """Each case holds that what the hook observes came to its end."""
    before = failures(hook)
    bench = Bench(monkeypatch, database_url, tmp_path)
    try:
        CASES[hook](bench)
    finally:
        for each in bench.at_end:
            each()
    assert failures(hook) > before


def named_in(source: str) -> set[str]:
    """Return the hooks that a module counts."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        str(call.args[0].value)
        for call in calls
        if getattr(call.func, "id", "") in {"hook_failed", "_open"} and isinstance(call.args[0], ast.Constant)
    }


def test_no_hook_is_left_out() -> None:
    """A new one wants a case here."""
    assert set().union(*(named_in(path.read_text()) for path in APP.rglob("*.py"))) == CASES.keys()
