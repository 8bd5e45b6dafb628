"""The header that asks the service for the trail of a request, whichever way the request ends.

The same signature as app/telemetry/trail.py makes; tests/contracts/test_trail_token.py holds both together.
"""

import hashlib
import hmac
from typing import Final

from ops.stack.errors import StackError
from ops.stack.service import Service

HEADER: Final = "X-Trail-Token"
# The service takes none that holds for longer.
MAX_MINUTES: Final = 24 * 60
_CONTEXT: Final = b"commandcenter trail"


def trail_token(secret: str, expires_at: int) -> str:
    """Return a token that asks for the trail of a request, good until `expires_at` (seconds since 1970)."""
    key = hmac.new(secret.encode(), _CONTEXT, hashlib.sha256).digest()
    return f"{expires_at}.{hmac.new(key, str(expires_at).encode(), hashlib.sha256).hexdigest()}"


def secret_of(service: Service) -> str:
    """Return what a service signs with.

    Raises:
        StackError: nobody knows its SECRET_KEY, or its file can't be read. None is made: what is signed with it would
            be refused.
    """
    secret = service.secret("SECRET_KEY")
    if not secret:
        raise StackError(
            "There is no SECRET_KEY to sign with.",
            "Set it, or SECRET_KEY_FILE, to the service's own in the environment, or start the stack (`make up`).",
        )
    return secret
