"""A release's journal: what was intended, done, failed, taken back, judged, approved; by whom, when, on which grounds.

JSON lines, each flushed to disk before anything else happens, each bearing the hash of the one before. What the release
is at follows from the journal alone (`fold`); an `intent` without an end says: ask reality. Never holds a secret.
"""

import fcntl
import getpass
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson

from ops.release import scrubbing
from ops.release.state import Entry, Kind, State, digest, encoded, fold
from ops.stack.errors import StackError

FILE: Final = "journal.jsonl"
_HASH_MARK: Final = b',"hash":"'
_RELEASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def operator() -> str:
    """Return who works here, as `user@host`; behind sudo, the person and not root."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


class Journal:
    """The journal of one release, one file in the release's folder.

    Args:
        folder: the release's; made if need be, for us alone.
        release: its ID: letters, digits, `.`, `_`, `-`.
        secrets: those in use, so that none is ever written, whatever it looks like.
        before_append: called before each line is written, and may raise: a lock that was lost, for one.
        clock: tells the time.

    Raises:
        StackError: a line is not what was written, or not of this release; that isn't an ID.
    """

    def __init__(
        self,
        folder: Path,
        release: str,
        *,
        secrets: Iterable[str] = (),
        before_append: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not _RELEASE.fullmatch(release):
            raise StackError(
                "That is no release ID.", "1 to 63 letters, digits, `.`, `_`, `-`; a letter or digit first."
            )
        self.path = folder / FILE
        self.release = release
        self._secrets = tuple(secrets)
        self._before_append = before_append
        self._clock = clock
        self.entries: tuple[Entry, ...] = ()
        self.torn = b""
        if self.path.exists():
            self.entries, self.torn = read(self.path.read_bytes(), release, self.path)

    @property
    def head(self) -> str:
        """The last line's hash: whoever keeps it elsewhere can tell that nothing was cut off the end."""
        return self.entries[-1].hash if self.entries else _origin(self.release)

    def state(self) -> State:
        """Return what the release is at."""
        return fold(self.entries)

    def masked(self, text: str) -> str:
        """Return a text that may quote anything so that it may be written: a reason, an error."""
        return scrubbing.scrubbed(text, self._secrets)

    def append(self, kind: Kind, step: str, *, inputs: Any = None, evidence: Mapping[str, Any] | None = None) -> Entry:
        """Write one line, and return once it is on the disk.

        A line that a crash left half written is kept in a file beside the journal, cut off, and that is written down.

        Args:
            kind: what it is.
            step: of which step, or of which gate.
            inputs: what the step works from (JSON); only its hash is written.
            evidence: JSON: figures, paths, versions.

        Raises:
            SecretRefused: something looks like a secret; nothing is written.
            StackError: the journal on disk is not what was written, or can't be written: a full disk.
        """
        for name, value in (("step", step), ("inputs", inputs), ("evidence", evidence)):
            scrubbing.refuse(value, self._secrets, name)
        self._before_append()
        try:
            with self._locked() as file:
                # Somebody else may have written since we read.
                self.entries, self.torn = read(file.read(), self.release, self.path)
                if self.torn:
                    self._cut(file)
                return self._write(file, kind, step, digest(inputs), evidence or {})
        except OSError as error:
            raise StackError(
                f"The journal {self.path} can't be written: {error.strerror or error}.",
                "Make room, or give back the right to write; then run the same again: it goes on where it was.",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_new:
                _flush_folder(folder)
            yield file

    def _cut(self, file: IO[bytes]) -> None:
        kept = self.path.with_name(f"{FILE}.torn-after-{len(self.entries)}")
        with kept.open("wb") as copy:
            copy.write(self.torn)
            copy.flush()
            os.fsync(copy.fileno())
        file.truncate(file.seek(0, os.SEEK_END) - len(self.torn))
        evidence = {"torn_bytes": len(self.torn), "kept_in": kept.name}
        self.torn = b""
        self._write(file, "verdict", "journal", "", evidence)

    def _write(self, file: IO[bytes], kind: Kind, step: str, inputs: str, evidence: Mapping[str, Any]) -> Entry:
        body = encoded(
            {
                "number": len(self.entries) + 1,
                "release": self.release,
                "at": self._clock().isoformat(timespec="milliseconds"),
                "who": operator(),
                "kind": kind,
                "step": step,
                "inputs": inputs,
                "evidence": evidence,
                "before": self.head,
            }
        ).removesuffix(b"}")
        line = body + _HASH_MARK + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
        file.seek(0, os.SEEK_END)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        entry = _entry(line[:-1])
        self.entries = (*self.entries, entry)
        return entry


def read(content: bytes, release: str, path: Path = Path(FILE)) -> tuple[tuple[Entry, ...], bytes]:
    """Return the entries of a journal's content, and what a crash left half written behind them.

    Raises:
        StackError: a whole line is not what was written: its place is said, nothing is repaired.
    """
    *lines, torn = content.split(b"\n")
    entries: list[Entry] = []
    before = _origin(release)
    for number, line in enumerate(lines, 1):
        try:
            entry = _entry(line)
        except (ValueError, TypeError, KeyError):
            raise _broken(path, number, "was changed after it was written") from None
        if entry.before != before or entry.number != number or entry.release != release:
            raise _broken(path, number, "does not follow on the one before it")
        entries.append(entry)
        before = entry.hash
    return tuple(entries), torn


def _entry(line: bytes) -> Entry:
    body, mark, rest = line.rpartition(_HASH_MARK)
    expected = hashlib.sha256(body).hexdigest()
    if not mark or rest != expected.encode() + b'"}':
        raise ValueError("not the hash of this line")
    return Entry(**orjson.loads(line))


def _origin(release: str) -> str:
    """Return what the first line follows on: no journal of another release fits."""
    return hashlib.sha256(f"commandcenter release {release}".encode()).hexdigest()


def _broken(path: Path, number: int, what: str) -> StackError:
    return StackError(
        f"The journal can't be trusted: line {number} of {path} {what}.",
        "Nothing was written. Compare with a backup of this folder; never edit a journal. What is true now, "
        "ask the system itself: `commandcenter status`, `commandcenter release verify`.",
    )


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
