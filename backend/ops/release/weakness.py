"""What is wrong with a secret, in words that don't hold it.

At least what the service itself refuses in production (app/config.py); tests/contracts/test_weak_secrets.py holds both
together, for what runs here must be judged from outside.
"""

import math
import re
from collections import Counter
from typing import Final

SHORTEST: Final = 16
SHORTEST_KEY: Final = 32
_LEAST_ENTROPY_BITS: Final = 48.0
# In lower case, letters alone: `Change-Me_123` is none either.
_WELL_KNOWN: Final = frozenset(
    {
        "admin", "apitoken", "changeit", "changeme", "commandcenter", "default", "development", "example", "grafana",
        "insecure", "letmein", "password", "postgres", "promoperator", "qwerty", "redis", "secret", "secretkey", "test",
        "token", "yourapitoken", "yoursecretkey",
    }
)  # fmt: skip
# However they go on: `change-me-in-production`.
_PLACEHOLDERS: Final = ("changeme", "changethis", "replaceme", "replacethis")
_NOT_LETTER: Final = re.compile(r"[^a-z]")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]*")


def weakness(name: str, secret: str) -> str:
    """Return what is wrong with a secret, or nothing.

    Args:
        name: of its variable or its file: what signs and encrypts must be longer, what goes into a header is no word of
            any alphabet.
        secret: itself.
    """
    if not secret:
        return "missing"
    letters = _NOT_LETTER.sub("", secret.lower())
    if letters in _WELL_KNOWN or letters.startswith(_PLACEHOLDERS):
        return "well known"
    if len(secret) < (SHORTEST_KEY if name.lower() == "secret_key" else SHORTEST):
        return "too short"
    if name.lower().endswith("_token") and not _HEADER_VALUE.fullmatch(secret):
        return "not fit for a header"
    counts = Counter(secret)
    bits = -sum(count * math.log2(count / len(secret)) for count in counts.values())
    return "" if bits >= _LEAST_ENTROPY_BITS else "easy to guess"
