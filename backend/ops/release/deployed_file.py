"""The block of `.env` that says which version is deployed; whatever else stands in that file is the operator's.

It stands last, and the last line of a name counts: a later `docker compose up -d` by hand runs what was released.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_HEAD: Final = "# --- Written by `commandcenter release`; what stands above counts for less"
_FOOT: Final = "# --- End of what `commandcenter release` wrote"
_BLOCK: Final = re.compile(rf"^{re.escape(_HEAD)}\n.*?^{re.escape(_FOOT)}\n?", re.DOTALL | re.MULTILINE)
_PRIVATE: Final = 0o600


def write(file: Path, deployed: Mapping[str, str]) -> None:
    """Write the block anew, in one step; the file keeps its mode, and is private where it was not there."""
    there = file.exists()
    mode = file.stat().st_mode & 0o777 if there else _PRIVATE
    rest = _BLOCK.sub("", file.read_text() if there else "")
    if rest and not rest.endswith("\n"):
        rest += "\n"
    lines = [_HEAD, *(f"{name}={value}" for name, value in deployed.items()), _FOOT]
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as out:
        out.write(rest + "\n".join(lines) + "\n")
    unfinished.chmod(mode)
    unfinished.replace(file)
