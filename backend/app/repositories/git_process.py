"""Running the git program: with nothing of ours in its environment, within limits, and never left behind.

Knows processes. What git is asked, and what its answers mean, is not decided here.
"""

import contextlib
import functools
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, TypeAlias

from app.repositories.git_error import GitError
from app.telemetry.trail import waiting_for

# Called with a stage (`counting`, `compressing`, `receiving`, `resolving`, `reading`) and its percentage, 0 to 100.
Progress: TypeAlias = Callable[[str, int], None]
Sink: TypeAlias = Callable[[bytes], None]

_CHUNK_BYTES: Final = 65536
_TICK_S: Final = 0.5
_GRACE_S: Final = 2.0
_STDERR_TAIL_BYTES: Final = 4096
_PROGRESS_INTERVAL_S: Final = 1.0
# What a shell ends with where a program can't be run, or isn't there. Git's own codes are others.
_NOT_RUN: Final = frozenset({126, 127})
_PROGRESS = re.compile(rb"(?:remote: )?(Counting|Compressing|Receiving|Resolving) [a-z]+: +(\d{1,3})%")
# One after another. The host's words are its own: one that went to and fro could tell as often as it writes a line.
_STAGES: Final = ("", "counting", "compressing", "receiving", "resolving")

# What every git command of ours is told. Nothing is read from the machine's or the user's configuration.
_CONFIGURATION: Final = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", os.devnull),
    ("core.packedGitWindowSize", "32m"),  # Else one pack is mapped whole.
    ("core.packedGitLimit", "256m"),
    ("core.bigFileThreshold", "64m"),  # Larger files are streamed, not held in memory.
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),  # Housekeeping is a step of its own, inside the time limit.
    ("maintenance.auto", "false"),
    ("pack.threads", "1"),  # Several syncs share the machine.
    ("pack.windowMemory", "64m"),
    ("protocol.version", "2"),
)


@dataclass(frozen=True, slots=True)
class GitLimits:
    """How much one sync may take.

    Args:
        timeout_s: for the whole sync, all git commands of it together.
        max_size_bytes: of the clone on disk, and of what one fetch may write.
        max_memory_bytes: of one git process (its data segment; mapped files do not count).
    """

    timeout_s: float = 300
    max_size_bytes: int = 2 * 1024**3
    max_memory_bytes: int = 2 * 1024**3


