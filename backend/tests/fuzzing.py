"""How many cases a property of what strangers send is tried with: hundreds in `make test`, thousands in `make fuzz`."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings

PROFILE: Final = "fuzz"
# One round of `make fuzz`; it goes round until its time is up, with other cases each time.
_ROUND: Final = 20_000
Test = TypeVar("Test", bound=Callable[..., Any])

settings.register_profile(PROFILE, max_examples=_ROUND, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fuzzed(cases: int) -> Callable[[Test], Test]:
    """Return a decorator for a hypothesis test: `cases` of them, or as many as the profile says if that is more."""

    def mark(test: Test) -> Test:
        chosen = settings(max_examples=max(cases, settings().max_examples), deadline=None)
        marked: Test = pytest.mark.fuzz(pytest.mark.timeout(0)(chosen(test)))
        return marked

    return mark
