"""The secrets of a production host, a file each, as `ops.containers.secret_files` makes them: read, never written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ops.stack.errors import StackError

_PLAIN: Final = (
    "postgres_password", "secret_key", "api_token", "metrics_token", "exporter_password", "grafana_admin_password",
)  # fmt: skip
_URLS: Final = ("database_url", "redis_url")
# Redis's side of its password: a line of its configuration.
_REDIS: Final = "redis_auth"
_DIRECTIVE: Final = "requirepass"
# A list, empty on most hosts: what any of these keys encrypted is still trusted.
_FORMER_KEYS: Final = "secret_key_fallbacks"


@dataclass(frozen=True, slots=True)
class SecretFolder:
    """The folder that Compose mounts files from."""

    folder: Path

    def text(self, name: str) -> str:
        """Return what a file holds; empty where there is none.

        Raises:
            StackError: it is no text.
        """
        file = self.folder / name
        return _read(file) if file.is_file() else ""

    def wanted(self) -> dict[str, str]:
        """Return all secrets that docker-compose.prod.yml mounts, by file; of a file that is more, its secret part.

        Empty where one is missing. Former keys stand one by one, and only where there are any: the file may be empty.
        """
        found = {name: self.text(name) for name in _PLAIN}
        found |= {name: unquote(urlsplit(self.text(name)).password or "") for name in _URLS}
        return found | {_REDIS: self._redis_password()} | self._former_keys()

    def _redis_password(self) -> str:
        lines = (line.split(maxsplit=1) for line in self.text(_REDIS).splitlines())
        said = [line[1] for line in lines if len(line) > 1 and line[0].lower() == _DIRECTIVE]
        # Redis goes by the last one, and takes it in quotes too.
        return said[-1].strip("\"'") if said else ""

    def _former_keys(self) -> dict[str, str]:
        if not (self.folder / _FORMER_KEYS).is_file():
            return {_FORMER_KEYS: ""}
        keys = [key for part in self.text(_FORMER_KEYS).split(",") if (key := part.strip())]
        return {f"{_FORMER_KEYS}, key {number}": key for number, key in enumerate(keys, 1)}

    def all_parts(self) -> list[str]:
        """Return what must not be written anywhere: each file's text, and what in it is secret by itself."""
        if not self.folder.is_dir():
            return []
        held = [_read(file) for file in self.folder.iterdir() if file.is_file()]
        return sorted({part for text in held for part in _parts(text) if part})


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except UnicodeDecodeError:
        # Its message holds a byte of it.
        raise StackError(f"{file} is no text.", "Make it anew: docs/production.md, Change a password") from None


def _parts(text: str) -> list[str]:
    """Return a file's text, and what in it is secret by itself: a URL's password, each word, each of a list."""
    password = urlsplit(text).password if "://" in text else None
    return [text, *text.split(), *text.split(","), password or "", unquote(password or "")]