@functools.cache
def keeps_to_addresses() -> bool:
    """Tell whether this git can be told a host's addresses (from 2.37 on); an older one ignores that without a word.

    Raises:
        GitError: there is no git. Asked again the next time.
    """
    command = ["git", "--version"]
    try:
        asked = subprocess.run(command, env=environment("none"), capture_output=True, check=False)
    except (FileNotFoundError, PermissionError):
        raise not_installed() from None
    found = re.match(rb"git version (\d+)\.(\d+)", asked.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= (2, 37)


class GitExitError(Exception):
    """Git ended with a failure: its exit code (negative: the signal) and the end of what it wrote to stderr."""

    def __init__(self, code: int, stderr: bytes) -> None:
        super().__init__(f"git ended with code {code}")
        self.code = code
        self.stderr = stderr


def environment(
    protocol: str, configuration: Iterable[tuple[str, str]] = (), extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the whole environment of a git command: a fixed one, and nothing of this process but PATH.

    Args:
        protocol: the one scheme that git may use, also when a remote or a submodule names another.
        configuration: keys and values for git. They go through the environment, which other users cannot read as
            they can read a command line.
        extra: further variables.
    """
    pairs = [*_CONFIGURATION, *configuration]
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",  # No .gitconfig and no .netrc.
        "LC_ALL": "C",  # Messages are matched in English.
        "TZ": "UTC",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_ASKPASS": "",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS": "",
        "GIT_CONFIG_COUNT": str(len(pairs)),
    }
    for index, (key, value) in enumerate(pairs):
        variables[f"GIT_CONFIG_KEY_{index}"] = key
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    return variables | dict(extra or {})


@dataclass(frozen=True, slots=True)
class Git:
    """The git program, as one sync may use it.

    Args:
        variables: from `environment()`.
        working_directory: an existing folder that is in no repository.
        deadline: on the monotonic clock.
        limits: as given to the sync.
        lock: a file descriptor that git inherits. A lock on it holds until git has ended too, even where this process
            was killed and could not stop git.
        on_progress: told what git says of its progress, at most once a second for each stage.
    """

    variables: Mapping[str, str]
    working_directory: Path
    deadline: float
    limits: GitLimits
    lock: int
    on_progress: Progress

    def at(self, clone: Path) -> "Git":
        """Return the same, working on the repository in `clone`."""
        return replace(self, variables={**self.variables, "GIT_DIR": str(clone)})

    def output(self, *arguments: str, max_bytes: int = 1024**2) -> bytes:
        """Return the first `max_bytes` of what git prints, and stop git there."""
        collected = bytearray()

        def collect(chunk: bytes) -> None:
            collected.extend(chunk)
            if len(collected) >= max_bytes:
                raise _EnoughError

        with contextlib.suppress(_EnoughError):
            self.run(*arguments, sink=collect)
        return bytes(collected[:max_bytes])

    def run(self, *arguments: str, sink: Sink | None = None, writes_to: Path | None = None) -> None:
        """Run one git command to its end; whatever is raised here, also by `sink`, ends git and its children.

        Args:
            arguments: without secrets: any user of the machine may read them.
            sink: given git's output in pieces as it comes.
            writes_to: the folder that the command fills; its size is limited.

        Raises:
            GitExitError: git failed.
            GitError: a limit was reached, or there is no git.
        """
        with waiting_for(f"git {_command_of(arguments)}"):
            self._run(arguments, sink or _discard, writes_to)

    def _run(self, arguments: Sequence[str], sink: Sink, writes_to: Path | None) -> None:
        process = subprocess.Popen(
            [*_within(self.limits), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.working_directory,
            env=self.variables,
            start_new_session=True,
            pass_fds=(self.lock,),
        )
        try:
            stderr = _Stderr(self.on_progress)
            self._pump(process, sink, stderr, writes_to)
        finally:
            code = _end(process)
        if code == 0:
            return
        if code == -signal.SIGXFSZ or b"signal 25" in stderr.tail or b"File too large" in stderr.tail:
            raise too_large(self.limits)
        # The shell's words for it ("git: not found") read like a host's that has no such repository.
        if code in _NOT_RUN and shutil.which("git", path=self.variables["PATH"]) is None:
            raise not_installed()
        raise GitExitError(code, bytes(stderr.tail))

    def _pump(self, process: subprocess.Popen[bytes], sink: Sink, stderr: "_Stderr", writes_to: Path | None) -> None:
        next_check = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for pipe, target in ((process.stdout, sink), (process.stderr, stderr.feed)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, target)
            while selector.get_map() or not _has_ended(process):
                events = selector.select(_TICK_S) if selector.get_map() else _nap()
                for key, _ in events:
                    _forward(selector, key)
                now = time.monotonic()
                if now >= self.deadline:
                    raise GitError(
                        f"Git took longer than {self.limits.timeout_s:g} seconds and was stopped. If the repository is"
                        " that large, raise GIT_TIMEOUT_S."
                    )
                if writes_to is not None and now >= next_check:
                    if size_bytes(writes_to) > self.limits.max_size_bytes:
                        raise too_large(self.limits)
                    next_check = now + _TICK_S


def _command_of(arguments: Sequence[str]) -> str:
    """Return the git command, past the configuration that leads it."""
    rest = iter(arguments)
    for argument in rest:
        if argument != "-c":
            return argument
        next(rest, None)
    return ""


def _within(limits: GitLimits) -> tuple[str, ...]:
    """Return what runs git within the system's limits.

    A shell sets them and becomes git: set from here, once git runs, they would come too late for what git has begun
    by then. A lower hard limit of this process stays.
    """
    settings = []
    for letter, limit, value, unit in (
        ("f", resource.RLIMIT_FSIZE, limits.max_size_bytes, 512),
        ("d", resource.RLIMIT_DATA, limits.max_memory_bytes, 1024),
    ):
        _, hard = resource.getrlimit(limit)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        settings.append(f"ulimit -S -{letter} {soft // unit}")
    return "/bin/sh", "-c", f'{" && ".join(settings)} && exec git "$@"', "git"


def too_large(limits: GitLimits) -> GitError:
    """Return the error for a repository above the size limit."""
    return GitError(f"The repository is larger than {limits.max_size_bytes / 1024**2:g} MB (GIT_MAX_SIZE_MB).")


def not_installed() -> GitError:
    """Return the error for a machine without git.

    Retryable, as a full disk is: nothing is wrong with the repository, and what is wrong here may be set right, or
    another worker may take the next try.
    """
    return GitError(
        "Git is not installed on the worker's machine, or not in its PATH. Install it there (Debian, Ubuntu: apt-get"
        " install git).",
        retryable=True,
    )


def size_bytes(directory: Path) -> int:
    """Return the sum of the sizes of all files below `directory`; files that vanish meanwhile count nothing."""
    total = 0
    pending = [os.fspath(directory)]
    while pending:
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total


class _EnoughError(Exception):
    pass


class _Stderr:
    """Tells progress, keeps the end of everything else, holds little however much a remote sends."""

    def __init__(self, on_progress: Progress) -> None:
        self.tail = bytearray()
        self._line = b""
        self._on_progress = on_progress
        self._told: tuple[str, int] = ("", -1)
        self._told_at = 0.0

    def feed(self, chunk: bytes) -> None:
        """Take what git wrote; lines end in a newline or, for progress, in a carriage return."""
        *lines, self._line = (self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        self._line = self._line[-_STDERR_TAIL_BYTES:]
        if not chunk:
            lines = [self._line]
        for line in lines:
            if match := _PROGRESS.match(line):
                self._tell(match[1].decode().lower(), min(100, int(match[2])))
            elif line.strip():
                self.tail += line + b"\n"
                del self.tail[:-_STDERR_TAIL_BYTES]

    def _tell(self, stage: str, percent: int) -> None:
        now = time.monotonic()
        if (stage, percent) == self._told or _STAGES.index(stage) < _STAGES.index(self._told[0]):
            return
        if stage != self._told[0] or percent == 100 or now - self._told_at >= _PROGRESS_INTERVAL_S:  # noqa: PLR2004
            self._told, self._told_at = (stage, percent), now
            self._on_progress(stage, percent)


def _forward(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, _CHUNK_BYTES)
    if not chunk:
        selector.unregister(key.fileobj)
    key.data(chunk)


def _nap() -> list[tuple[selectors.SelectorKey, int]]:
    time.sleep(0.002)
    return []


def _discard(_chunk: bytes) -> None:
    pass


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # Not reaped yet, so that neither its ID nor its group's can be another's by the time of the signal.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end(process: subprocess.Popen[bytes]) -> int:
    """End what still runs of the process's group, and return the process's exit code."""
    try:
        if not _has_ended(process):
            _signal_group(process.pid, signal.SIGTERM)
            patience = time.monotonic() + _GRACE_S
            while not _has_ended(process) and time.monotonic() < patience:
                time.sleep(0.02)
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        code = process.wait()
        _close(process.stdout, process.stderr)
    return code


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _close(*pipes: IO[bytes] | None) -> None:
    for pipe in pipes:
        if pipe is not None:
            pipe.close()
