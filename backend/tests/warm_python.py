"""Python processes that begin with the libraries imported: copies of one process that did so once.

Imports are most of what it takes to start a service, seconds of the processor, and tests start a hundred. Each copy
imports our own code anew, in its own environment, and ends as any Python does. The parts
of a native stack are none: they are started as users start them.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

_BACKEND: Final = Path(__file__).resolve().parents[1]
# Not the metrics' library: it looks at the environment while it is imported.
_LIBRARIES: Final = (
    *("alembic.config", "alembic.ddl.postgresql", "asyncpg", "psycopg", "sqlalchemy.ext.asyncio"),
    *("sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.postgresql.asyncpg"),
    *("sqlalchemy.dialects.postgresql.psycopg", "celery.apps.beat", "celery.apps.worker", "celery.bin.celery"),
    *("celery.concurrency.prefork", "kombu.transport.redis", "redis.asyncio", "cryptography.fernet", "fastapi"),
    *("httpx", "mako.template", "pydantic_settings", "psutil", "rich.console", "rich.live", "rich.progress"),
    *("rich.table", "rich.tree", "structlog", "supervisor.xmlrpc", "typer", "uvicorn.lifespan.on", "yaml"),
    *("uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "opentelemetry.trace"),
)
_LARGEST_REQUEST: Final = 1 << 20


class Process:
    """A running copy; has what `subprocess.Popen` has under the same names."""

    def __init__(self, original: "_Original", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._original = original

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._original.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutExpired: it still ran after `timeout` seconds.
        """
        if self.poll() is None:
            handle = os.pidfd_open(self.pid)
            try:
                ended, _, _ = select.select([handle], [], [], timeout)
            finally:
                os.close(handle)
            if not ended:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without warning."""
        self.send_signal(signal.SIGKILL)


class _Original:
    """The process that is copied; it ends with whoever holds this."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm_python", str(theirs.fileno())],
                cwd=_BACKEND,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def ask(self, request: dict[str, Any], *files: int) -> Any:
        """Send a request with open files and return the answer."""
        with self._one_at_a_time:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(_LARGEST_REQUEST)
        assert answer, "the process that is copied has ended"
        return json.loads(answer)

    def end(self) -> None:
        """End it, and leave what was copied alone."""
        self._socket.close()
        self._process.wait()


@functools.cache
def _original() -> _Original:
    return _Original()


def end() -> None:
    """End the process that is copied, if there is one; the next start makes another."""
    if _original.cache_info().currsize:
        _original().end()
        _original.cache_clear()


def start(
    arguments: list[str], *, cwd: Path, env: Mapping[str, str], stdout: IO[Any], stderr: IO[Any] | None = None
) -> Process:
    """Start `python -m` with `arguments`, in a session of its own.

    Args:
        arguments: the module, or `-c` and some code, and what it is given.
        cwd: where it runs; its modules are found there first.
        env: the whole environment.
        stdout: an open file.
        stderr: an open file; the same unless given.
    """
    original, output = _original(), stdout.fileno()
    request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env)}
    return Process(original, original.ask(request, output, stderr.fileno() if stderr else output))


def start_cold(arguments: list[str], *, cwd: Path, env: Mapping[str, str], stdout: IO[Any]) -> subprocess.Popen[bytes]:
    """Start `python -m` with `arguments` in the same way, as a Python of its own that imports everything itself."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(
    arguments: list[str], *, cwd: Path, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m` with `arguments` to its end; the caller looks at how it ended.

    Raises:
        TimeoutExpired: it still ran after `timeout` seconds, and was killed.
    """
    with ExitStack() as pipes, ThreadPoolExecutor(2) as readers:
        said, writers = [], []
        for _ in range(2):
            reading, writing = os.pipe()
            said.append(readers.submit(pipes.enter_context(os.fdopen(reading)).read))
            writers.append(os.fdopen(writing, "w"))
        process = start(arguments, cwd=cwd, env=env, stdout=writers[0], stderr=writers[1])
        for writer in writers:
            writer.close()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, code, *(each.result() for each in said))


def _serve(requests: socket.socket) -> list[str]:
    """Answer requests until nobody asks any more; in a copy, return what it is to run."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, _LARGEST_REQUEST, 2)
        if not message:
            sys.exit()
        request = json.loads(message)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            assert threading.active_count() == 1, "threads are not copied"
            answer = os.fork()
            if not answer:
                requests.close()
                return _become(files, **request)
        for file in files:
            os.close(file)
        requests.send(json.dumps(answer).encode())


def _become(files: list[int], arguments: list[str], cwd: str, env: dict[str, str]) -> list[str]:
    """Make of a copy what a new process would be."""
    os.setsid()
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    return arguments


if __name__ == "__main__":
    for library in _LIBRARIES:
        importlib.import_module(library)
    assert "prometheus_client" not in sys.modules
    # What is there now stays: else each copy would look through all of it, and so copy it, only to end.
    gc.freeze()
    _, *sys.argv = sys.argv[:1] + _serve(socket.socket(fileno=int(sys.argv[1])))
    if sys.argv[0] == "-c":
        exec(sys.argv.pop(1), {"__name__": "__main__"})  # noqa: S102 - as Python does with -c
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
