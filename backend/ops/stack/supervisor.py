"""The supervisor: keeps the parts running after `up` returned, and restarts those that die.

supervisord, spoken to over its Unix socket. Its configuration holds secrets, so it is private.
"""

import hashlib
import http.client
import json
import os
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from supervisor.xmlrpc import SupervisorTransport

from ops.stack.errors import StackError, last_lines
from ops.stack.inherited import from_shell
from ops.stack.layout import Layout
from ops.stack.names import STORES
from ops.stack.programs import python
from ops.stack.secret_store import write_private

# Marks every process of a stack, so that one whose supervisor was killed is still known.
STACK_VARIABLE: Final = "COMMANDCENTER_STACK"
_ALREADY_STARTED: Final = 60
_NOT_RUNNING: Final = 70
_BAD_NAME: Final = 10
_START_TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class Program:
    """One program to keep running. `fingerprint` is whatever, when changed, asks for a restart."""

    name: str
    command: list[str]
    directory: Path
    environment: Mapping[str, str]
    user: str | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 15
    fingerprint: str = ""


def render(layout: Layout, programs: Iterable[Program]) -> str:
    """Return supervisord's configuration."""
    run = layout.run
    lines = [
        "; Made at each `up`. Holds secrets.",
        "[unix_http_server]",
        f"file={_escape(layout.socket)}",
        "chmod=0700",
        "",
        "[supervisord]",
        f"logfile={_escape(layout.logs / 'supervisord.log')}",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        f"pidfile={_escape(run / 'supervisord.pid')}",
        f"childlogdir={_escape(layout.logs)}",
        f"directory={_escape(layout.data)}",
        "umask=077",
        # Without it, supervisord warns a root user about what that user knows.
        *(["user=root"] if os.geteuid() == 0 else []),
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        lines += ["", *_section(layout, program)]
    return "\n".join(lines) + "\n"


def _section(layout: Layout, program: Program) -> list[str]:
    environment = dict(program.environment) | {STACK_VARIABLE: str(layout.data)}
    if program.fingerprint:
        environment["COMMANDCENTER_FINGERPRINT"] = program.fingerprint
    return [
        f"[program:{program.name}]",
        "command=" + " ".join(_argument(part) for part in program.command),
        f"directory={_escape(program.directory)}",
        "environment=" + ",".join(f"{name}={_quote(name, value)}" for name, value in sorted(environment.items())),
        *([f"user={program.user}"] if program.user else []),
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        # With its growing pauses that is about a minute of tries.
        "startretries=10",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        # Celery and uvicorn stop their children themselves, after they finished their work: only a kill goes to all.
        "stopasgroup=false",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_escape(layout.logs / (program.name + '.log'))}",
        "stdout_logfile_maxbytes=20MB",
        "stdout_logfile_backups=5",
    ]


def _escape(value: object) -> str:
    """`%` begins an expansion in supervisord's files, and ` ;` a comment."""
    text = str(value)
    if "\n" in text or " ;" in text or " #" in text:
        raise StackError(
            f"The path {text!r} can't be written to the supervisor's configuration.", "Use a plainer path."
        )
    return text.replace("%", "%%")


def _argument(part: str) -> str:
    return '"' + _escape(part).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quote(name: str, value: str) -> str:
    if any(forbidden in value for forbidden in ('"', "\n", " ;", " #")) or value.startswith("'") or value.endswith("'"):
        raise StackError(
            f'{name} holds a double quote, a line break, " ;", " #" or a quote at an end, which it can\'t here.',
            f"Give {name} a value without them.",
        )
    return '"' + value.replace("%", "%%") + '"'


@dataclass(frozen=True)
class State:
    """What supervisord says about one program."""

    name: str
    state: str
    pid: int
    started_at: float
    problem: str

    @property
    def is_running(self) -> bool:
        """Whether it runs since more than a second."""
        return self.state == "RUNNING"

    @property
    def has_crashed(self) -> bool:
        """Whether it ended by itself while it was to run."""
        return self.state in {"BACKOFF", "FATAL", "EXITED"}


