"""A Prometheus that runs is told to read its configuration and rules again, and asked whether it did.

It goes on with the former ones where it can't, and says so only in its log and in two metrics.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from ops.stack import loopback
from ops.stack.errors import StackError

PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.1
_SUCCEEDED_AT: Final = "prometheus_config_last_reload_success_timestamp_seconds"
_IS_WELL: Final = "prometheus_config_last_reload_successful"


@dataclass(frozen=True, slots=True)
class Reload:
    """What Prometheus says of its last one: when one succeeded, as it writes it, and whether the very last did."""

    succeeded_at: str
    is_well: bool


def last(metrics: str) -> Reload:
    """Return the last reload by Prometheus's own metrics: of its configuration and all its rules."""
    return Reload(_sample(metrics, _SUCCEEDED_AT), _sample(metrics, _IS_WELL) == "1")


def reload(url: str, hang_up: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Let Prometheus read its configuration and rules again, and return when it runs with them.

    Args:
        url: where it answers.
        hang_up: sends it SIGHUP.
        patience_s: how long it may take.

    Raises:
        StackError: it refuses them, and goes on with the former ones; or it does not answer.
    """
    before = _asked(url)
    hang_up()
    deadline = time.monotonic() + patience_s
    while (now := _asked(url)).succeeded_at == before.succeeded_at:
        # Where the one before was refused already, this one's end can't be seen.
        is_refused = before.is_well and not now.is_well
        if is_refused or time.monotonic() > deadline:
            raise _refusal(now, patience_s)
        time.sleep(_PAUSE_S)


def _refusal(now: Reload, patience_s: float) -> StackError:
    if now.is_well:
        return StackError(f"Prometheus did not read its rules again within {patience_s:g} s.", "Its log may say why.")
    return StackError("Prometheus refuses its new configuration or rules, and goes on with the former ones.")


def _asked(url: str) -> Reload:
    try:
        return last(loopback.get(f"{url}/metrics").raise_for_status().text)
    except httpx.HTTPError as error:
        raise StackError(f"Prometheus does not answer at {url} ({type(error).__name__}).") from error


def _sample(metrics: str, name: str) -> str:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return found[1] if found else ""
