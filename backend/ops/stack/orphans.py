"""Processes of a stack whose supervisor was killed: they hold ports and data, and nobody looks after them."""

import os
import signal
from pathlib import Path

import psutil

from ops.stack.supervisor import STACK_VARIABLE

# These write their title over their environment, so they are known by where they work.
_TITLED = frozenset({"postgres", "redis-server"})
_PATIENCE_S = 15


def end(data: Path, postgres_home: Path, supervisor_pid: int | None) -> list[str]:
    """End every process of the stack that its supervisor doesn't know; return their names."""
    known = {os.getpid()}
    if supervisor_pid is not None:
        try:
            supervisor = psutil.Process(supervisor_pid)
            known |= {supervisor_pid, *(child.pid for child in supervisor.children(recursive=True))}
        except psutil.NoSuchProcess:
            pass
    strays = [each for each in psutil.process_iter() if each.pid not in known and _is_ours(each, data, postgres_home)]
    names = {each.pid: _name(each) for each in strays}
    # A worker says good-bye to its broker, and PostgreSQL waits for its clients: those who hold data go last.
    _end([each for each in strays if names[each.pid] not in _TITLED])
    _end([each for each in strays if names[each.pid] in _TITLED])
    return sorted(set(names.values()))


def _end(strays: list[psutil.Process]) -> None:
    pids = {each.pid for each in strays}
    for each in strays:
        try:
            # Children are their parent's to end.
            if each.ppid() not in pids:
                # PostgreSQL reads SIGTERM as "when all clients have gone"; SIGINT is its fast way.
                each.send_signal(signal.SIGINT if each.name() == "postgres" else signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(strays, timeout=_PATIENCE_S)
    for each in alive:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=_PATIENCE_S)


def _is_ours(process: psutil.Process, data: Path, postgres_home: Path) -> bool:
    try:
        if process.environ().get(STACK_VARIABLE) == str(data):
            return True
        if process.name() not in _TITLED:
            return False
        folder = Path(process.cwd())
        return folder.is_relative_to(data) or folder.is_relative_to(postgres_home)
    except (psutil.Error, OSError):
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "a process that ended"
