"""The whole stack, beside any other: up, a part killed, a second up, faults, down."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.native_stack import NativeStack, running_stack

pytestmark = pytest.mark.timeout(360)


def _until(is_so: Callable[[], object], patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stack() -> Iterator[NativeStack]:
    with running_stack() as made:
        yield made


def test_every_part_is_healthy(stack: NativeStack) -> None:
    """`up` returns when all is well, and `status` agrees."""
    parts = stack.status()
    assert {"postgres", "redis", "api", "worker", "beat"} <= parts.keys()
    assert {name: part["health"] for name, part in parts.items()} == dict.fromkeys(parts, "ok")
    assert all(Path(part["log"]).exists() for part in parts.values())
    assert stack.run("status").returncode == 0


def test_no_secret_stands_in_a_command_line_or_a_log(stack: NativeStack) -> None:
    """Every user of the machine can read command lines."""
    secrets = [line.partition("=")[2] for line in (stack.data / "secrets.env").read_text().splitlines()[1:]]
    assert len(secrets) >= 5
    told = [" ".join(process.cmdline()) for process in stack.processes()]
    told += [log.read_text(errors="replace") for log in (stack.data / "log").iterdir()]
    assert not [secret for secret in secrets if any(secret in text for text in told)]
    assert not [text for text in told if "SCRAM-SHA-256$" in text]


def test_the_exporters_role_can_look_and_nothing_else(stack: NativeStack) -> None:
    """It has the password of this stack, and pg_monitor."""
    secrets = dict(line.split("=", 1) for line in (stack.data / "secrets.env").read_text().splitlines()[1:])
    port = stack.ports["POSTGRES_PORT"]
    url = f"postgresql://exporter_user:{secrets['EXPORTER_PASSWORD']}@127.0.0.1:{port}/commandcenter"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_stat_statements").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM repositories")


def test_a_killed_part_comes_back(stack: NativeStack) -> None:
    """Nobody is there at night."""
    before = stack.status()["redis"]["pid"]
    psutil.Process(before).kill()

    def is_back() -> bool:
        part = stack.status()["redis"]
        return part["pid"] not in {None, before} and part["health"] == "ok"

    _until(is_back)


def test_a_second_up_changes_nothing(stack: NativeStack) -> None:
    """Idempotent."""
    _until(lambda: all(part["health"] == "ok" for part in stack.status().values()))
    before = {name: part["pid"] for name, part in stack.status().items()}
    again = stack.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert {name: part["pid"] for name, part in stack.status().items()} == before


def test_a_changed_setting_restarts_whom_it_concerns(stack: NativeStack) -> None:
    """And nobody else."""
    before = {name: part["pid"] for name, part in stack.status().items()}
    changed = stack.run("up", SLOW_REQUEST_MS="1234")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    after = {name: part["pid"] for name, part in stack.status().items()}
    assert {name for name in after if after[name] != before[name]} == {"api", "worker", "beat"}


def test_a_second_up_at_the_same_time_is_turned_away(stack: NativeStack, tmp_path: Path) -> None:
    """Exit code 7; by then it has said that there is a way with containers, where an engine answers."""
    import fcntl  # noqa: PLC0415

    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n[ $1 = info ]\n")
    docker.chmod(0o755)
    with (stack.data / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in ("up", "down"):
            refused = stack.run(command, PATH=f"{tmp_path}:{os.environ['PATH']}")
            assert (refused.returncode, "Traceback" in refused.stderr) == (7, False)
            assert ("docs/production.md" in refused.stdout) is (command == "up")


def test_down_leaves_no_process_and_all_data(stack: NativeStack) -> None:
    """And what a supervisor that was killed left behind is ended by the next `up`."""
    down = stack.run("down")
    assert down.returncode == 0, down.stderr
    assert stack.processes() == []
    assert (stack.data / "secrets.env").exists()
    assert stack.run("status").returncode == 1


def test_a_taken_port_is_said_plainly(stack: NativeStack) -> None:
    """Which port, which variable, who."""
    stack.run("down")
    with socket.create_server(("127.0.0.1", stack.ports["REDIS_PORT"])):
        refused = stack.run("up")
    assert refused.returncode == 1
    assert f"Port {stack.ports['REDIS_PORT']} (redis) is taken by" in refused.stderr
    assert "REDIS_PORT=" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_part_that_crashes_at_start_shows_its_log(stack: NativeStack) -> None:
    """The reason is in the last lines nearly always."""
    failed = stack.run("up", WORKER_CONCURRENCY="none-of-a-number")
    assert failed.returncode == 1
    # On a busy machine it is still being started again when the time is over.
    assert re.search("(api|worker|beat) (ends right after its start|is not healthy in time)", failed.stderr)
    assert "WORKER_CONCURRENCY" in failed.stderr
    assert str(stack.data / "log") in failed.stderr
    assert "Traceback" not in failed.stderr


def test_up_gets_over_a_killed_supervisor(stack: NativeStack) -> None:
    """Its parts hold ports and data; its PID file and socket are stale."""
    mended = stack.run("up")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    psutil.Process(int((stack.data / "run" / "supervisord.pid").read_text())).kill()
    again = stack.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "left behind" in again.stdout


def test_a_half_made_database_is_made_anew(stack: NativeStack) -> None:
    """An initdb that was interrupted leaves a folder that no server starts from."""
    assert stack.run("down").returncode == 0
    data = stack.data / "postgres" / "data"
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    up = stack.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "database made" in up.stdout


def test_down_with_data_leaves_nothing(stack: NativeStack) -> None:
    """Not a process, not a file."""
    down = stack.run("down", "--data")
    assert down.returncode == 0, down.stderr
    assert stack.processes() == []
    assert not stack.data.exists()


def test_a_wrong_option_is_a_usage_error(stack: NativeStack) -> None:
    """Exit code 2, as everywhere."""
    assert stack.run("up", "--no-such-option").returncode == 2
