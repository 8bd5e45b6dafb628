"""Takes secrets out of free text before it reaches a log."""

import re
from typing import Final

MASK: Final = "[scrubbed]"

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # user:password@ in any URL or DSN.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@:'\"]*:[^\s/@'\"]*@"), rf"\1{MASK}@"),
    # Authorization: Bearer x, authorization='Basic x'.
    (re.compile(r"(?i)\b(authorization|cookie|set-cookie)(['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+"), rf"\1\2{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {MASK}"),
    # password=x, access_token: "x", "api_key": "x".
    (
        re.compile(
            r"(?i)\b([a-z0-9_-]*(?:password|passwd|secret|token|api_?key|pgpassword))"
            r"(['\"]?\s*[:=]\s*['\"]?)(?!\s)[^\s,;&'\")}\]]+"
        ),
        rf"\1\2{MASK}",
    ),
    # Tokens that name themselves: GitHub's, GitLab's, Slack's, and JSON web tokens.
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})"), MASK),
    (re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"), MASK),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"), MASK),
    # PostgreSQL tells the values of a violated key.
    (re.compile(r"(DETAIL:\s+(?:Key|Failing row)[^=\n]*?)(?:=\(|contains \().*"), rf"\1={MASK}"),
)

# Cheap test first: a text with none of these needs no rule.
_HINT: Final = re.compile(
    r"(?i)://|auth|cookie|bearer|basic|passw|secret|token|api_?key|gh[pousr]_|github_pat|glpat|xox|eyJ|DETAIL"
)


def scrub(text: str) -> str:
    """Return `text` with what looks like a secret masked."""
    if _HINT.search(text) is None:
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
