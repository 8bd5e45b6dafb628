"""A version of our code: a commit, laid out in a folder of its own beside others, ready to run.

Nothing that runs reads the checkout: what an editor or a `git pull` does there changes no release.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.stack import programs
from ops.stack.errors import StackError
from ops.stack.inherited import from_shell
from ops.stack.layout import Layout

_COMMIT_DIGITS: Final = 12
_INSTALL_TIMEOUT_S: Final = 600


@dataclass(frozen=True)
class Version:
    """Code that can run. `backend` holds `app` and `alembic.ini`; `python` has its dependencies."""

    commit: str
    backend: Path
    python: Path


def resolve(root: Path, ref: str) -> str:
    """Return the commit that a branch, tag or commit names, 12 digits.

    Raises:
        StackError: it names none, or this is no Git checkout.
    """
    if ref.startswith("-"):
        raise StackError(f"{ref!r} is no commit, branch or tag.", "Look: git log --oneline")
    asked = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if asked.returncode:
        raise StackError(f"{ref!r} is no commit, branch or tag of {root}.", "Look: git log --oneline")
    return asked.stdout.decode().strip()[:_COMMIT_DIGITS]


def changed_files(root: Path) -> list[str]:
    """Return what differs from the last commit: a release must not depend on what nobody else has."""
    asked = _git(root, "status", "--porcelain", "--untracked-files=no")
    return [line[3:] for line in asked.stdout.decode("utf-8", "replace").splitlines()]


def diff(root: Path, before: str, after: str, *arguments: str) -> str | None:
    """Return what `git diff` says between two versions; None where it doesn't know one of them."""
    if before.startswith("-") or after.startswith("-"):
        return None
    options, paths = arguments[: arguments.index("--")], arguments[arguments.index("--") :]
    asked = _git(root, "diff", "--no-color", *options, before, after, *paths)
    return None if asked.returncode else asked.stdout.decode("utf-8", "replace")


def prepare(layout: Layout, commit: str, versions: Path) -> Version:
    """Lay out a commit and its dependencies; quick where that was done before.

    Args:
        layout: of the checkout that has the commit.
        commit: 12 digits.
        versions: folder of all versions.

    Raises:
        StackError: the commit isn't there, or its dependencies can't be installed.
    """
    home = versions / commit
    if not home.exists():
        unfinished = home.with_name(f"{commit}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        extract(layout.root, commit, unfinished)
        unfinished.rename(home)
    backend = home / "backend"
    return Version(commit, backend, _python(layout, home))


def revisions(version: Version) -> list[str]:
    """Return the schema revisions this version knows, newest first.

    Raises:
        StackError: its alembic can't tell.
    """
    # What was laid out never changes. A machine that lost its power may have left an empty file.
    kept = version.backend.with_name("revisions")
    if kept.exists() and (known := kept.read_text().split()):
        return known
    asked = subprocess.run(
        [str(version.python), "-m", "alembic", "history"],
        cwd=version.backend,
        env={**from_shell(), "PYTHONPATH": str(version.backend)},
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise StackError(f"The migrations of {version.commit} can't be listed:\n{asked.stderr.strip()[-2000:]}")
    found = listed(asked.stdout, version.commit)
    unfinished = kept.with_suffix(f".{os.getpid()}")
    # A full disk is no reason to say nothing.
    with suppress(OSError):
        unfinished.write_text("\n".join(found))
        unfinished.replace(kept)
    return found


def listed(history: str, commit: str) -> list[str]:
    """Return the revisions in what `alembic history` says, newest first.

    Raises:
        StackError: there are none.
    """
    # `older -> newer (head), text`; the first has `<base> ->`.
    found = re.findall(r"-> ([0-9a-f]{12})\b", history)
    if not found:
        raise StackError(f"Version {commit} has no migrations.", "Choose another one.")
    return found


def extract(root: Path, commit: str, target: Path, *further: str) -> None:
    """Lay out `backend/`, `monitoring/` and further paths of a commit in `target`, which isn't there yet.

    Raises:
        StackError: the commit isn't there, or lacks one of them.
    """
    archived = _git(root, "archive", "--format=tar", commit, "backend", "monitoring", *further)
    if archived.returncode:
        said = archived.stderr.decode("utf-8", "replace").strip()
        raise StackError(f"Commit {commit} can't be laid out: {said}", "Look: git log --oneline")
    target.mkdir(parents=True)
    _unpack(archived.stdout, target)
    if not (target / "backend" / "app").is_dir() or not (target / "backend" / "requirements.lock").exists():
        shutil.rmtree(target)
        raise StackError(f"Commit {commit} holds no backend/app with a requirements.lock.", "Choose another one.")


def _unpack(archive: bytes, target: Path) -> None:
    """Lay out a tar file, and nothing of it outside of `target`.

    Raises:
        StackError: the archive would reach out of it.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        try:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(target, filter="data")
            else:
                _extract_plain(tar, target)
        except tarfile.TarError as error:
            raise StackError(f"The commit can't be laid out: {error}", "Look: git ls-tree -r COMMIT") from error


def _extract_plain(tar: tarfile.TarFile, target: Path) -> None:
    """Do it without a filter, which Python has from 3.11.4 on and Debian 12 has not: files and folders, no links."""
    inside = target.resolve()
    for member in tar:
        if not (member.isfile() or member.isdir()) or not (inside / member.name).resolve().is_relative_to(inside):
            raise tarfile.TarError(f"{member.name} is neither a file nor a folder inside of it")
        tar.extract(member, target)


def _python(layout: Layout, home: Path) -> Path:
    """Return an interpreter with this version's dependencies: ours, where both are pinned alike."""
    lock = home / "backend" / "requirements.lock"
    if _digest(lock) == _digest(layout.backend / "requirements.lock"):
        return programs.python()
    environment = home.parent / f"venv-{_digest(lock)[:12]}"
    python = environment / "bin" / "python"
    if python.exists():
        return python
    unfinished = environment.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    uv = [str(programs.python()), "-m", "uv"]
    into = str(unfinished / "bin" / "python")
    for command in (
        [*uv, "venv", "--quiet", "--relocatable", "--python", str(programs.python()), str(unfinished)],
        [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", into, "--require-hashes", "-r", str(lock)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
        if done.returncode:
            raise StackError(f"The dependencies of {home.name} can't be installed:\n{done.stderr.strip()[-2000:]}")
    unfinished.rename(environment)
    return python


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)  # noqa: S607
    except OSError as error:
        raise StackError(f"git can't be run: {error}", "Install it: apt-get install git") from error
