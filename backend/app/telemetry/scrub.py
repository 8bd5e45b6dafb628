"""Takes secrets out of free text before it reaches a log."""

import re
from collections.abc import Iterable
from typing import Any, Final

MASK: Final = "[scrubbed]"

_rules: list[tuple[re.Pattern[str], str]] = [
    # user:password@ in any URL or DSN, and on the web a token alone where a user would stand.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@:'\"]*:[^\s/'\"]*@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(https?://)[^\s/@:'\"]+@"), rf"\1{MASK}@"),
    # Slack's, whose path is the secret.
    (re.compile(r"(?i)(://hooks\.slack\.com/(?:services|workflows)/)[\w/]+"), rf"\1{MASK}"),
    # Authorization: Bearer x, 'authorization': 'Basic x', cookie=x: to the end of the line or of the quotes.
    (
        re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(['\"]?\s*[:=,]\s*b?['\"]?)[^\r\n'\"]+"),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {MASK}"),
    # PWD={x;y} in a DSN of ODBC: what stands in braces may hold anything, and a brace as two.
    (re.compile(r"(?i)((?:password|pwd)\s{0,9}=\s{0,9})\{(?:[^}\r\n]|\}\})*\}?"), rf"\1{MASK}"),
    # password=x, Pwd=x, access_token: "x", "api_key": "x".
    (
        re.compile(
            r"(?i)((?:password|passwd|passphrase|pwd|secret|token|credential|(?:api|access|private|secret|encryption)[_-]?key)s?)"
            r"((?:\\{0,3}['\"])?\s{0,9}(?:=>|[:=])\s{0,9}b?|['\"],\s{0,9}b?(?=['\"]))(?!\[scrubbed\])"
            r"(?:\\{1,3}\"[^\"\\\r\n]*(?:\\{1,3}\")?|\"[^\"\r\n]*\"?|'[^'\r\n]*'?|[^\s,;&'\")}\]]+)"
        ),
        rf"\1\2{MASK}",
    ),
    # --password x, and PASSWORD 'x' in SQL.
    (
        re.compile(
            r"(?i)(--[a-z-]{0,40}(?:password|passwd|passphrase|pwd|secret|token|key)(?:\s{1,9}|['\"],\s{0,9}['\"]))(?!\[scrubbed\])[^\s'\"-][^\s'\"]*"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(password\s+)'[^'\r\n]+'"), rf"\1{MASK}"),
    # Its lines may stand there as they are, or as JSON shows them.
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"), MASK),
    # What names itself: PostgreSQL's verifiers; tokens of AWS, Stripe, GitHub, GitLab, Slack; JSON web tokens.
    (re.compile(r"\bSCRAM-SHA-256\$[^\s'\"]+"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"\b[rs]k_live_[A-Za-z0-9]{10,}"), MASK),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}|glpat-[A-Za-z0-9_-]{10,})"), MASK),
    (re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"), MASK),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"), MASK),
    # PostgreSQL tells the values of a violated key, and of a whole row; it and the drivers what they could not read.
    (
        re.compile(
            r"(?i)(\binvalid input (?:for query argument \$\d+|syntax for [\w ]{1,60}|value for [^:\n]{1,90}): )[^\n]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(\[parameters: )[^\n]+"), rf"\1{MASK}]"),
    (
        re.compile(r"(?i)(\bKey \([^()]{0,200}(?:\([^()]{0,200}\)[^()]{0,200}){0,5}\)=)\(.{0,1000}?\)(?=\s|\.|$)"),
        rf"\1({MASK})",
    ),
    (re.compile(r"(?i)(\bFailing row contains )\(.*"), rf"\1({MASK})"),
    # E-mail addresses; not the user of an ssh URL.
    (re.compile(r"(?<![\w.+/-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), MASK),
]

_has_own_patterns = False

# Cheap test first: a text with none of these, in lower case, needs no rule; nor one without the exact ones, as it is.
_HINTS: Final = (
    "://", "authorization", "cookie", "bearer", "basic", "pass", "pwd", "dsn", "secret", "token", "key",
    "glpat-", "xox", "failing row", "@", "k_live_", "credential", "invalid input", "[parameters: ",
)  # fmt: skip
# Found faster: most of a line is in lower case, and of a long one's places most are passed over.
_EXACT_HINTS: Final = ("eyJ", "AKIA", "ASIA", "SCRAM-SHA-256$", "github_pat_")
_HINTS_BYTES: Final = tuple(hint.encode() for hint in _HINTS)
_EXACT_HINTS_BYTES: Final = tuple(hint.encode() for hint in _EXACT_HINTS)
_GITHUB: Final = re.compile("gh[pousr]_")
_GITHUB_BYTES: Final = re.compile(b"gh[pousr]_")

# Keys whose values are secrets whatever they look like. Each word has a hint above: no line is looked at without one.
_SECRET_KEY: Final = re.compile(
    r"(?i)(?:^|[_-])(?:password|passwd|passphrase|pwd|secret|token|authorization|cookie|credential|dsn|"
    r"(?:api|access|private|secret|encryption)[_-]?key)s?$"
)


def may_hold_secret(line: bytes) -> bool:
    """Tell whether any rule could apply to a rendered line."""
    if _has_own_patterns:
        return True
    lower = line.lower()
    for hint in _HINTS_BYTES:
        if hint in lower:
            return True
    for hint in _EXACT_HINTS_BYTES:
        if hint in line:
            return True
    return _GITHUB_BYTES.search(line) is not None


def scrub(text: str) -> str:
    """Return `text` with what looks like a secret masked."""
    if not _has_own_patterns and not _has_hint(text):
        return text
    for pattern, replacement in _rules:
        text = pattern.sub(replacement, text)
    return text


def _has_hint(text: str) -> bool:
    lower = text.lower()
    return (
        any(hint in lower for hint in _HINTS)
        or any(hint in text for hint in _EXACT_HINTS)
        or _GITHUB.search(text) is not None
    )


def scrub_pair(key: str, value: Any) -> Any:
    """Return `value`, or the mask where `key` says that it is a secret."""
    # How many there are, and whether, may be told.
    if value and not isinstance(value, (bool, int, float)) and _SECRET_KEY.search(key):
        return MASK
    return value


def add_patterns(patterns: Iterable[str]) -> None:
    """Mask what these regular expressions match, too: a team knows its own secrets.

    Raises:
        re.error: a pattern that is none.
    """
    global _has_own_patterns  # noqa: PLW0603 - set once, at start
    own = [(re.compile(pattern), MASK) for pattern in patterns]
    # An application that is made twice in a process has them once.
    own = [each for each in own if each not in _rules]
    _rules.extend(own)
    _has_own_patterns = _has_own_patterns or bool(own)
