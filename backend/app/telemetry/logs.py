"""One log schema for ours, libraries' and Python's own lines: docs/log-schema.md.

structlog renders; the standard library's records go the same way, so that uvicorn's, SQLAlchemy's, Celery's lines and
warnings bear the same IDs.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Final, cast

import structlog

from app.correlation import Correlation, current
from app.errors import set_own_packages
from app.telemetry.log_json import as_text, render
from app.telemetry.log_sink import DescriptorSink, Sink, StreamSink, SupportsWrite
from app.telemetry.scrub import scrub
from app.telemetry.trail import note_line
from app.utils.metrics import hook_failed

_LEVELS: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}
_NUMBERS: Final = {name: number for number, name in _LEVELS.items()}
# Of a message that its arguments did not fit.
_MAX_UNFIT: Final = 1000

# What a LogRecord always has; the rest of its attributes came through `extra`.
_RECORD_KEYS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# Chatty at info, and told better by ours.
_QUIET: Final = (
    "app.telemetry.pool",
    "asyncio",
    "celery.app.trace",
    "celery.worker.strategy",
    "httpcore",
    "httpx",
    "uvicorn.access",
)


def configure_logging(
    service: str,
    level: str = "info",
    stream: SupportsWrite | Sink | None = None,
    own_packages: Collection[str] = ("app",),
) -> None:
    """Send every log line of this process to one place as JSON, one object a line.

    Args:
        service: `api`, `worker` or `beat`.
        level: least level that is written.
        stream: a text stream or a sink in place of standard output.
        own_packages: the top packages of the service's own code. Their lines below the level go into the trail of the
            request or task at work, and their functions make the fingerprint of an error.
    """
    set_own_packages(own_packages)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    _writer.configure(service, threshold, _sink_for(stream))
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
        # What is below the threshold isn't written, but a trail may want it.
        wrapper_class=_bound_logger(),
        logger_factory=_StructlogLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Handler()]
    root.setLevel(threshold)
    for package in own_packages:
        logging.getLogger(package).setLevel(logging.DEBUG)
    for name in list(logging.Logger.manager.loggerDict):
        logger = logging.getLogger(name)
        if logger.handlers and name.partition(".")[0] in {"uvicorn", "celery", "sqlalchemy", "alembic"}:
            logger.handlers.clear()
            logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger("celery.app.trace").addFilter(_told_by_ours)
    logging.captureWarnings(capture=True)
    sys.excepthook = _excepthook
    threading.excepthook = _thread_excepthook


def emit(level: int, logger: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write a line without structlog's chain, for what is told of every request. Below the level it is forgotten.

    Args:
        level: as in `logging`.
        logger: dotted name.
        event: what happened.
        fields: values that JSON has a word for, or whose text will do.
    """
    if level >= _writer.threshold:
        _writer.take(level, logger, event, fields)


_own_sinks: dict[int, DescriptorSink] = {}


def _sink_for(stream: SupportsWrite | Sink | None) -> Sink:
    if isinstance(stream, DescriptorSink | StreamSink):
        return stream
    if stream is not None:
        return StreamSink(cast("SupportsWrite", stream))
    try:
        fd = sys.__stdout__.fileno() if sys.__stdout__ is not None else 1
        if fd not in _own_sinks:
            _own_sinks[fd] = DescriptorSink(fd)
        return _own_sinks[fd]
    except (OSError, ValueError):
        return StreamSink(sys.stdout)


