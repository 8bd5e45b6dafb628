"""Several API processes whose parent was killed leave the port to the next."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.system import System, eventually, running_system


@pytest.fixture
def api(tmp_path: Path, new_database: Callable[[], str], redis_url: str) -> Iterator[System]:
    """A system whose API runs in two processes; started by the test."""
    with running_system(tmp_path, new_database(), redis_url, services=(), API_WORKERS="2") as system:
        system.start("api")
        yield system
        system.stop_if_running("api")


def answers(system: System) -> bool:
    try:
        with system.client() as client:
            return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def servers(parent: psutil.Process) -> list[psutil.Process]:
    """Return the processes that serve; not what multiprocessing keeps beside them."""
    return [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]


def lives(process: psutil.Process) -> bool:
    """Tell whether a process still does something: nobody may have asked yet how it ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("is_ready", [True, False])
def test_children_end_with_a_parent_that_was_killed(api: System, *, is_ready: bool) -> None:
    """Also where they were just beginning. Else they answer for ever, and a supervisor starts others in vain."""
    parent = psutil.Process(api.processes["api"].pid)
    children = eventually(lambda: found if len(found := servers(parent)) == 2 else None, what="two servers")
    if is_ready:
        eventually(lambda: answers(api), what="an API that answers")
    killed = api.processes.pop("api")
    killed.kill()
    killed.wait()
    eventually(lambda: not any(lives(child) for child in children), within_s=40, what="the children's end")
    api.start("api")
    eventually(lambda: answers(api), within_s=40, what="another one on that port")
