"""The header that asks the service for the trail of a request, whichever way the request ends.

The same signature as app/telemetry/trail.py makes; tests/contracts/test_trail_token.py holds both together.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.stack import secret_store
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.settings import Settings

HEADER: Final = "X-Trail-Token"
# The service takes none that holds for longer.
MAX_MINUTES: Final = 24 * 60
_CONTEXT: Final = b"commandcenter trail"


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service answers, what it signs with, and whether it wants a token to let anyone in."""

    url: str
    secret_key: str
    is_guarded: bool


def trail_token(secret: str, expires_at: int) -> str:
    """Return a token that asks for the trail of a request, good until `expires_at` (seconds since 1970)."""
    key = hmac.new(secret.encode(), _CONTEXT, hashlib.sha256).digest()
    return f"{expires_at}.{hmac.new(key, str(expires_at).encode(), hashlib.sha256).hexdigest()}"


def _read(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"SECRET_KEY_FILE can't be read: {error}", f"Is {path} there, and yours to read?") from error


def find_service() -> Service:
    """Return the service that this checkout is about.

    Raises:
        StackError: nobody knows its SECRET_KEY, or its file can't be read. None is made: what is signed with it would
            be refused.
    """
    layout = Layout.from_environment()
    if layout.exists():
        settings = Settings.load(layout)
        host, values = settings.api_host, settings.values
    else:
        file = layout.root / ".env"
        values = {"API_HOST": "127.0.0.1", "API_PORT": "8000"}
        values |= secret_store.parse(file.read_text()) if file.exists() else {}
        values |= {name: value for name, value in os.environ.items() if value}
        host = values["API_HOST"]
    secret = values.get("SECRET_KEY", "") or _read(values.get("SECRET_KEY_FILE", ""))
    if not secret:
        raise StackError(
            "There is no SECRET_KEY to sign with.",
            "Set it, or SECRET_KEY_FILE, to the service's own in the environment, or start the stack (`make up`).",
        )
    return Service(f"http://{host}:{values['API_PORT']}", secret, bool(values.get("API_TOKEN")))
