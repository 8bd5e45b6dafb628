"""The clone on disk: one bare repository with one branch, its lock, and what was computed from it.

Beside the clone `<directory>` lie `<directory>.lock`, held while anybody works on it, and for a while
`<directory>.partial`, which becomes the clone by one rename. So a clone is there whole or not at all.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.repositories.git_error import GitError
from app.repositories.git_process import Git
from app.repositories.git_statistics import Statistics

# The remote's default branch, whatever its name: one name of ours, so that no renaming can be in its own way.
BRANCH: Final = "refs/heads/synced"

_SUMMARY_NAME: Final = "commandcenter.json"
_SUMMARY_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Summary:
    """What the last sync found: the default branch, its statistics (None: no commits), the clone's size."""

    branch: str | None
    statistics: Statistics | None
    size_bytes: int

    @property
    def sha(self) -> str | None:
        """The commit that the statistics are of."""
        return self.statistics.commit_sha if self.statistics else None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Hold the clone's lock, and yield its file descriptor. The lock is gone when nobody has the descriptor open.

    Raises:
        GitError: another process holds it; retryable.
    """
    descriptor = _acquire(_beside(directory, ".lock"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return a descriptor of the file at `path`, locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.ExitStack() as undo:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GitError("Another sync of this repository is running.", retryable=True) from None
            # `remove` may have deleted the file between opening and locking: then the lock is nobody's.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    undo.pop_all()
                    return descriptor


def remove(directory: Path) -> None:
    """Delete the clone and what lies beside it.

    Raises:
        GitError: a sync of it is running; retryable.
    """
    with locked(directory):
        sweep(directory)
        delete(directory)
        _beside(directory, ".lock").unlink(missing_ok=True)


def delete(directory: Path) -> None:
    """Delete the clone; its lock is held and stays."""
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)


def create(git: Git, directory: Path, *, sha256: bool) -> Path:
    """Return a fresh, empty bare repository beside `directory`, for `install`."""
    partial = _beside(directory, ".partial")
    object_format = "sha256" if sha256 else "sha1"
    # An empty template: no sample hooks, nothing of the machine's.
    git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", "--", str(partial))
    (partial / "HEAD").write_text(f"ref: {BRANCH}\n", encoding="ascii")
    return partial


def install(partial: Path, directory: Path) -> None:
    """Make the finished `partial` the clone, in place of the one that is there."""
    delete(directory)
    partial.rename(directory)


def sweep(directory: Path) -> None:
    """Remove what a killed git left in the clone; while the lock is held no other git can own it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_beside(directory, ".partial"))
    for pattern in ("*.lock", "refs/**/*.lock", "objects/info/**/*.lock", "objects/pack/tmp_*", "objects/tmp_*"):
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def load(directory: Path) -> Summary | None:
    """Return what the last sync of this clone found; None where that cannot be read."""
    try:
        content = json.loads((directory / _SUMMARY_NAME).read_bytes())
        if content["version"] != _SUMMARY_VERSION:
            return None
        statistics = content["statistics"]
        return Summary(content["branch"], Statistics(**statistics) if statistics else None, content["size_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(directory: Path, summary: Summary) -> None:
    """Keep what this sync found, for the next one."""
    content = {
        "version": _SUMMARY_VERSION,
        "branch": summary.branch,
        "statistics": summary.statistics.to_json() if summary.statistics else None,
        "size_bytes": summary.size_bytes,
    }
    temporary = directory / f"{_SUMMARY_NAME}.tmp"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(directory / _SUMMARY_NAME)


def _beside(directory: Path, suffix: str) -> Path:
    return directory.with_name(directory.name + suffix)
