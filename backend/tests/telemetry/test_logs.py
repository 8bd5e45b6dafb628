"""One schema for every line, and no line ever stops what it tells of."""

import io
import json
import logging
import os
import re
import socket
import string
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.correlation import bind, for_request
from app.telemetry.log_sink import DescriptorSink
from app.telemetry.logs import configure_logging
from tests.fuzzing import fuzzed
from tests.system import BACKEND, eventually

Lines = Callable[[], list[dict[str, Any]]]
KEYS = ["timestamp", "level", "logger", "event", "service", "pid"]


@pytest.fixture
def log_lines() -> Lines:
    """A function that returns what was logged so far, parsed."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def dropped() -> float:
    """Return how many lines this process dropped so far."""
    return REGISTRY.get_sample_value("commandcenter_log_lines_dropped_total") or 0.0


def test_every_line_has_the_same_keys(log_lines: Lines) -> None:
    """One query finds them all: ours and a library's."""
    structlog.get_logger("app.ours").warning("ours", answer=42)
    logging.getLogger("library").warning("theirs %s", 1, extra={"answer": 42})
    lines = log_lines()
    assert [line["event"] for line in lines[:2]] == ["ours", "theirs 1"]
    for line in lines:
        assert list(line)[:6] == KEYS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
        assert (line["level"], line["service"], line["pid"]) == ("warning", "test", os.getpid())
    assert [line.get("answer") for line in lines] == [42, 42]


