"""What of our own code a native stack runs: a release, with what a rollback switched; else the checkout itself.

Written by `commandcenter release`, respected by `up`: a machine that is started again runs what was released, not what
happens to be checked out.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ops.stack import programs
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.secret_store import write_private


@dataclass(frozen=True)
class Deployment:
    """Code to run, and how.

    Args:
        commit: of the code, 12 digits; `unknown` outside of a Git checkout.
        backend: the folder that holds `app` and `alembic.ini`.
        python: the interpreter that has its dependencies.
        switches: settings that go before all others.
        stopped: parts that are not to run.
        is_release: whether a release put it there.
    """

    commit: str
    backend: Path
    python: Path
    switches: Mapping[str, str] = field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    is_release: bool = True

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Self:
        """Return what `as_json` gave; notes of the stack don't say that they are of a release."""
        return cls(
            commit=held["commit"],
            backend=Path(held["backend"]),
            python=Path(held["python"]),
            switches=held["switches"],
            stopped=tuple(held["stopped"]),
            is_release=held.get("is_release", True),
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        paths = {"backend": str(self.backend), "python": str(self.python)}
        return asdict(self) | paths | {"switches": dict(self.switches), "stopped": list(self.stopped)}


def load(layout: Layout) -> Deployment:
    """Return what this stack is to run.

    Raises:
        StackError: the note of it can't be read, or its code is gone.
    """
    try:
        found = Deployment.of(json.loads(_file(layout).read_text()))
    except FileNotFoundError:
        return Deployment(commit_of(layout.root), layout.backend, programs.python(), is_release=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{_file(layout)} can't be read: {error}",
            "Delete it to run the checkout itself; `commandcenter release apply` writes a new one.",
        ) from error
    if not (found.backend / "app").is_dir() or not found.python.exists():
        raise StackError(
            f"Release {found.commit} is deployed, but its code in {found.backend} is gone.",
            f"Apply a release again, or delete {_file(layout)} to run the checkout itself.",
        )
    return found


def save(layout: Layout, deployment: Deployment) -> None:
    """Note what this stack is to run from now on."""
    held = deployment.as_json()
    del held["is_release"]
    write_private(_file(layout), json.dumps(held, indent=2) + "\n")


def forget(layout: Layout) -> None:
    """Run the checkout itself again."""
    _file(layout).unlink(missing_ok=True)


def commit_of(root: Path) -> str:
    """Return the checked-out commit, 12 digits; `unknown` where there is none."""
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - the user's own git.
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"


def _file(layout: Layout) -> Path:
    return layout.data / "deployment.json"
