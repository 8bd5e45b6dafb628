"""A release is refused before it begins for each secret that its service would refuse to start with."""

import itertools

import pytest
from pydantic import ValidationError

from app import config
from app.config import Settings
from ops.release.weakness import SHORTEST, SHORTEST_KEY, weakness

STRONG = "kX9b-Tq2_Lw7vZr4Hn8-Pd3Mf6Jc1sYg5Ae0Ub"
NAMES = ("SECRET_KEY", "API_TOKEN", "METRICS_TOKEN", "EXPORTER_PASSWORD", "DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
PLACEHOLDERS = (
    "change-me-in-production",
    "Change_This_To_A_Long_Random_Value_1!",
    "replace-me-with-openssl-rand-hex-32",
)


def _is_refused_by_the_service(name: str, value: str) -> bool:
    given = dict.fromkeys(("secret_key", "api_token", "metrics_token"), STRONG) | {name.lower(): value}
    addresses = {"database_url": f"postgresql://a:{STRONG}@h/d", "redis_url": "redis://h/0"}
    try:
        Settings(environment="production", **addresses, **given)  # type: ignore[arg-type]
    except ValidationError:
        return True
    return False


def _spelled(word: str) -> list[str]:
    """Return ways in which people make a word look like a secret."""
    return [word, word.upper(), f"{word}-123456789012345678901234567890", "_".join(word) + "!" * 40]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_service_refuses_is_refused_before(name: str) -> None:
    """After the backup and the migration is too late to hear of it."""
    lengths = [STRONG[:length] for length in (1, SHORTEST, SHORTEST_KEY - 1, SHORTEST_KEY)]
    odd = ["a" * 40, f"{STRONG} two words", f"{STRONG}é", STRONG]
    for value in itertools.chain(*map(_spelled, sorted(config._WELL_KNOWN)), PLACEHOLDERS, lengths, odd):
        assert weakness(name, value) or not _is_refused_by_the_service(name, value), value


@pytest.mark.parametrize("value", PLACEHOLDERS)
@pytest.mark.parametrize("name", NAMES)
def test_both_refuse_what_stands_for_a_secret(name: str, value: str) -> None:
    """Long as a secret, and in every example on the Internet."""
    assert _is_refused_by_the_service(name, value)
    assert weakness(name, value) == "well known"


@pytest.mark.parametrize("name", NAMES)
def test_both_take_what_is_strong(name: str) -> None:
    assert not _is_refused_by_the_service(name, STRONG)
    assert weakness(name, STRONG) == ""
