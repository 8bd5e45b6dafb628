"""Where log lines go: a file descriptor that is never waited for.

A line is written at once, so that a killed process has told all it knew. Where that would block (a pipe that nobody
reads), lines wait in memory, a thread brings them out as the reader goes on, and what doesn't fit is dropped and
counted.
"""

import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from app.utils.metrics import LOG_LINES_DROPPED, hook_failed

_MAX_WAITING_LINES: Final = 10_000
_MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
_POLL_MS: Final = 500
_RETRY_S: Final = 1.0


class Sink(Protocol):
    """Takes whole lines."""

    def write(self, line: bytes) -> None:
        """Take one line, newline included. Never raises, never waits."""


class DescriptorSink:
    """Writes to a file descriptor of its own, opened anew so that not waiting is nobody else's business.

    Args:
        fd: what to write to; standard output, usually.

    `dropped`: lines that this sink could not bring out.
    """

    def __init__(self, fd: int) -> None:
        self._fd = _without_waiting(fd)
        self._out = _writer_of(self._fd)
        self.dropped = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        # What a signal or the garbage collector sets going in a thread that writes may have a line of its own to tell.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def write(self, line: bytes) -> None:
        """See Sink."""
        # One at a time: what one could not write of its line must wait in front of all others' lines.
        lock = self._lock
        try:
            # `with` takes twice as long. Inside: what a signal raises here (a time limit) must not leave it locked.
            lock.acquire()
            written = 0 if self._waiting else self._out(line)
            if written < len(line):
                self._wait(line[written:])
        except BlockingIOError:
            self._wait(line)
        except Exception:  # noqa: BLE001 - a full disk, a closed pipe: the line is lost, the request isn't
            self._drop()
        finally:
            lock.release()

    def _wait(self, line: bytes) -> None:
        """Have the rest of a line wait; the lock is held."""
        if len(self._waiting) >= _MAX_WAITING_LINES or self._waiting_bytes + len(line) > _MAX_WAITING_BYTES:
            self._drop()
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._bring_out, name="log-sink", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread to spare: the next line that has to wait tries again.
                hook_failed("log_write")
            else:
                self._thread = thread

    def _bring_out(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while True:
            with self._lock:
                if not self._waiting:
                    # Decided under the lock: who comes next starts a new thread.
                    self._thread = None
                    return
                # The first stays in its place while it is written, so that others keep queueing behind it.
                line = self._waiting[0]
            try:
                poll.poll(_POLL_MS)
                written = self._out(line)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            except OSError:
                written = len(line)
                self._drop()
                time.sleep(_RETRY_S)
            with self._lock:
                self._waiting_bytes -= written
                if written < len(line):
                    self._waiting[0] = line[written:]
                else:
                    self._waiting.popleft()

    def _drop(self) -> None:
        self.dropped += 1
        with suppress(Exception):
            LOG_LINES_DROPPED.inc()
        hook_failed("log_write")

    def _after_fork(self) -> None:
        """The parent's waiting lines are the parent's; its thread and perhaps its locked lock came along."""
        self._lock = threading.RLock()
        self._waiting = deque()
        self._waiting_bytes = 0
        self._thread = None


class StreamSink:
    """Writes to a text stream: for tests, and where there is no descriptor."""

    def __init__(self, stream: "SupportsWrite") -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        """See Sink."""
        try:
            self._stream.write(line.decode())
        except Exception:  # noqa: BLE001 - as above
            hook_failed("log_write")


class SupportsWrite(Protocol):
    """A text stream, as far as it is needed."""

    def write(self, text: str, /) -> object:
        """Take text."""


def _without_waiting(fd: int) -> int:
    """Return a descriptor for the same file, pipe or terminal whose writes don't wait.

    Opened anew: O_NONBLOCK on `fd` itself would hold for every process that shares it. A socket can't be: it is told
    with each line.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):
            return os.open(
                f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            )
    return fd


def _writer_of(fd: int) -> Callable[[bytes], int]:
    """Return what writes to a descriptor without waiting, and says how many bytes it took."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return partial(os.write, fd)
    # As under systemd, whose journal reads at the other end.
    connection = socket.socket(fileno=os.dup(fd))
    return lambda line: connection.send(line, socket.MSG_DONTWAIT)