class _Writer:
    """Adds what every line bears, renders it and hands it to the sink."""

    def __init__(self) -> None:
        self.threshold = logging.INFO
        self.sink: Sink = StreamSink(sys.stderr)
        self._service = "unknown"
        self._second = 0
        self._prefix = ""

    def configure(self, service: str, threshold: int, sink: Sink) -> None:
        self._service, self.threshold, self.sink = service, threshold, sink

    def take(self, level: int, logger: str, event: Any, fields: Mapping[str, Any]) -> None:
        """Write a line, or note it in the trail where it is below the threshold. Never raises."""
        try:
            if not isinstance(event, str):
                event = as_text(event)
            if level < self.threshold:
                note_line(_LEVELS.get(level, "debug"), event, fields)
            else:
                self._write(_LEVELS.get(level, "info"), logger, event, fields)
        except Exception:  # noqa: BLE001 - nothing that is logged may break what logs it
            hook_failed("log_write")

    def _write(self, level: str, logger: str, event: str, fields: Mapping[str, Any]) -> None:
        line: dict[str, Any] = {
            "timestamp": self._now(),
            "level": level,
            "logger": logger,
            "event": event,
            "service": self._service,
            "pid": os.getpid(),
        }
        correlation = current()
        if correlation is not None:
            line["request_id"] = correlation.request_id
            line["trace_id"] = correlation.trace_id
            if correlation.task_id is not None:
                _add_task(line, correlation)
        for key, value in fields.items():
            if key not in line:
                line[key] = value
        self.sink.write(render(line))

    def _now(self) -> str:
        """Return the time in UTC with microseconds; the part before them is made once a second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._prefix}.{int((now - second) * 1_000_000):06d}Z"


_writer = _Writer()


def _add_task(line: dict[str, Any], correlation: Correlation) -> None:
    line["task_id"] = correlation.task_id
    line["task"] = correlation.name
    line["root_id"] = correlation.root_id
    if correlation.parent_id is not None:
        line["parent_id"] = correlation.parent_id
    line["attempt"] = correlation.attempt


def format_exception(error: BaseException) -> str:
    """Return the traceback of `error`, without locals, scrubbed."""
    return scrub("".join(traceback.format_exception(error)).rstrip())


def _nearest(level: int) -> int:
    """Return the known level at or below `level`: libraries make levels of their own."""
    return max((known for known in _LEVELS if known <= level), default=logging.DEBUG)


class _StructlogLogger:
    """What structlog calls at the end of its chain."""

    def __init__(self, *args: Any) -> None:
        self._name = str(args[0]) if args else "app"

    def msg(self, /, event: Any = "", level: str = "info", **fields: Any) -> None:
        _writer.take(_NUMBERS.get(level, logging.INFO), self._name, event, fields)

    debug = info = warning = error = critical = exception = log = msg


def _bound_logger() -> type[structlog.typing.FilteringBoundLogger]:
    """Return structlog's class of loggers, with methods that never raise: arguments may not fit their event."""
    base = structlog.make_filtering_bound_logger(logging.DEBUG)
    methods = {name: _never_raising(name) for name in _NUMBERS}
    methods |= {"warn": methods["warning"], "fatal": methods["critical"], "msg": methods["info"]}
    return type("_BoundLogger", (base,), methods)


def _never_raising(level: str) -> Callable[..., Any]:
    def method(self: Any, event: Any = None, *args: Any, **fields: Any) -> None:
        try:
            if args:
                # As in `logging`: one mapping is for names.
                event %= args[0] if len(args) == 1 and args[0] and isinstance(args[0], Mapping) else args
            self._proxy_to_logger(level, event, **fields)
        except Exception:  # noqa: BLE001 - half a line is better than none
            hook_failed("log_call")
            self._logger.msg(as_text(event)[:_MAX_UNFIT], level)

    return method


def _told_by_ours(record: logging.LogRecord) -> bool:
    """Let all pass but Celery's line of a failed task at work now: our `task.failed` tells of it, and more."""
    correlation = current()
    return (
        correlation is None
        or record.msg != "Task %(name)s[%(id)s] %(description)s: %(exc)s"
        or not isinstance(record.args, Mapping)
        or record.args.get("description") != "raised unexpected"
        or record.args.get("id") != correlation.task_id
    )


class _Handler(logging.Handler):
    """Takes the standard library's records into the schema."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {key: value for key, value in vars(record).items() if key not in _RECORD_KEYS}
            if record.exc_info and record.exc_info[1] is not None:
                fields["exception"] = format_exception(record.exc_info[1])
            _writer.take(_nearest(record.levelno), record.name, record.getMessage(), fields)
        except Exception:  # noqa: BLE001 - a record whose arguments don't fit its message, or that has no text
            hook_failed("log_record")
            # Half a line is better than none; what it says of itself may still be of use.
            _writer.take(_nearest(record.levelno), record.name, as_text(record.msg)[:_MAX_UNFIT], {})


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("app").critical("process.failed", exc_info=(kind, error, trace))


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("app").critical(
            "thread.failed",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
            extra={"thread_name": args.thread and args.thread.name},
        )
