"""One operator at a time: a file that says who works on releases here, from where, and that they still do.

The owner's heartbeat is renewed by a thread. One that stopped may be taken over, at once if its process is gone from
this machine, else after `STALE_S`; whoever was taken over learns of it at the next `check()`, which each line of the
journal asks for first. On this machine a heartbeat's age is told by the time since boot, which nobody sets: only of
other machines the clock must be believed.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ops.release.exits import LOCKED
from ops.release.journal import Journal, operator
from ops.stack.errors import StackError

HEARTBEAT_S: Final = 5.0
STALE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds the lock. `since` and `heartbeat` are seconds since 1970, by the owner's clock.

    `boot` names the time the owner's machine has been up, `uptime` is the heartbeat in seconds of it, `started` says
    when in it the process began: a process ID alone may be somebody else's by now.
    """

    who: str
    host: str
    pid: int
    doing: str
    since: float
    heartbeat: float
    token: str
    boot: str = ""
    uptime: float = 0.0
    started: str = ""

    def __str__(self) -> str:
        """Say it as a person would."""
        return f"{self.who} (process {self.pid} on {self.host}): {self.doing}, since {_moment(self.since)}"


class Lock:
    """A lock that is held: `held` makes one."""

    def __init__(self, path: Path, owner: Owner, taken_over: Owner | None, *, was_frozen: bool = False) -> None:
        self.owner = owner
        self._was_frozen = was_frozen
        # Who held it before, and stopped without giving it back.
        self.taken_over = taken_over
        self._path = path

    def check(self) -> None:
        """Do nothing while the lock is ours.

        Raises:
            StackError: somebody took it over while this process gave no sign of life; exit code 7.
        """
        current = _read(self._path)
        if current is None or current.token != self.owner.token:
            raise StackError(
                f"The release lock was taken over by {current or 'somebody who has left'}: this process gave no "
                "sign of life for too long.",
                "Nothing more was done here. See the journal for what they did, and begin again when they are done.",
                LOCKED,
            )

    def tell(self, journal: Journal) -> None:
        """Write into the journal from whom the lock was taken over, if it was."""
        if self.taken_over:
            evidence = {
                "taken_over_from": str(self.taken_over),
                "last_sign_of_life": _moment(self.taken_over.heartbeat),
                "its_process": "frozen: there, and without a sign of life" if self._was_frozen else "gone or elsewhere",
            }
            journal.append("verdict", "lock", evidence=evidence)

    def beat(self) -> None:
        """Renew the heartbeat, if the lock is still ours."""
        with _guarded(self._path):
            current = _read(self._path)
            if current is not None and current.token == self.owner.token:
                _write(self._path, replace(current, heartbeat=time.time(), uptime=_uptime()))

    def release(self) -> None:
        """Give the lock back, if it is still ours."""
        with _guarded(self._path):
            current = _read(self._path)
            if current is not None and current.token == self.owner.token:
                self._path.unlink()


@contextmanager
def held(path: Path, doing: str, *, stale_s: float = STALE_S, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Lock]:
    """Hold the lock until the block ends.

    Args:
        path: the lock's file; its folder is made if need be.
        doing: what for, as others shall read it, such as `apply`.
        stale_s: without a sign of life for so long, it may be taken over.
        heartbeat_s: between two signs of life.

    Raises:
        StackError: somebody else holds it: who, and since when; exit code 7.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _take(path, doing, stale_s)
    except OSError as error:
        raise StackError(
            f"The release lock {path} can't be written: {error.strerror or error}.",
            "Make room, or give back the right to write. Nothing was done.",
        ) from error
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(heartbeat_s):
            # A full disk must not end the release; a heartbeat that stays away is what others see.
            with suppress(OSError):
                lock.beat()

    thread = threading.Thread(target=beat, name="release-lock", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        ended.set()
        thread.join()
        lock.release()


def _take(path: Path, doing: str, stale_s: float) -> Lock:
    with _guarded(path):
        current = _read(path)
        if current is not None and not _is_over(current, stale_s):
            raise StackError(
                f"Another operator is at work on releases here: {current}; last sign of life "
                f"{max(0.0, _age(current)):.0f} s ago.",
                f"Ask them, or wait. If they stop without giving it back, it is free {stale_s:.0f} s after their last "
                "sign of life.",
                LOCKED,
            )
        now = time.time()
        owner = Owner(
            operator(), socket.gethostname(), os.getpid(), doing, now, now, secrets.token_hex(8),
            _boot(), _uptime(), _started(os.getpid()),
        )  # fmt: skip
        was_frozen = current is not None and _is_here(current) and _lives(current)
        _write(path, owner)
        return Lock(path, owner, current, was_frozen=was_frozen)


def _is_over(owner: Owner, stale_s: float) -> bool:
    return _age(owner) > stale_s or (owner.host == socket.gethostname() and not _lives(owner))


def _age(owner: Owner) -> float:
    """Return how many seconds ago the last sign of life was."""
    return _uptime() - owner.uptime if _is_here(owner) else time.time() - owner.heartbeat


def _is_here(owner: Owner) -> bool:
    """Whether it works on this machine, since it was started last."""
    return owner.host == socket.gethostname() and bool(owner.boot) and owner.boot == _boot()


def _lives(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not _is_here(owner) or owner.started == _started(owner.pid)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _uptime() -> float:
    # Goes on while a laptop sleeps, where the system has such a clock.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _started(pid: int) -> str:
    """Return when a process began, in ticks since boot; its name before may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let nobody else look at the lock and change it meanwhile."""
    with path.with_name(f"{path.name}.guard").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StackError(
            f"{path} is no lock of ours.", "Look who wrote it; delete it if no release is under way.", LOCKED
        ) from error


def _write(path: Path, owner: Owner) -> None:
    """Exchange the file in one step, so that a reader sees the one or the other."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(json.dumps(asdict(owner)))
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
