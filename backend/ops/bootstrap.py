"""Makes the virtual environment, from nothing but a Python: standard library only, for nothing else is there yet.

Run by the Makefile before everything else; when nothing has changed since the last time it ends at once.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

_OLDEST: Final = (3, 11)
_ROOT: Final = Path(__file__).resolve().parents[2]
_BACKEND: Final = _ROOT / "backend"
_LOCK: Final = _BACKEND / "requirements-dev.lock"
_VENV: Final = _ROOT / ".venv"
_PYTHON: Final = _VENV / "bin" / "python"
_STAMP: Final = _VENV / "commandcenter-stamp"
# Where a distribution has its own, which all build with a profile.
_DISTRIBUTION: Final = "/usr"
_AS_TOLD: Final = "--this-python"


def main() -> None:
    """Bring `.venv` up to date with the lock file, unless it is.

    With `--this-python` a new one is made with the Python that runs this; without, with a quicker one where there is.
    """
    if sys.version_info < _OLDEST:
        _give_up(f"Python {sys.version.split()[0]} is too old: CommandCenter needs 3.11 or newer.")
    # The lock file itself serves to lock: two runs at once would install into each other's half-made environment.
    with _LOCK.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _fingerprint(lock.read())
        if _is_usable() and _STAMP.exists() and _STAMP.read_text() == wanted:
            return
        started = time.monotonic()
        _make_venv()
        _STAMP.unlink(missing_ok=True)
        _install()
        _STAMP.write_text(wanted)
        _say(f"Done in {time.monotonic() - started:.1f} s.")


def _fingerprint(locked: bytes) -> str:
    """What the environment is made of: pinned packages, our own entry points, and where it lies."""
    digest = hashlib.sha256(locked)
    digest.update((_BACKEND / "pyproject.toml").read_bytes())
    digest.update(str(_VENV).encode())
    return digest.hexdigest()


def _is_usable() -> bool:
    """Whether there is an environment whose Python still runs, lies here, and is new enough."""
    script = f"import sys; sys.exit(sys.version_info < {_OLDEST!r} or sys.prefix != {str(_VENV)!r})"
    try:
        return subprocess.run([str(_PYTHON), "-c", script], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _make_venv() -> None:
    if _is_usable():
        return
    if _AS_TOLD not in sys.argv and not _is_quick() and (quicker := _quicker_python()):
        # It takes the lock that ends with this one.
        os.execv(quicker, [quicker, __file__, _AS_TOLD])  # noqa: S606 - a Python, with our own file.
    if find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        _give_up(
            "This Python lacks the module ensurepip, so it can't make a virtual environment.\n"
            f"  Debian, Ubuntu: sudo apt-get install python{version}-venv"
        )
    if _VENV.exists():
        if not (_VENV / "pyvenv.cfg").exists():
            _give_up(f"{_VENV} is there but is no virtual environment; move it away.")
        _say(f"{_VENV.name} is no longer usable (moved, or its Python is gone): making it anew.")
        shutil.rmtree(_VENV)
    _say(f"Making {_VENV.name} with Python {sys.version.split()[0]} ({sys.executable})")
    try:
        venv.create(_VENV, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(_VENV, ignore_errors=True)
        _give_up(f"The virtual environment can't be made: {error}")


def _is_quick() -> bool:
    """Whether this Python was built with a profile of what it does most.

    One that a version manager compiles mostly wasn't, and takes about 1.3 times as long for everything.
    """
    built_with = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return sys.base_prefix == _DISTRIBUTION or "--enable-optimizations" in built_with


def _quicker_python() -> str | None:
    """Return the distribution's Python, where it is new enough and can make an environment."""
    python = f"{_DISTRIBUTION}/bin/python3"
    script = (
        "import sys, importlib.util; "
        f"sys.exit(sys.version_info < {_OLDEST!r} or importlib.util.find_spec('ensurepip') is None)"
    )
    try:
        return None if subprocess.run([python, "-c", script], check=False, capture_output=True).returncode else python
    except OSError:
        return None


def _install() -> None:
    """Install the locked packages with uv, or with pip where uv can't."""
    count = len(re.findall(r"(?m)^\S+==", _LOCK.read_text()))
    _say(f"Installing {count} locked packages from {_LOCK.relative_to(_ROOT)} (checked by their hashes)")
    uv = _VENV / "bin" / "uv"
    ours = ["--no-deps", "--editable", str(_BACKEND)]
    # Compiled once and here: the parts of a stack start side by side, and each would do it again, for itself.
    with_uv = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(_PYTHON)]
    with_pip = [str(_PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    if _install_uv(with_pip) and _run([*with_uv, "--require-hashes", "-r", str(_LOCK)]) and _run([*with_uv, *ours]):
        return
    _say("uv could not do it; trying pip, which takes longer.")
    if not (_run([*with_pip, "--require-hashes", "-r", str(_LOCK)]) and _run([*with_pip, *ours])):
        _give_up("The packages can't be installed; what pip said stands above. Is the package index in reach?")


def _install_uv(with_pip: list[str]) -> bool:
    """Install uv alone, at the version and with the hashes of the lock file."""
    found = re.search(r"(?m)^uv==[^\\\n]*(?:\\\n[^\\\n]*)*", _LOCK.read_text())
    if found is None:
        return False
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(found.group() + "\n")
        file.flush()
        return _run([*with_pip, "--require-hashes", "-r", file.name])


def _run(command: list[str]) -> bool:
    return subprocess.run(command, check=False, cwd=_ROOT).returncode == 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - nothing nicer is installed yet.


def _give_up(text: str) -> NoReturn:
    print(f"✗ {text}", file=sys.stderr)  # noqa: T201 - as above.
    raise SystemExit(1)


if __name__ == "__main__":
    main()
