"""What is better found out before anything starts: a full disk, a missing program, a taken port."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from ops.stack import ports
from ops.stack.errors import StackError
from ops.stack.layout import first_existing
from ops.stack.names import PORTS
from ops.stack.settings import Settings

_LEAST_FREE_BYTES: Final = 500 * 1024**2


def check_disk(folder: Path, free_bytes: int | None = None) -> None:
    """Refuse to start on a disk that is nearly full; `free_bytes` stands in for the disk's own word.

    Raises:
        StackError: fewer than 500 MB are free.
    """
    free = psutil.disk_usage(str(first_existing(folder))).free if free_bytes is None else free_bytes
    if free < _LEAST_FREE_BYTES:
        raise StackError(
            f"Only {free // 1024**2} MB are free on the disk of {folder}; the stack wants 500.",
            "Free some, or set COMMANDCENTER_DATA to a folder on another disk.",
        )


def check_programs() -> None:
    """Refuse to start without git, which the worker runs by the PATH that it gets from here.

    Raises:
        StackError: there is none; each sync would fail.
    """
    if shutil.which("git") is None:
        raise StackError(
            "There is no git in the PATH; the worker runs it for each sync.",
            "Install it (Debian, Ubuntu: apt-get install git), or put its folder into PATH.",
        )


def check_ports(settings: Settings, starting: Iterable[str]) -> None:
    """Refuse to start a part whose port somebody else holds.

    Raises:
        StackError: names every such port, its variable, and who holds it.
    """
    wanted = {name: PORTS[name] for name in starting if name in PORTS}
    chosen = {name: settings.port(variable) for name, variable in wanted.items()}
    problems, ways_out = [], []
    for name, port in chosen.items():
        twin = next((other for other in chosen if other != name and chosen[other] == port), None)
        host = settings["API_HOST"] if name in {"api", "worker"} else "127.0.0.1"
        if twin:
            problems.append(f"Port {port} is given to both {name} and {twin}.")
        elif not ports.is_free(port, host):
            by = ports.holder(port)
            problems.append(f"Port {port} ({name}) is taken" + (f" by {by}." if by else " by another program."))
        else:
            continue
        ways_out.append(f"{wanted[name]}={ports.free_port()}")
    if problems:
        raise StackError(
            "\n".join(problems), f"Stop it, or use other ports: {' '.join(dict.fromkeys(ways_out))} make up"
        )
