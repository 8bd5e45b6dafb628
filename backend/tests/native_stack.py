"""A native stack of a test's own: free ports, its data in a folder with a short path, commands as typed."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ops.stack.names import PORTS
from ops.stack.ports import free_port
from ops.stack.supervisor import STACK_VARIABLE
from tests import warm_python

BACKEND = Path(__file__).resolve().parents[1]


class NativeStack:
    """One stack.

    Args:
        data: its data folder.
        backend: of the checkout whose commands are run.
    """

    def __init__(self, data: Path, backend: Path = BACKEND) -> None:
        self.data = data
        self.backend = backend
        self.ports = {variable: free_port() for variable in PORTS.values()}

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are run with."""
        return (
            dict(os.environ)
            | {name: str(port) for name, port in self.ports.items()}
            | {
                "COMMANDCENTER_DATA": str(self.data),
                "SKIP_PACKAGES": "1",
                "API_WORKERS": "1",
                "WORKER_CONCURRENCY": "1",
            }
        )

    def run(
        self, *arguments: str, launcher: str = "from ops.cli import main; main()", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `commandcenter` on this stack; a warning is an error."""
        return warm_python.run(
            ["-c", f"import warnings; warnings.simplefilter('error'); {launcher}", *arguments],
            cwd=self.backend,
            env=self.environment | environment,
            timeout=150,
        )

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what `status` says of each part."""
        parts = json.loads(self.run("status", "--json").stdout)["parts"]
        return {part["part"]: part for part in parts}

    def processes(self) -> list[psutil.Process]:
        """Return every process of this stack there is."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get(STACK_VARIABLE) == str(self.data)
                if is_ours or any(str(self.data) in argument for argument in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@contextmanager
def running_stack(backend: Path = BACKEND) -> Iterator[NativeStack]:
    """Bring a stack up, and take it down with its data at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cc-"))
    folder.chmod(0o755)
    made = NativeStack(folder / "data", backend)
    try:
        brought_up = made.run("up")
        assert brought_up.returncode == 0, brought_up.stdout + brought_up.stderr
        assert "Warning" not in brought_up.stderr
        yield made
    finally:
        made.run("down", "--data")
        shutil.rmtree(folder, ignore_errors=True)
