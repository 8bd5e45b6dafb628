"""The secrets of a production host, a file each, as `ops.containers.secret_files` makes them: read, never written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_PLAIN: Final = ("postgres_password", "secret_key", "api_token", "metrics_token", "exporter_password")
_URLS: Final = ("database_url", "redis_url")


@dataclass(frozen=True, slots=True)
class SecretFolder:
    """The folder that Compose mounts files from."""

    folder: Path

    def text(self, name: str) -> str:
        """Return what a file holds; empty where there is none."""
        file = self.folder / name
        return file.read_text().strip() if file.is_file() else ""

    def wanted(self) -> dict[str, str]:
        """Return the secrets the file mounts, without their addresses."""
        found = {name: self.text(name) for name in _PLAIN}
        return found | {name: unquote(urlsplit(self.text(name)).password or "") for name in _URLS}

    def all_parts(self) -> list[str]:
        """Return what must not be written anywhere: each file's text, and what in it is secret by itself."""
        if not self.folder.is_dir():
            return []
        held = [file.read_text().strip() for file in self.folder.iterdir() if file.is_file()]
        return sorted({part for text in held for part in _parts(text) if part})


def _parts(text: str) -> list[str]:
    """Return a file's text, and what in it is secret by itself: a URL's password, each word, each of a list."""
    password = urlsplit(text).password if "://" in text else None
    return [text, *text.split(), *text.split(","), password or "", unquote(password or "")]
