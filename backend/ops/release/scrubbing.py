"""Keeps secrets out of what a release writes down.

`refuse` is the gate that the journal stands behind; `scrubbed` is for free text, such as what a program said when it
failed, which must be written down and may quote anything.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ops.stack.errors import StackError

MASK: Final = "[scrubbed]"
# A shorter one would be found in innocent words.
_SHORTEST_KNOWN_SECRET: Final = 8

_SECRET_KEY: Final = re.compile(
    r"(?i)(?:^|[^a-z])(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|secret[_-]?key|private[_-]?key|"
    r"authorization|cookie|credential|verifier|dsn)s?$"
)
# Each with what stays; the rest of the match is the secret.
_PATTERNS: Final = (
    # user:password@ in any URL or DSN.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@:'\"]*:[^\s/@'\"]+@"), rf"\1{MASK}@"),
    (
        re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(['\"]?\s*[:=]\s*b?['\"]?)[^\r\n'\"]+"),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,}"), rf"\1 {MASK}"),
    # password=x, access_token: "x", PGPASSWORD=x, --password x, PASSWORD 'x' in SQL.
    (
        re.compile(
            # What stands before the name stays, so nothing looks for it: that took the square of a long text's length.
            r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|secret[_-]?key)s?)"
            r"(['\"]?\s*(?:=>|[:=])\s*b?)(?!\[scrubbed\])(?:\"[^\"\r\n]+\"?|'[^'\r\n]+'?|[^\s,;&'\")}\]]+)"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)(--[a-z-]{0,40}(?:password|secret|token|key))(\s+)(?!\[scrubbed\])[^\s-]\S*"), rf"\1\2{MASK}"),
    (re.compile(r"(?i)\b(password\s+)'[^'\r\n]+'"), rf"\1{MASK}"),
    # Secrets that name themselves.
    (re.compile(r"\bSCRAM-SHA-256\$[^\s'\"]+"), MASK),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}|glpat-[A-Za-z0-9_-]{10,})"), MASK),
    (re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"), MASK),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"), MASK),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"), MASK),
    # As our own are made: 32 random bytes in base64. Digests are hexadecimal and have no capitals.
    (
        re.compile(r"(?<![\w/+-])(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])(?=[\w+-]*\d)[A-Za-z0-9_+-]{40,}={0,2}(?![\w/])"),
        MASK,
    ),
)  # fmt: skip


class SecretRefused(StackError):  # noqa: N818 - says what happened, as the journal's other words do.
    """Something that looks like a secret was about to be written down. The message says where, never what."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"Not written down: {place}: {why}.", "Say it in other words, or mask it.")


def scrubbed(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` with everything masked that looks like a secret, or is one of the known ones."""
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST_KNOWN_SECRET:
            text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def refuse(value: Any, known: Iterable[str] = (), place: str = "") -> None:
    """Do nothing if `value` (JSON, as deep as it goes) holds no secret.

    Args:
        value: what is about to be written.
        known: secrets that are in use, whatever they look like; those under 8 characters are not looked for.
        place: where `value` stands, for the message.

    Raises:
        SecretRefused: a key names a secret and has a value, or a text looks like one.
    """
    known = tuple(known)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{place}.{scrubbed(str(key), known)}".lstrip(".")
            refuse(str(key), known, f"a key of {place or 'the record'}")
            # That there is a password may be told, that there is none, and how many: a table may be called so.
            if _SECRET_KEY.search(str(key)) and inner not in (None, "", MASK) and not _is_figure(inner):
                raise SecretRefused(here, "its name says that it is a secret")
            refuse(inner, known, here)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, inner in enumerate(value):
            refuse(inner, known, f"{place}[{number}]")
    elif isinstance(value, bytes):
        refuse(value.decode("utf-8", "replace"), known, place)
    elif value is not None and not isinstance(value, (bool, int, float)):
        text = str(value)
        if scrubbed(text, known) != text:
            raise SecretRefused(place or "a text", "it looks like a secret, or like a text that quotes one")


def _is_figure(value: Any) -> bool:
    return isinstance(value, (bool, int, float))
