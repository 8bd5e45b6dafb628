"""A log line as JSON: whatever its values are, and with no secret in it."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from app.telemetry.scrub import may_hold_secret, scrub, scrub_pair
from app.utils.metrics import hook_failed

_INT_LIMIT: Final = 2**63
_MAX_DEPTH: Final = 8


def render(line: dict[str, Any]) -> bytes:
    """Return the line as JSON with a newline. Only a line that may hold a secret is looked at value by value."""
    try:
        rendered = orjson.dumps(line, default=as_text, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # A key that is no text, a lone surrogate, a number past 64 bits, a circle.
        return orjson.dumps(_plain(line, 0), option=orjson.OPT_APPEND_NEWLINE)
    if may_hold_secret(rendered):
        return orjson.dumps(_plain(orjson.loads(rendered), 0), option=orjson.OPT_APPEND_NEWLINE)
    return rendered


def _plain(value: Any, depth: int) -> Any:
    """Return `value` in what JSON has words for, scrubbed."""
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _INT_LIMIT else as_text(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        pairs = ((as_text(key), each) for key, each in value.items())
        return {_clean(key): scrub_pair(key, _plain(each, depth + 1)) for key, each in pairs}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return scrub(_clean(as_text(value)))


def _clean(text: str) -> str:
    """Return `text` as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def as_text(value: Any) -> str:
    """Return the text of `value`; of one that fails to tell it, what it is: the rest of its line is worth having."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - as said
        hook_failed("log_text")
        return f"<{type(value).__name__} without a text>"
