"""One operator at a time."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ops.release.journal import Journal
from ops.release.lock import Lock, held
from ops.stack.errors import StackError
from tests.system import eventually

BACKEND = Path(__file__).parents[3]
# Tries for the lock until it had it so often, and notes when it was in and out.
RACER = """
import pathlib, sys
from ops.release.lock import held
from ops.stack.errors import StackError
folder, name, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
refused = 0
while rounds:
    try:
        with held(folder / "lock.json", name), (folder / "log").open("a", buffering=1) as log:
            log.write(f"in {name}\\n")
            log.write(f"out {name}\\n")
            rounds -= 1
    except StackError as error:
        assert error.exit_code == 7, error.problem
        refused += 1
print(refused)
"""
HOLDER = """
import pathlib, sys, time
from ops.release.lock import held
from ops.stack.errors import StackError
try:
    with held(pathlib.Path(sys.argv[1]), "apply", heartbeat_s=0.05) as lock:
        print("in", flush=True)
        while True:
            lock.check()
            time.sleep(0.01)
except StackError as error:
    sys.exit(error.exit_code)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=BACKEND, stdout=subprocess.PIPE, text=True)


@contextmanager
def holder_of(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with start(HOLDER, str(path)) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "in\n"
            yield holder
        finally:
            holder.kill()


def test_two_are_never_in_at_once(tmp_path):
    """Two release engineers, one Enter key each."""
    with ExitStack() as stack:
        racers = [stack.enter_context(start(RACER, str(tmp_path), name, "150")) for name in ("a", "b", "c")]
        assert [racer.wait(timeout=60) for racer in racers] == [0, 0, 0]
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 900
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered.split()[0], left.split()[0]) == ("in", "out")
        assert entered.split()[1] == left.split()[1]


def test_busy_says_who_and_since_when(tmp_path):
    """So that one knows whom to ask."""
    path = tmp_path / "lock.json"
    with held(path, "apply"):
        with pytest.raises(StackError) as refused, held(path, "watch"):
            pytest.fail("two are in")
        assert refused.value.exit_code == 7
        assert f"process {os.getpid()}" in refused.value.problem
        assert "apply, since 20" in refused.value.problem
    with held(path, "watch"):
        pass
    assert not path.exists()


def test_the_lock_of_a_killed_process_is_taken_over_and_that_is_written_down(tmp_path):
    """Nobody should wait for a process that is gone."""
    path = tmp_path / "lock.json"
    with holder_of(path) as holder:
        pass
    with held(path, "rollback") as lock:
        journal = Journal(tmp_path, "r1")
        lock.tell(journal)
        (entry,) = journal.state().verdicts["lock"]
        assert f"process {holder.pid}" in entry.evidence["taken_over_from"]
        assert entry.evidence["last_sign_of_life"].endswith("+00:00")
    with held(path, "apply") as lock:
        lock.tell(journal)
    assert len(journal.entries) == 1


def test_a_frozen_process_is_taken_over_and_stops_when_it_wakes(tmp_path):
    """A laptop that slept must not go on with a release that somebody else has rolled back."""
    path = tmp_path / "lock.json"
    with holder_of(path) as holder:
        with pytest.raises(StackError), held(path, "rollback"):
            pytest.fail("two are in")
        holder.send_signal(signal.SIGSTOP)
        with ExitStack() as stack:

            def take() -> Lock | None:
                try:
                    return stack.enter_context(held(path, "rollback", stale_s=0.5))
                except StackError:
                    return None

            taken = eventually(take, what="a stale lock")
            assert taken.taken_over is not None
            assert taken.taken_over.pid == holder.pid
            journal = Journal(tmp_path, "r1")
            taken.tell(journal)
            assert "frozen" in journal.state().verdicts["lock"][0].evidence["its_process"]
            holder.send_signal(signal.SIGCONT)
            assert holder.wait(timeout=20) == 7
            taken.check()


def test_who_was_taken_over_learns_it_and_takes_nothing_back(tmp_path):
    """Its heartbeat and its end must leave the new owner's lock alone."""
    path = tmp_path / "lock.json"
    with held(path, "apply", heartbeat_s=0.01) as lock:
        lock.check()
        other = json.loads(path.read_text()) | {"who": "other@elsewhere", "token": "theirs"}
        path.write_text(json.dumps(other))
        with pytest.raises(StackError, match="other@elsewhere") as refused:
            lock.check()
        assert refused.value.exit_code == 7
        lock.beat()
    assert json.loads(path.read_text()) == other


def test_the_heart_beats(tmp_path):
    path = tmp_path / "lock.json"
    with held(path, "apply", heartbeat_s=0.01) as lock:
        eventually(lambda: json.loads(path.read_text())["heartbeat"] > lock.owner.heartbeat, what="a heartbeat")
    assert not [each for each in threading.enumerate() if each.name == "release-lock"]


def test_a_lock_that_nobody_of_us_wrote_is_left_alone(tmp_path):
    path = tmp_path / "lock.json"
    path.write_text("half a li")
    with pytest.raises(StackError, match="no lock of ours"), held(path, "apply"):
        pytest.fail("in")
    assert path.read_text() == "half a li"


def test_an_owner_on_another_machine_is_judged_by_its_heartbeat_alone(tmp_path):
    """Its process IDs mean nothing here."""
    path = tmp_path / "lock.json"
    with held(path, "apply"):
        owner = json.loads(path.read_text())
    owner |= {"host": "elsewhere", "pid": 2**22 - 1, "heartbeat": time.time()}
    path.write_text(json.dumps(owner))
    with pytest.raises(StackError), held(path, "apply"):
        pytest.fail("two are in")
    path.write_text(json.dumps(owner | {"heartbeat": time.time() - 61}))
    with held(path, "apply") as lock:
        assert lock.taken_over is not None


CLOCK_OFF = "import time; real = time.time; time.time = lambda: real() - 3600" + HOLDER


def test_a_clock_that_jumps_ends_nobodys_lock(tmp_path):
    """Time is set by a minute, and two operators would be at work at once."""
    path = tmp_path / "lock.json"
    with start(CLOCK_OFF, str(path)) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "in\n"
            with pytest.raises(StackError) as refused, held(path, "rollback"):
                pytest.fail("two are in")
            assert refused.value.exit_code == 7
            assert "last sign of life 0 s ago" in refused.value.problem
        finally:
            holder.kill()


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path):
    """Numbers are given again; nobody should wait for a stranger."""
    path = tmp_path / "lock.json"
    with held(path, "apply"):
        owner = json.loads(path.read_text())
    path.write_text(json.dumps(owner | {"started": "1"}))
    with held(path, "rollback") as lock:
        assert lock.taken_over is not None


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    """One line, no traceback."""
    path = tmp_path / "lock.json"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(StackError, match="can't be written"), held(path, "apply"):
            pytest.fail("in")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["lock.json.guard"]
