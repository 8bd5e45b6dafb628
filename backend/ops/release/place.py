"""Where releases lie: `releases/<ID>/` in the stack's data folder, one folder a release, and one lock for all."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from ops.release.journal import FILE, Journal
from ops.release.state import MIGRATE, START
from ops.stack.errors import StackError

_RESERVE: Final = "reserve"
# A journal, a lock, a deployment's notes, and the lines that services write when they start.
RESERVE_BYTES: Final = 8 * 1024**2
# The steps of `apply` by which what runs becomes another. Their `undo` counts too: a way back is gone once.
CHANGING: Final = frozenset({MIGRATE, START})


@dataclass(frozen=True, slots=True)
class Releases:
    """All releases of one stack.

    Args:
        data: the stack's data folder.
    """

    data: Path

    @property
    def folder(self) -> Path:
        """Where they all lie."""
        return self.data / "releases"

    @property
    def lock(self) -> Path:
        """Held by whoever changes anything."""
        return self.folder / "lock.json"

    def keep_reserve(self) -> None:
        """Keep some of the disk for a way back: a full one is a reason to go back, and every step is written down."""
        path = self.folder / _RESERVE
        if path.exists() or shutil.disk_usage(self.folder).free < 2 * RESERVE_BYTES:
            return
        unfinished = path.with_suffix(".new")
        # A hole in a file would keep nothing.
        unfinished.write_bytes(os.urandom(RESERVE_BYTES))
        unfinished.replace(path)

    def free_reserve(self) -> bool:
        """Give that back where the disk is full, and return whether it was."""
        path = self.folder / _RESERVE
        if not path.exists() or shutil.disk_usage(self.folder).free >= RESERVE_BYTES:
            return False
        path.unlink()
        return True

    def ids(self) -> list[str]:
        """Return the IDs of releases that have a journal, the one begun last at the end.

        Begun, not written to: whoever looks at the release in service writes into its journal while another is made.
        """
        found = {path.parent.name: _begun_at(path) for path in self.folder.glob(f"*/{FILE}")}
        return sorted(found, key=lambda release: (found[release], release))

    def of(self, release: str) -> Path:
        """Return the folder of a release, whether it is there or not."""
        return self.folder / release

    def journal(
        self,
        release: str | None = None,
        *,
        secrets: Iterable[str] = (),
        before_append: Callable[[], None] = lambda: None,
    ) -> Journal:
        """Open a release's journal; without an ID, that of the release that was begun last.

        Raises:
            StackError: there is no release yet; that isn't an ID; the journal can't be trusted.
        """
        if release is None:
            ids = self.ids()
            if not ids:
                raise StackError(
                    f"There is no release in {self.folder}.",
                    "Begin one with `commandcenter release baseline --release ID`.",
                )
            release = ids[-1]
        return Journal(self.of(release), release, secrets=secrets, before_append=before_append)

    def at_stake(self) -> str | None:
        """Return the release that changed what runs last, or began to: whatever was begun for another one since.

        None where no release ever changed anything.
        """
        touched = {
            journal.release: entry.moment
            for journal in self.journals()
            for entry in journal.entries
            if entry.step in CHANGING and entry.kind not in {"verdict", "approval"}
        }
        return max(touched, key=lambda release: touched[release]) if touched else None

    def journals(self) -> list[Journal]:
        """Open the journals of all releases, the one begun last at the end."""
        return [self.journal(release) for release in self.ids()]


def _begun_at(path: Path) -> str:
    """Return when a journal's first line was written, as it says so itself; nothing where it can't be read."""
    with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
        return str(orjson.loads(file.readline())["at"])
    return ""


def new_id(commit: str, now: datetime | None = None) -> str:
    """Return an ID for a release made now: its time (UTC, to the millisecond), and the commit it brings."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z-{commit}"