class Supervisor:
    """The supervisord of one stack."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._config = layout.run / "supervisord.conf"

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._layout.socket}")
        # A connection for each call: they are few, and come from several threads.
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def is_up(self) -> bool:
        """Whether supervisord answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def pid(self) -> int | None:
        """Return supervisord's PID, if it still is the process that wrote it down."""
        try:
            pid = int((self._layout.run / "supervisord.pid").read_text())
            command = psutil.Process(pid).cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if str(self._config) in command else None

    def configure(self, programs: Iterable[Program]) -> None:
        """Write the configuration."""
        write_private(self._config, render(self._layout, programs))

    def start(self) -> None:
        """Start supervisord as a daemon of its own session.

        Raises:
            StackError: it doesn't come up; with what it said.
        """
        pid = self.pid()
        if pid is not None:
            # There, but deaf: nothing can be done with it, and its parts are taken over below.
            _end(pid)
        self._layout.socket.unlink(missing_ok=True)
        (self._layout.run / "supervisord.pid").unlink(missing_ok=True)
        log = self._layout.logs / "supervisord.log"
        command = [str(python()), "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(self._config)]
        started = subprocess.run(
            command,
            env=from_shell(),
            cwd=self._layout.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while started.returncode == 0 and time.monotonic() < deadline:
            if self.is_up():
                return
            time.sleep(0.02)
        said = (started.stderr or started.stdout).strip() or last_lines(log)
        raise StackError(f"The supervisor does not start:\n{said}", f"Its log: {log}")

    def reload(self) -> None:
        """Take over a changed configuration: what changed is stopped, and starts at the next `launch`."""
        [[added, changed, removed]] = self._call("reloadConfig")
        leaving = [*changed, *removed]
        # Side by side, as each takes seconds; but who writes to a store ends before it.
        self.stop(name for name in leaving if name not in STORES)
        self.stop(name for name in leaving if name in STORES)
        for name in leaving:
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in [*added, *changed]:
            self._call("addProcessGroup", name)

    def launch(self, name: str) -> None:
        """Start a program, unless it runs; don't wait for it."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise StackError(f"{name} can't be started: {fault.faultString}") from fault
            if self.states()[name].state == "BACKOFF":
                # Between two tries after a crash: try now.
                self._call("stopProcess", name)
                self._call("startProcess", name, False)

    def stop(self, names: Iterable[str], timeout_s: float = 40) -> None:
        """Stop programs side by side, and wait for them."""
        waited_for = set()
        for name in names:
            try:
                self._call("stopProcess", name, False)
                waited_for.add(name)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in {_NOT_RUNNING, _BAD_NAME}:
                    raise
        deadline = time.monotonic() + timeout_s
        while waited_for and time.monotonic() < deadline:
            stopping = {name for name, state in self.states().items() if state.state == "STOPPING"}
            waited_for &= stopping
            time.sleep(0.02)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal to a program."""
        self._call("signalProcess", name, signal)

    def states(self) -> dict[str, State]:
        """Return what is known of each program; nothing where supervisord isn't there."""
        try:
            answers = self._call("getAllProcessInfo")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return {}
        return {
            each["name"]: State(each["name"], each["statename"], each["pid"], each["start"], each["spawnerr"])
            for each in answers
        }

    def shut_down(self, timeout_s: float = 60) -> None:
        """Stop everything and supervisord itself; whoever doesn't listen is killed."""
        pid = self.pid()
        if self.is_up():
            self._call("shutdown")
        if pid is not None:
            try:
                psutil.Process(pid).wait(timeout_s)
            except psutil.NoSuchProcess:
                pass
            except psutil.TimeoutExpired:
                _end(pid)
        self._layout.socket.unlink(missing_ok=True)


def _end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)
    except psutil.NoSuchProcess:
        return


def fingerprint(*parts: object) -> str:
    """Return a short digest of what a program depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]
