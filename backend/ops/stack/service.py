"""Where the service of this checkout answers, and what it was told.

By the settings of the native stack; where that was never up, as beside containers, by `.env` and the environment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.stack import secret_store
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.settings import Settings, reachable


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its address, and its settings by name."""

    url: str
    values: Mapping[str, str]

    def secret(self, name: str) -> str:
        """Return a secret, from the file that NAME_FILE names where it lies in one; empty where it isn't set.

        Raises:
            StackError: that file can't be read.
        """
        path = self.values.get(f"{name}_FILE")
        if self.values.get(name) or not path:
            return self.values.get(name, "")
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{name}_FILE can't be read: {error}", f"Is {path} there, and yours to read?") from error


def find() -> Service:
    """Return the service that this checkout is about.

    Raises:
        StackError: its settings make no sense.
    """
    layout = Layout.from_environment()
    if layout.exists():
        settings = Settings.load(layout)
        return Service(f"http://{settings.api_host}:{settings.port('API_PORT')}", settings.values)
    file = layout.root / ".env"
    values = {"API_HOST": "127.0.0.1", "API_PORT": "8000"}
    values |= secret_store.parse(file.read_text()) if file.exists() else {}
    values |= {name: value for name, value in os.environ.items() if value}
    return Service(f"http://{reachable(values['API_HOST'])}:{values['API_PORT']}", values)
