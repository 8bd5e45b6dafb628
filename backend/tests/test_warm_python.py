"""A copy of a warm Python is what a new Python would be."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import warm_python

ENVIRONMENT = {"PATH": os.environ["PATH"], "ONLY_THIS": "one"}
TELL = """
import atexit, json, os, sys
from pathlib import Path
atexit.register(print, "ended as any does")
print(json.dumps({
    "environment": dict(os.environ), "arguments": sys.argv[1:], "name": __name__, "folder": os.getcwd(),
    "first_path": sys.path[0], "leads_a_session": os.getsid(0) == os.getpid(), "input": sys.stdin.read(),
    "files": sorted(int(file.name) for file in Path("/proc/self/fd").iterdir() if file.exists()),
    "has_metrics": "prometheus_client" in sys.modules,
}))
print("said", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "waits.py").write_text("import signal; print(flush=True); signal.pause()")
    (tmp_path / "fails.py").write_text("raise ValueError('on purpose')")
    return tmp_path


def test_it_is_as_new(folder: Path) -> None:
    """Nothing of the tests' process or of the original is left in it but what is imported."""
    done = warm_python.run(["tell", "7", "x y"], cwd=folder, env=ENVIRONMENT)
    told, _, last = done.stdout.partition("\n")
    assert json.loads(told) == {
        "environment": ENVIRONMENT,
        "arguments": ["7", "x y"],
        "name": "__main__",
        "folder": str(folder),
        "first_path": str(folder),
        "leads_a_session": True,
        "input": "",
        "files": [0, 1, 2],
        "has_metrics": False,
    }
    assert (done.returncode, last, done.stderr) == (7, "ended as any does\n", "said\n")


def test_code_is_run_as_well(folder: Path) -> None:
    code = "import sys, tell_all; print(__name__, sys.argv)"
    (folder / "tell_all.py").touch()
    done = warm_python.run(["-c", code, "a b"], cwd=folder, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__ ['-c', 'a b']\n", "")


def test_an_error_ends_it_in_the_usual_way(folder: Path) -> None:
    done = warm_python.run(["fails"], cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: on purpose\n")


def test_it_is_waited_for_and_killed(folder: Path) -> None:
    with (folder / "out").open("wb") as output:
        process = warm_python.start(["waits"], cwd=folder, env=ENVIRONMENT, stdout=output)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        warm_python.run(["waits"], cwd=folder, env=ENVIRONMENT, timeout=0.01)
    process.kill()
    assert (process.wait(), process.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
