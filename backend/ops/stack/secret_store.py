"""Secrets of a stack: made once, kept in one private file, never printed."""

import os
import secrets
from pathlib import Path
from typing import Final

# POSTGRES_PASSWORD is the superuser's.
GENERATED: Final = ("POSTGRES_PASSWORD", "DB_PASSWORD", "EXPORTER_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY")
# In development these would only be in the way of `curl`; production doesn't start without them.
_GENERATED_IN_PRODUCTION: Final = ("API_TOKEN", "METRICS_TOKEN")

_PRIVATE: Final = 0o600


def parse(text: str) -> dict[str, str]:
    """Return the settings of an environment file: `NAME=value` lines, optional quotes, `#` comments, empty = unset."""
    found = {}
    for raw in text.splitlines():
        line = raw.strip().removeprefix("export ")
        name, separator, value = line.partition("=")
        if line.startswith("#") or not separator:
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.partition(" #")[0].rstrip()
        if value:
            found[name.strip()] = value
    return found


def write_private(path: Path, text: str) -> bool:
    """Write a file that only we can read, in one step; return whether its contents changed."""
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == _PRIVATE:
        return False
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        file.write(text)
    unfinished.replace(path)
    return True


def load_or_make(path: Path, *, production: bool) -> dict[str, str]:
    """Return the secrets in this file, after adding those it lacks."""
    held = parse(path.read_text()) if path.exists() else {}
    wanted = GENERATED + (_GENERATED_IN_PRODUCTION if production else ())
    missing = {name: secrets.token_urlsafe(32) for name in wanted if name not in held}
    if missing or not path.exists():
        held |= missing
        lines = ["# Made by CommandCenter for this machine alone. Not for copying, not for committing."]
        lines += [f"{name}={value}" for name, value in held.items()]
        write_private(path, "\n".join(lines) + "\n")
    return held
