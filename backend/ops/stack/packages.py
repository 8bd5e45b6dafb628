"""The distribution's packages: the watchers, Redis and Git, installed where we may, and named where we may not.

Nothing else is upgraded or removed, and no package gets to start a service of its own: the stack runs the programs.

    python -m ops.stack.packages      # installs what is missing, for tests and benches too
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from ops.stack import accounts, programs

# Package: one of its programs, which tells whether it is needed.
PACKAGES: Final = {
    "redis-server": ("redis-server",),
    "git": ("git",),
    "prometheus": programs.PROMETHEUS,
    "prometheus-alertmanager": programs.ALERTMANAGER,
    "prometheus-postgres-exporter": programs.POSTGRES_EXPORTER,
    "prometheus-node-exporter": programs.NODE_EXPORTER,
}
# What only tests and benches run.
FOR_TESTS: Final = {
    "pgbouncer": ("pgbouncer",),
    "wrk": ("wrk",),
    "e2fsprogs": ("mkfs.ext4",),
    "mount": ("mount",),
}
_REFUSE_STARTS: Final = "#!/bin/sh\n# Made by CommandCenter while it installs packages; gone right after.\nexit 101\n"
_UNIT_FOLDERS: Final = ("etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system")

Run = Callable[[Sequence[str]], int]


def missing(packages: Mapping[str, Sequence[str]] = PACKAGES) -> list[str]:
    """Return the packages whose programs aren't here."""
    return [package for package, candidates in packages.items() if not programs.find(*candidates)]


def ensure(console: Console, packages: Mapping[str, Sequence[str]] = PACKAGES) -> None:
    """Install the missing packages if this machine and our rights allow it; else say what to do, and go on."""
    wanted = missing(packages)
    if not wanted or os.environ.get("SKIP_PACKAGES"):
        return
    names = " ".join(wanted)
    command = f"apt-get install --no-install-recommends {names}"
    if not _is_debian_like():
        console.print(
            f"[yellow]Going on without {', '.join(wanted)}: install them with this system's package manager.[/]"
        )
        return
    prefix = _root_prefix()
    if prefix is None:
        console.print(f"[yellow]Going on without {', '.join(wanted)}.[/] To have them: sudo {command}", soft_wrap=True)
        return
    console.print(f"Installing Debian packages: {names}", soft_wrap=True)
    problem = install(wanted, prefix=prefix)
    if problem:
        console.print(f"[yellow]Going on without them: {problem}[/] By hand: {command}", soft_wrap=True)


def _is_debian_like() -> bool:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return False
    return bool(shutil.which("apt-get")) and "debian" in text


def _root_prefix() -> list[str] | None:
    """Return what goes before a command that needs root; None where we can't have it without a question."""
    if accounts.is_root():
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return [sudo, "-n"]
    return None


def install(packages: Sequence[str], *, prefix: Sequence[str], root: Path = Path("/"), run: Run | None = None) -> str:
    """Install packages and keep their services from starting; return what went wrong, if anything.

    Args:
        packages: names.
        prefix: what makes a command one of root's (`sudo -n`), or nothing.
        root: the file system's root; another one in tests.
        run: runs a command and returns its exit code.
    """
    execute = run or _run
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l"]
    apt = [*prefix, *environment, "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    with _no_service_starts(root, prefix, execute):
        if not _has_lists(root) and execute([*apt, "update"]):
            return "apt-get update failed."
        before = _units(root)
        order = ["install", "--no-install-recommends", "--no-upgrade", "--no-remove", *packages]
        failed = execute([*apt, *order])
        if failed:
            # Lists that are too old name files that are gone.
            failed = execute([*apt, "update"]) or execute([*apt, *order])
    new = sorted(_units(root) - before)
    if new and (root / "run/systemd/system").exists():
        execute([*prefix, "systemctl", "disable", "--now", "--quiet", *new])
    return "apt-get install failed." if failed else ""


@contextmanager
def _no_service_starts(root: Path, prefix: Sequence[str], execute: Run) -> Iterator[None]:
    """Refuse package scripts the start of services (policy-rc.d), unless an administrator has decided that already."""
    policy = root / "usr/sbin/policy-rc.d"
    if policy.exists() or policy.is_symlink():
        yield
        return
    if prefix:
        script = 'printf %s "$2" > "$1" && chmod 755 "$1"'
        execute([*prefix, "sh", "-c", script, "sh", str(policy), _REFUSE_STARTS])
    else:
        policy.write_text(_REFUSE_STARTS)
        policy.chmod(policy.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    try:
        yield
    finally:
        if prefix:
            execute([*prefix, "rm", "-f", str(policy)])
        else:
            policy.unlink(missing_ok=True)


def _has_lists(root: Path) -> bool:
    return any((root / "var/lib/apt/lists").glob("*_Packages*"))


def _units(root: Path) -> set[str]:
    """Return the names of all service units there are."""
    return {
        unit.name
        for folder in _UNIT_FOLDERS
        for unit in (root / folder).glob("*.service")
        # A template is no service by itself.
        if "@" not in unit.name
    }


def _run(command: Sequence[str]) -> int:
    """Run a command with its words going to a log that is shown only when it fails."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write("\n".join(done.stdout.splitlines()[-8:]) + "\n")
    return done.returncode


if __name__ == "__main__":
    ensure(Console(), {**PACKAGES, **FOR_TESTS})
