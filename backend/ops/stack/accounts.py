"""Whose account a program runs under.

PostgreSQL refuses to run as root, so root starts it under an account without rights. Everybody else runs everything
under their own.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ACCOUNT_NAME: Final = "commandcenter"


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    """Whether this process may become another user."""
    return os.geteuid() == 0


def find(*names: str) -> Account | None:
    """Return the first of these accounts that exists."""
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    return None


def ensure() -> Account | None:
    """Return the account of PostgreSQL, made where it was missing; None where we are no root and need none."""
    if not is_root():
        return None
    account = find(ACCOUNT_NAME)
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if account is None and useradd:
        command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
        subprocess.run(command, check=False, capture_output=True)
        account = find(ACCOUNT_NAME)
    return account or find("postgres", "nobody")


def can_reach(path: Path, account: Account | None) -> bool:
    """Whether this account can read a file, or enter a folder, in spite of what lies above it."""
    if account is None:
        return os.access(path, os.R_OK)
    # A try under that account also counts ACLs and mount options. /bin/sh, for our Python may itself be out of reach.
    script = 'if test -d "$1"; then test -x "$1"; else test -r "$1"; fi'
    command = ["/bin/sh", "-c", script, "sh", str(path)]
    tried = subprocess.run(command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False)
    return tried.returncode == 0


def give(path: Path, account: Account | None, mode: int) -> None:
    """Make a folder if need be, with this mode, owned by this account."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
