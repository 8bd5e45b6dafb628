"""Where the native stack keeps its data, seen from outside."""

import os
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).resolve().parents[3]


def checkout() -> Path | None:
    """Return the root of the Git checkout that this code runs from; None where it is installed elsewhere."""
    return _CHECKOUT if (_CHECKOUT / ".git").exists() and (_CHECKOUT / "backend" / "ops").is_dir() else None


def data_folder() -> Path:
    """Return the stack's data folder: COMMANDCENTER_DATA, or `.commandcenter` in the checkout or working folder."""
    named = os.environ.get("COMMANDCENTER_DATA")
    return Path(named) if named else (checkout() or Path.cwd()) / ".commandcenter"


def log_folder() -> Path:
    """Return where the stack's services log to."""
    return data_folder() / "log"
