"""The whole stack, beside any other: up, a part killed, a second up, faults, down."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ops.stack.parts import PORTS
from ops.stack.ports import free_port
from ops.stack.supervisor import STACK_VARIABLE

pytestmark = pytest.mark.timeout(180)


class Stack:
    """A stack of its own: free ports, and its data in a folder with a short path."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = {variable: free_port() for variable in PORTS.values()}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `commandcenter` on this stack."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", "from ops.cli import main; main()", *arguments],
            cwd=Path(__file__).parents[3],
            env=os.environ
            | {name: str(port) for name, port in self.ports.items()}
            | {
                "COMMANDCENTER_DATA": str(self.data),
                "SKIP_PACKAGES": "1",
                "API_WORKERS": "1",
                "WORKER_CONCURRENCY": "1",
            }
            | environment,
            capture_output=True,
            text=True,
            check=False,
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


def _until(is_so: Callable[[], object], patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="cc-"))
    folder.chmod(0o755)
    made = Stack(folder / "data")
    try:
        brought_up = made.run("up")
        assert brought_up.returncode == 0, brought_up.stdout + brought_up.stderr
        assert "Warning" not in brought_up.stderr
        yield made
    finally:
        made.run("down", "--data")
        shutil.rmtree(folder, ignore_errors=True)


def test_every_part_is_healthy(stack: Stack) -> None:
    """`up` returns when all is well, and `status` agrees."""
    parts = stack.status()
    assert {"postgres", "redis", "api", "worker", "beat"} <= parts.keys()
    assert {name: part["health"] for name, part in parts.items()} == dict.fromkeys(parts, "ok")
    assert all(Path(part["log"]).exists() for part in parts.values())
    assert stack.run("status").returncode == 0


def test_no_secret_stands_in_a_command_line_or_a_log(stack: Stack) -> None:
    """Every user of the machine can read command lines."""
    secrets = [line.partition("=")[2] for line in (stack.data / "secrets.env").read_text().splitlines()[1:]]
    assert len(secrets) >= 5
    told = [" ".join(process.cmdline()) for process in stack.processes()]
    told += [log.read_text(errors="replace") for log in (stack.data / "log").iterdir()]
    assert not [secret for secret in secrets if any(secret in text for text in told)]
    assert not [text for text in told if "SCRAM-SHA-256$" in text]


def test_the_exporters_role_can_look_and_nothing_else(stack: Stack) -> None:
    """It has the password of this stack, and pg_monitor."""
    secrets = dict(line.split("=", 1) for line in (stack.data / "secrets.env").read_text().splitlines()[1:])
    port = stack.ports["POSTGRES_PORT"]
    url = f"postgresql://exporter_user:{secrets['EXPORTER_PASSWORD']}@127.0.0.1:{port}/commandcenter"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_stat_statements").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM repositories")


def test_a_killed_part_comes_back(stack: Stack) -> None:
    """Nobody is there at night."""
    before = stack.status()["redis"]["pid"]
    psutil.Process(before).kill()

    def is_back() -> bool:
        part = stack.status()["redis"]
        return part["pid"] not in {None, before} and part["health"] == "ok"

    _until(is_back)


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    """Idempotent, and quick."""
    _until(lambda: all(part["health"] == "ok" for part in stack.status().values()))
    before = {name: part["pid"] for name, part in stack.status().items()}
    started = time.monotonic()
    again = stack.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert time.monotonic() - started < 15
    assert {name: part["pid"] for name, part in stack.status().items()} == before


def test_a_changed_setting_restarts_whom_it_concerns(stack: Stack) -> None:
    """And nobody else."""
    before = {name: part["pid"] for name, part in stack.status().items()}
    changed = stack.run("up", SLOW_REQUEST_MS="1234")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    after = {name: part["pid"] for name, part in stack.status().items()}
    assert {name for name in after if after[name] != before[name]} == {"api", "worker", "beat"}


def test_a_second_up_at_the_same_time_is_turned_away(stack: Stack) -> None:
    """Exit code 7."""
    import fcntl  # noqa: PLC0415

    with (stack.data / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in ("up", "down"):
            refused = stack.run(command)
            assert (refused.returncode, "Traceback" in refused.stderr) == (7, False)


def test_down_leaves_no_process_and_all_data(stack: Stack) -> None:
    """And what a supervisor that was killed left behind is ended by the next `up`."""
    down = stack.run("down")
    assert down.returncode == 0, down.stderr
    assert stack.processes() == []
    assert (stack.data / "secrets.env").exists()
    assert stack.run("status").returncode == 1


def test_a_taken_port_is_said_plainly(stack: Stack) -> None:
    """Which port, which variable, who."""
    stack.run("down")
    with socket.create_server(("127.0.0.1", stack.ports["REDIS_PORT"])):
        refused = stack.run("up")
    assert refused.returncode == 1
    assert f"Port {stack.ports['REDIS_PORT']} (redis) is taken by" in refused.stderr
    assert "REDIS_PORT=" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_part_that_crashes_at_start_shows_its_log(stack: Stack) -> None:
    """The reason is in the last lines nearly always."""
    failed = stack.run("up", WORKER_CONCURRENCY="none-of-a-number")
    assert failed.returncode == 1
    assert "ends right after its start" in failed.stderr
    assert "WORKER_CONCURRENCY" in failed.stderr
    assert str(stack.data / "log") in failed.stderr
    assert "Traceback" not in failed.stderr


def test_up_gets_over_a_killed_supervisor(stack: Stack) -> None:
    """Its parts hold ports and data; its PID file and socket are stale."""
    mended = stack.run("up")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    psutil.Process(int((stack.data / "run" / "supervisord.pid").read_text())).kill()
    again = stack.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "left behind" in again.stdout


def test_a_half_made_database_is_made_anew(stack: Stack) -> None:
    """An initdb that was interrupted leaves a folder that no server starts from."""
    assert stack.run("down").returncode == 0
    data = stack.data / "postgres" / "data"
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    up = stack.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "database made" in up.stdout


def test_down_with_data_leaves_nothing(stack: Stack) -> None:
    """Not a process, not a file."""
    down = stack.run("down", "--data")
    assert down.returncode == 0, down.stderr
    assert stack.processes() == []
    assert not stack.data.exists()


def test_a_wrong_option_is_a_usage_error(stack: Stack) -> None:
    """Exit code 2, as everywhere."""
    assert stack.run("up", "--no-such-option").returncode == 2
