"""`python3 backend/ops/containers/secret_files.py`: the secrets of a production host, a file each.

Makes those that are missing and says which; never shows one, never changes one unasked. The folder is closed to
everybody but its owner, the files in it are readable: containers run under users of their own, and get their files by
mounts that pass the folder by. Standard library only, for a host that has nothing but Python and containers.
"""

import argparse
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_FOLDER: Final = 0o700
_FILE: Final = 0o444
_DATABASE: Final = "postgresql://commandcenter:{}@postgres:5432/commandcenter"
# What Redis's configuration would want quotes and backslashes for.
_QUOTED: Final = re.compile(r"[\s\"'\\]")
_REDIS: Final = "redis://:{}@redis:6379/0"


class HalfError(ValueError):
    """What is missing can't be made of what is there."""


def _one(name: str) -> Callable[[Mapping[str, str]], dict[str, str]]:
    return lambda _: {name: _new()}


def _database(_: Mapping[str, str]) -> dict[str, str]:
    return {"database_url": _DATABASE.format(_new())}


def _redis(held: Mapping[str, str]) -> dict[str, str]:
    """The server's side is a line of its configuration: it takes no password from a file otherwise."""
    password = _new()
    if "redis_url" in held:
        password = unquote(urlsplit(held["redis_url"]).password or "")
    elif "redis_auth" in held:
        lines = (line.split(maxsplit=1) for line in held["redis_auth"].splitlines())
        said = [line[1].strip().strip("\"'") for line in lines if len(line) > 1 and line[0].lower() == "requirepass"]
        # Redis goes by the last one.
        password = said[-1] if said else ""
    if not password or _QUOTED.search(password):
        half = "redis_url" if "redis_url" in held else "redis_auth"
        raise HalfError(f"{half} holds no password that its other half could have, too: --renew redis makes both anew")
    return {"redis_auth": f"requirepass {password}", "redis_url": _REDIS.format(quote(password, safe=""))}


def _secret_key(_: Mapping[str, str]) -> dict[str, str]:
    return {"secret_key": _new(), "secret_key_fallbacks": ""}


def _next_secret_key(held: Mapping[str, str]) -> dict[str, str]:
    """A former key still decrypts, until every repository was synced."""
    former = [key for key in (held.get("secret_key", ""), held.get("secret_key_fallbacks", "")) if key]
    return {"secret_key": _new(), "secret_key_fallbacks": ",".join(former)}


def _new() -> str:
    return secrets.token_urlsafe(32)


# What is made together, by the name under which it is renewed: of those files of it that are there.
_MAKERS: Final[Mapping[str, Callable[[Mapping[str, str]], dict[str, str]]]] = {
    "postgres_password": _one("postgres_password"),
    "database_url": _database,
    "redis": _redis,
    "secret_key": _secret_key,
    "api_token": _one("api_token"),
    "metrics_token": _one("metrics_token"),
    "exporter_password": _one("exporter_password"),
    "grafana_admin_password": _one("grafana_admin_password"),
}
# Every file, and what it is made with.
FILES: Final = {file: name for name, make in _MAKERS.items() for file in make({})}
# These two lie in their servers' data too, and are not changed by a new file.
RENEWABLE: Final = tuple(name for name in _MAKERS if name not in {"postgres_password", "grafana_admin_password"})


def ensure(folder: Path, renew: str | None = None) -> list[str]:
    """Make the missing files, and those of `renew` anew; return the names of the files written.

    Raises:
        HalfError: one can't be made of its other half; all others are.
    """
    folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    folder.chmod(_FOLDER)
    held = {file.name: file.read_text().strip() for file in folder.iterdir() if file.is_file()}
    written: list[str] = []
    halves: list[str] = []
    for name, make in _MAKERS.items():
        files = [file for file, maker in FILES.items() if maker == name]
        wanted = files if name == renew else [file for file in files if file not in held]
        if not wanted:
            continue
        try:
            made = _renewed(name, held) if name == renew else make(held)
        except HalfError as error:
            halves.append(str(error))
            continue
        for file in wanted:
            _write(folder / file, f"{made[file]}\n")
            written.append(file)
    if halves:
        raise HalfError("; ".join(halves))
    return written


def _renewed(name: str, held: Mapping[str, str]) -> dict[str, str]:
    return _next_secret_key(held) if name == "secret_key" else _MAKERS[name]({})


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE), "w") as file:
        file.write(text)
    unfinished.chmod(_FILE)
    unfinished.replace(path)


def main(arguments: list[str]) -> int:
    """Read the command line, do it and say what was done."""
    parser = argparse.ArgumentParser(description="Make the secrets that docker-compose.prod.yml mounts.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("secrets"), help="where they lie (secrets)")
    parser.add_argument("--renew", choices=RENEWABLE, help="make this one anew; docs/production.md says what then")
    wanted = parser.parse_args(arguments)
    try:
        written = ensure(wanted.folder, wanted.renew)
    except HalfError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print("\n".join(f"made {wanted.folder / name}" for name in written) or "All are there.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
