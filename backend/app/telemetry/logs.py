"""One log schema for ours, libraries' and Python's own lines: docs/log-schema.md.

structlog renders; the standard library's records go the same way, so that uvicorn's, SQLAlchemy's, Celery's lines and
warnings bear the same IDs.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import orjson
import structlog

from app.correlation import current
from app.telemetry.scrub import scrub
from app.utils.metrics import hook_failed

EventDict = MutableMapping[str, Any]

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


def configure_logging(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` as JSON, one object a line.

    Args:
        service: `api`, `worker` or `beat`.
        level: least level that is written.
        stream: standard output unless given.
    """
    target = stream or sys.stdout
    threshold = logging.getLevelNamesMapping()[level.upper()]
    schema = Schema(service)

    def write(event: EventDict) -> None:
        try:
            line = schema.render(event)
            target.write(line)
            target.flush()
        except Exception:  # noqa: BLE001 - a full disk or a closed pipe must not stop a request
            hook_failed("log_write")

    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_loggers(write),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(write)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in list(logging.Logger.manager.loggerDict):
        logger = logging.getLogger(name)
        if logger.handlers and name.partition(".")[0] in {"uvicorn", "celery", "sqlalchemy", "alembic"}:
            logger.handlers.clear()
            logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _excepthook
    threading.excepthook = _thread_excepthook


class Schema:
    """Adds what every line bears and renders it."""

    def __init__(self, service: str) -> None:
        self._service = service

    def render(self, event: EventDict) -> str:
        """Return the line for `event`, newline included. Values that JSON has no word for are told as text."""
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": event.pop("level", "info"),
            "logger": event.pop("logger", "app"),
            "event": scrub(str(event.pop("event", ""))),
            "service": self._service,
            "pid": os.getpid(),
        }
        correlation = current()
        if correlation is not None:
            line["request_id"] = correlation.request_id
            line["trace_id"] = correlation.trace_id
            if correlation.task_id is not None:
                line["task_id"] = correlation.task_id
                line["task"] = correlation.name
                line["root_id"] = correlation.root_id
                if correlation.parent_id is not None:
                    line["parent_id"] = correlation.parent_id
                line["attempt"] = correlation.attempt
        for key, value in event.items():
            line.setdefault(key, scrub(value) if isinstance(value, str) else value)
        return orjson.dumps(line, default=_as_text, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE).decode()


def format_exception(error: BaseException) -> str:
    """Return the traceback of `error`, without locals, scrubbed."""
    return scrub("".join(traceback.format_exception(error)).rstrip())


def _as_text(value: Any) -> str:
    return scrub(str(value))


def _loggers(write: Callable[[EventDict], None]) -> Callable[..., "_Sink"]:
    return lambda *args: _Sink(str(args[0]) if args else "app", write)


class _Sink:
    """What structlog calls at the end of its chain."""

    def __init__(self, name: str, write: Callable[[EventDict], None]) -> None:
        self._name = name
        self._write = write

    def msg(self, /, **event: Any) -> None:
        event["logger"] = self._name
        self._write(event)

    debug = info = warning = error = critical = exception = log = msg


class _Handler(logging.Handler):
    """Takes the standard library's records into the schema."""

    def __init__(self, write: Callable[[EventDict], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {
                key: value for key, value in vars(record).items() if key not in _RECORD_KEYS and key != "data"
            }
            event |= {"level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
            if record.exc_info and record.exc_info[1] is not None:
                event["exception"] = format_exception(record.exc_info[1])
            self._write(event)
        except Exception:  # noqa: BLE001 - as above
            hook_failed("log_record")


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
