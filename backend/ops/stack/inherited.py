"""What a part of the stack gets of the shell that started it: where programs, homes and certificates are, no more.

Libraries believe variables of their own before what they are told: CELERY_BROKER_URL, PGHOSTADDR, DATA_SOURCE_NAME. One
that is left in a shell would lead a part to somebody else's system, and a daemon keeps it long after.
"""

import os
from collections.abc import Mapping
from typing import Final

_KEPT: Final = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "SSH_AUTH_SOCK",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER",
    }
)  # fmt: skip


def from_shell(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that are handed on, of this process unless others are given."""
    given = os.environ if environment is None else environment
    return {name: value for name, value in given.items() if name in _KEPT or name.startswith("LC_")}
