"""The layer lifted out as docs/adopting.md says: its files and the shop's in a folder of their own, running there.

Nothing else of this project can be imported there: Python is started without its site module, so an editable install is
not on the path.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ops.stack import loopback
from ops.stack.ports import free_port
from tests.pages import blocks
from tests.system import BACKEND, System, eventually

PAGE = BACKEND.parent / "docs" / "adopting.md"
SHOP = Path(__file__).parent / "shop"
_SITE = sysconfig.get_paths()["purelib"]


def listed(language: str) -> list[str]:
    """Return the lines of the page's one block in this language."""
    (block,) = blocks(PAGE, language)
    return block.split()


def lift(folder: Path, *, renamed: bool) -> str:
    """Copy the listed files and the shop into `folder`, as the page says; return the name of the layer's package."""
    for entry in listed("layer"):
        source, target = BACKEND / entry, folder / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copytree(SHOP, folder / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    if not renamed:
        return "app"
    (command,) = [block for block in blocks(PAGE, "sh") if block.startswith("mv app ")]
    subprocess.run(["sh", "-euc", command], cwd=folder, check=True)
    return command.split()[2]


def python(folder: Path, code: str, *arguments: str) -> list[str]:
    """Return a command that runs `code` with `folder` and the installed packages to import from, and nothing else."""
    paths = f"import sys; sys.path[:0] = [{str(folder)!r}]; sys.path.append({_SITE!r})\n"
    return [sys.executable, "-I", "-S", "-c", paths + code, *arguments]


def _module(folder: Path, name: str, *arguments: str) -> list[str]:
    return python(folder, f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)", *arguments)


@dataclass
class Shop:
    """The running shop: what `System` knows of logs and processes holds here too."""

    system: System

    @property
    def client(self) -> httpx.Client:
        """A client of its API; the caller closes it."""
        return self.system.client()

    def metrics(self) -> str:
        """Return what API and worker export now."""
        urls = (f"{self.system.url}/metrics", f"{self.system.worker_metrics_url}/metrics")
        return "".join(loopback.get(url, timeout_s=10).raise_for_status().text for url in urls)


@contextmanager
def running_shop(
    folder: Path, database_url: str, redis_url: str, postgres_log: Path, api_processes: int
) -> Iterator[Shop]:
    """Run the lifted shop in `folder` until the block ends; wait until it takes requests and tasks."""
    api_port, worker_port = free_port(), free_port()
    logs = folder / "log"
    logs.mkdir()
    shared = {service: folder / "metrics" / service for service in ("api", "worker")}
    for each in shared.values():
        each.mkdir(parents=True)
    (logs / "postgres.log").symlink_to(postgres_log)
    environment = {
        "PATH": os.environ["PATH"],
        "SHOP_DATABASE": database_url,
        "SHOP_REDIS": redis_url,
        "SHOP_WORKER_METRICS_PORT": str(worker_port),
        "SHOP_TRAIL_SECRET": "the shop's own",
    }
    api = ["--factory", "shop.main:create_app", f"--port={api_port}", "--no-access-log", f"--workers={api_processes}"]
    worker = ["-A", "shop.tasks", "--quiet", "worker", "--concurrency=1", "--without-mingle", "--without-gossip"]
    commands = {"api": _module(folder, "uvicorn", *api), "worker": _module(folder, "celery", *worker)}
    worker_url = f"http://127.0.0.1:{worker_port}"
    system = System(f"http://127.0.0.1:{api_port}", worker_url, database_url, redis_url, folder, environment)
    with ExitStack() as stack:
        for service, command in commands.items():
            own = environment
            if service == "worker" or api_processes > 1:
                own = environment | {"PROMETHEUS_MULTIPROC_DIR": str(shared[service])}
            with system.log_path(service).open("ab") as output:
                system.processes[service] = subprocess.Popen(
                    command, env=own, cwd="/", stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            stack.callback(system.stop, service)
        shop = Shop(system)
        eventually(lambda: _answers(shop), within_s=60, what=f"the shop in {folder}")
        yield shop


def _answers(shop: Shop) -> bool:
    assert all(process.poll() is None for process in shop.system.processes.values())
    try:
        return bool(shop.metrics())
    except httpx.HTTPError:
        return False