def test_a_line_of_a_request_bears_both_ids(log_lines: Lines) -> None:
    """From any line to its story, and to the caller's trace."""
    correlation = for_request("the-id", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    with bind(correlation):
        logging.getLogger("library").warning("inside")
    logging.getLogger("library").warning("outside")
    inside, outside = log_lines()
    assert (inside["request_id"], inside["trace_id"]) == ("the-id", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert "request_id" not in outside


def test_fields_do_not_overwrite_the_schema(log_lines: Lines) -> None:
    """A library's `extra` must not forge the ID or the time."""
    with bind(for_request("the-id")):
        structlog.get_logger("app.ours").info("x", request_id="forged", timestamp="forged", service="forged")
    [line] = log_lines()
    assert line["request_id"] == "the-id"
    assert "forged" not in json.dumps(line)


def test_an_uncaught_exception_in_a_thread_is_told(log_lines: Lines) -> None:
    """Threads die in silence by default."""

    def fail() -> None:
        raise RuntimeError("in a thread")

    thread = threading.Thread(target=fail, name="failing")
    thread.start()
    thread.join()
    [line] = log_lines()
    assert (line["event"], line["level"], line["thread_name"]) == ("thread.failed", "critical", "failing")
    assert "RuntimeError: in a thread" in line["exception"]


def test_a_warning_and_the_end_of_a_process_are_told() -> None:
    """The last line of a process that dies must be as findable as the others."""
    code = (
        "import warnings; from app.telemetry.logs import configure_logging; configure_logging('test');"
        "warnings.warn('look out'); raise RuntimeError('the end')"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=BACKEND, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    warning, line = (json.loads(text) for text in ended.stdout.splitlines())
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert "look out" in warning["event"]
    assert line["event"] == "process.failed"
    assert "RuntimeError: the end" in line["exception"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=10,
)
# A text is one draw; what a regular expression describes is one for each character.
NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=10)


@fuzzed(300)
@given(st.text(), st.dictionaries(NAMES, json_like, max_size=4))
def test_anything_can_be_logged(event: str, fields: dict[str, Any]) -> None:
    """One line of JSON whatever the values are, and never an exception."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    fields = {key: value for key, value in fields.items() if key not in {"event", "level", "exc_info", "stack_info"}}
    structlog.get_logger("app.tests").info(event, **fields)
    [text] = stream.getvalue().split("\n")[:-1]
    assert list(json.loads(text))[:6] == KEYS


@fuzzed(300)
@given(st.text(), st.lists(st.integers() | st.text(), max_size=3))
def test_a_record_whose_arguments_do_not_fit_stops_nothing(message: str, arguments: list[Any]) -> None:
    """A library's typing error must not fell a request, and what it meant to say is told as far as it goes."""
    stream = io.StringIO()
    configure_logging("test", "info", stream)
    logging.getLogger("library").warning(message, *arguments)
    [line] = [json.loads(each) for each in stream.getvalue().split("\n")[:-1]]
    assert (line["logger"], line["level"]) == ("library", "warning")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):
            os.close(fd)


def test_a_blocked_pipe_stops_nothing_and_loses_nothing_that_fits(pipe: tuple[int, int]) -> None:
    """Whoever reads our output may hang; then we go on, and they get it all when they wake up."""
    reader, writer = pipe
    sink = DescriptorSink(writer)
    started = time.monotonic()
    for number in range(3000):
        sink.write(f"{number} {'x' * 100}\n".encode())
    # A pipe holds 64 KiB: 3,000 lines are five times that. A blocking write would never come back.
    assert time.monotonic() - started < 5
    received = b""

    def read() -> bool:
        nonlocal received
        received += os.read(reader, 65536)
        return received.count(b"\n") == 3000

    eventually(read, what="all 3,000 lines")
    assert [int(line.split()[0]) for line in received.splitlines()] == list(range(3000))
    assert sink.dropped == 0


def test_a_blocked_socket_stops_nothing_and_loses_nothing_that_fits() -> None:
    """Under systemd standard output is one, and the journal may hang."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = DescriptorSink(ours.fileno())
        for number in range(5000):
            sink.write(f"{number} {'x' * 100}\n".encode())
        received = b""
        while received.count(b"\n") < 5000:
            received += theirs.recv(1 << 20)
        assert sink.dropped == 0
    assert [int(line.split()[0]) for line in received.splitlines()] == list(range(5000))


def test_a_line_that_finds_no_thread_waits_for_the_next(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a thread to spare has a pipe that is full, too, and requests to answer all the same."""
    reader, writer = pipe
    sink = DescriptorSink(writer)
    written = 0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        while not sink._waiting:
            sink.write(b"x" * 999 + b"\n")
            written += 1
    sink.write(b"last\n")
    received = b""
    while not received.endswith(b"last\n"):
        received += os.read(reader, 65536)
    assert received == b"".join([b"x" * 999 + b"\n"] * written) + b"last\n"
    assert sink.dropped == 0


class WatchedLock:
    """A sink's lock that tells which threads have asked for it."""

    def __init__(self, sink: DescriptorSink) -> None:
        self._lock = sink._lock
        self.asked_by: set[int] = set()
        self.release = self._lock.release

    def acquire(self) -> None:
        """Take it."""
        self.asked_by.add(threading.get_ident())
        self._lock.acquire()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()


def test_no_other_threads_line_comes_into_one_that_goes_out_in_pieces(pipe: tuple[int, int]) -> None:
    """A pipe that is nearly full takes half a traceback; with a line inside, neither can be read any more."""
    reader, writer = pipe
    sink = DescriptorSink(writer)
    lock = sink._lock = WatchedLock(sink)  # type: ignore[assignment]
    # A pipe holds 64 KiB.
    long, short = b"a" * 100_000 + b"\n", b"b\n"
    out = sink._out
    beside = threading.Thread(target=sink.write, args=[short], daemon=True)

    def interrupted(line: bytes) -> int:
        written = out(line)
        if line is long:
            beside.start()
            # As far as it can come by now.
            eventually(lambda: not beside.is_alive() or beside.ident in lock.asked_by, what="the other thread's line")
        return written

    sink._out = interrupted
    sink.write(long)
    received = b""

    def read() -> bool:
        nonlocal received
        received += os.read(reader, 65536)
        return len(received) == len(long) + len(short)

    eventually(read, what="both lines")
    assert received == long + short


def test_a_line_that_is_told_while_another_is_written_holds_nothing_up(pipe: tuple[int, int]) -> None:
    """A signal's handler, or what the garbage collector ends: both run in the middle of whatever their thread does."""
    reader, writer = pipe
    sink = DescriptorSink(writer)
    out = sink._out

    def interrupted(line: bytes) -> int:
        if line == b"outer\n":
            sink.write(b"inner\n")
        return out(line)

    sink._out = interrupted
    writing = threading.Thread(target=sink.write, args=[b"outer\n"], daemon=True)
    writing.start()
    writing.join(10)
    assert not writing.is_alive()
    assert os.read(reader, 65536) == b"inner\nouter\n"


def test_what_does_not_fit_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    """Memory is not endless; the count says that lines are missing."""
    _, writer = pipe
    sink = DescriptorSink(writer)
    before = dropped()
    for _ in range(12_000):
        sink.write(b"x" * 200 + b"\n")
    assert sink.dropped > 1000
    assert dropped() - before >= sink.dropped


def test_a_closed_pipe_is_counted_and_stops_nothing(pipe: tuple[int, int]) -> None:
    """The reader died."""
    reader, writer = pipe
    sink = DescriptorSink(writer)
    os.close(reader)
    sink.write(b"nobody reads this\n")
    assert sink.dropped == 1


def test_a_full_disk_is_counted_and_stops_nothing() -> None:
    """/dev/full answers every write as a full disk does."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a descriptor is wanted
        sink = DescriptorSink(full.fileno())
        sink.write(b"no room\n")
        assert sink.dropped == 1


def test_not_waiting_is_nobody_elses_business(pipe: tuple[int, int]) -> None:
    """O_NONBLOCK on the shared description would make the shell's own writes fail."""
    _, writer = pipe
    DescriptorSink(writer)
    assert os.get_blocking(writer)
