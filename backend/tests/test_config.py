"""Settings: what can't work is told at the start, by name, and never by value."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.config import ConfigurationError, Settings, get_settings, migration_url
from app.middleware.correlation import Trust
from tests.system import BACKEND, clean_environment

GOOD = {
    "DATABASE_URL": "postgresql://commandcenter:Zk4v9mB2@127.0.0.1:5432/commandcenter",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "SECRET_KEY": "Vw3hR8xKq1nB5tYzL0pM7cJd2fGa9sEu",
}
PRODUCTION = GOOD | {
    "ENVIRONMENT": "production",
    "API_TOKEN": "Hq7Lw2Xr9Tn4Vb6Kd1",
    "METRICS_TOKEN": "Ym5Jc8Zs3Pf0Ge2Ua7",
}
FIELDS = sorted(name.upper() for name in Settings.model_fields)
NAMES = FIELDS + [f"{name}_FILE" for name in FIELDS]
SECRETS = sorted(name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Make `values` all settings there are."""
    before = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    os.environ.update(values)
    get_settings.cache_clear()
    try:
        yield
    finally:
        for name in NAMES:
            os.environ.pop(name, None)
        os.environ.update(before)
        get_settings.cache_clear()


def refusal(values: Mapping[str, str]) -> str:
    """Return what a start with `values` is refused with."""
    with environment(values), pytest.raises(ConfigurationError) as caught:
        get_settings()
    return str(caught.value)


def start(values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start the API as a process that can only fail."""
    return subprocess.run(
        [sys.executable, "-m", "app.serve", "api"],
        cwd=BACKEND,
        env=clean_environment() | values,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_is_needed_is_enough() -> None:
    """Three variables start a development system."""
    with environment(GOOD):
        assert get_settings().environment == "development"


@pytest.mark.parametrize("missing", GOOD)
def test_a_missing_variable_is_named(missing: str) -> None:
    """A person must know what to set."""
    for values in ({name: GOOD[name] for name in GOOD if name != missing}, GOOD | {missing: ""}):
        assert missing in refusal(values)


def test_production_starts_with_secrets_of_its_own() -> None:
    """Its demands can be met, also without the secrets of other parts."""
    with environment(PRODUCTION):
        assert get_settings().environment == "production"


@pytest.mark.parametrize("name", ["SECRET_KEY", "API_TOKEN", "METRICS_TOKEN"])
@pytest.mark.parametrize("value", ["", "changeme", "Change-Me", "password123", "x" * 40])
def test_production_refuses_a_missing_or_well_known_secret(name: str, value: str) -> None:
    """A service that everybody can enter is worse than one that does not start."""
    message = refusal(PRODUCTION | {name: value})
    assert name in message
    assert not value or value not in message


@pytest.mark.parametrize("name", ["EXPORTER_PASSWORD", "DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD"])
def test_production_refuses_a_well_known_password_of_another_part(name: str) -> None:
    """Where it is told, it must be a good one."""
    assert name in refusal(PRODUCTION | {name: "admin"})


@pytest.mark.parametrize("userinfo", ["commandcenter", "commandcenter:commandcenter", "commandcenter:p%6Fstgres"])
def test_production_refuses_a_weak_password_in_the_database_url(userinfo: str) -> None:
    """The password that counts is the one that is used, however it is spelt."""
    message = refusal(PRODUCTION | {"DATABASE_URL": f"postgresql://{userinfo}@db.internal:5432/commandcenter"})
    assert "the password in DATABASE_URL" in message
    assert "db.internal" not in message


def test_production_refuses_a_short_key() -> None:
    """What encrypts access tokens must not be guessed."""
    message = refusal(PRODUCTION | {"SECRET_KEY": "Vw3hR8xKq1nB5tY"})
    assert "SECRET_KEY is shorter than 32 characters" in message
    assert "Vw3hR8" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:Hunter2Hunter2@h/db"),
        ("DATABASE_URL", "postgresql://u:Hunter2Hunter2@h:port/db"),
        ("DATABASE_URL", "postgresql://u:Hunter2Hunter2@h"),
        ("DATABASE_URL", "postgresql:u:Hunter2Hunter2@h/db"),
        ("DATABASE_URL", "postgresql://Hunter2Hunter2:Hunter2Hunter2/db"),
        ("DATABASE_URL", "postgresql://u:Hunter2Hunter2@h:5432:5433/db"),
        ("REDIS_URL", "redis://:Hunter2Hunter2@\u2100/0"),
        ("REDIS_URL", "http://:Hunter2Hunter2@h"),
        ("REDIS_URL", "redis://:Hunter2Hunter2@h:port/0"),
        ("REDIS_URL", "redis://:Hunter2Hunter2@[h/0"),
        ("REDIS_URL", "redis://:Hunter2Hunter2@h/zero"),
        ("REDIS_URL", "redis://:Hunter2Hunter2@h/0?socket_timeout=soon"),
        ("API_TOKEN", "Hunter2Hunter2 Hunter2"),
        ("API_TOKEN", "Hunter2Hunter2é"),
        ("METRICS_TOKEN", "Hunter2\nHunter2"),
        ("GITHUB_API_URL", "ftp://Hunter2Hunter2"),
        ("GITHUB_API_URL", "https://me:Hunter2Hunter2@api.github.com"),
        ("GITHUB_API_URL", "https://Hunter2Hunter2@\u2100/"),
        ("REQUEST_ID_TRUST", "10.0.0.0/99"),
        ("REQUEST_ID_TRUST", "all,none"),
        ("API_PORT", "65536"),
        ("SLOW_REQUEST_MS", "nan"),
        ("SLOW_REQUEST_MS", "inf"),
        ("SLOW_TASK_MS", "-7"),
        ("SYNC_INTERVAL_S", "1e999"),
        ("WORKER_CONCURRENCY", "0"),
        ("ENVIRONMENT", "staging"),
        ("SQL_COMMENTS", "yes"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_not_shown(name: str, value: str) -> None:
    """What is found at the first request, or by the driver's traceback, is found too late and tells too much."""
    message = refusal(GOOD | {name: value})
    assert name in message
    assert value not in message
    assert "Hunter2" not in message


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_garbage_is_refused_or_works(values: dict[str, str]) -> None:
    """A start ends in a service or in a sentence; and no sentence holds a secret."""
    with environment(GOOD | {"DB_PASSWORD": "Only4This"} | values):
        try:
            settings = get_settings()
        except ConfigurationError as error:
            told = str(error)
            long_enough = [values[name] for name in SECRETS if name in values and len(values[name].strip()) > 4]
            # The name of a file is none, and is told.
            paths = [value.strip() for name, value in values.items() if name.endswith("_FILE")]
            assert not [
                value for value in long_enough if value in told and not any(value.strip() in path for path in paths)
            ]
            return
        Trust(settings.request_id_trust)
        assert settings.sqlalchemy_url("asyncpg").startswith("postgresql+asyncpg://")
        assert settings.secret_keys
        assert "Only4This" not in repr(settings)


@given(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
    st.sampled_from(["postgresql://u:{}@h/db", "postgresql://u:{}@h:5432/db", "redis://:{}@h:6379/0"]),
)
def test_no_password_makes_a_url_fail_with_the_password_in_the_message(password: str, url: str) -> None:
    """Passwords that were never URL-encoded are the usual mistake, and parsers like to quote them."""
    name = "DATABASE_URL" if url.startswith("postgresql") else "REDIS_URL"
    # Both ends, for a parser may cut it in the middle; and words that no message of ours holds.
    with environment(PRODUCTION | {name: url.format(f"Hunter2{password}Zebra9")}):
        told = ""
        try:
            get_settings()
        except ConfigurationError as error:
            told = str(error)
        assert "Hunter2" not in told
        assert "Zebra9" not in told


def test_a_refused_start_ends_with_a_plain_message() -> None:
    """Exit code 1, what to set, no traceback: a supervisor's log is read at night."""
    done = start(PRODUCTION | {"SECRET_KEY": "changeme", "API_TOKEN": ""})
    assert done.returncode == 1
    assert "SECRET_KEY" in done.stderr
    assert "API_TOKEN is missing" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for value in ("changeme", PRODUCTION["METRICS_TOKEN"], "Zk4v9mB2"):
        assert value not in done.stdout + done.stderr


def test_a_migration_needs_the_database_and_no_other_secret() -> None:
    """A release job has no business with the service's keys."""
    with environment({"DATABASE_URL": "postgres://u:p@h/db"}):
        assert migration_url() == "postgresql+psycopg://u:p@h/db"
    for url in ("", "sqlite:///Hunter2"):
        with environment({"DATABASE_URL": url}), pytest.raises(ConfigurationError, match="DATABASE_URL") as caught:
            migration_url()
        assert "Hunter2" not in str(caught.value)


def test_former_keys_are_a_list() -> None:
    """The newest first; spaces and empty places are nobody's key."""
    with environment(GOOD | {"SECRET_KEY_FALLBACKS": " one, two,,"}):
        assert get_settings().secret_keys == [GOOD["SECRET_KEY"], "one", "two"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_lie_in_a_file(tmp_path: Path, name: str) -> None:
    """Containers get their secrets so; and files are written by editors, which end them with a newline."""
    file = tmp_path / "secret"
    value = PRODUCTION.get(name, "Kd8Zs2Qp6Wm1")
    file.write_text(value + "\n")
    values = {other: PRODUCTION[other] for other in PRODUCTION if other != name} | {f"{name}_FILE": str(file)}
    with environment(values):
        assert getattr(get_settings(), name.lower()).get_secret_value() == value


def test_a_secret_in_a_file_is_looked_at_as_any_other(tmp_path: Path) -> None:
    """Where it lies makes it no better; and nothing of it is told."""
    file = tmp_path / "secret"
    for content, told in (("changeme\n", "API_TOKEN is a well-known value"), ("\n", "API_TOKEN is missing")):
        file.write_text(content)
        values = {name: PRODUCTION[name] for name in PRODUCTION if name != "API_TOKEN"}
        message = refusal(values | {"API_TOKEN_FILE": str(file)})
        assert told in message
        assert "changeme" not in message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its path is no secret, and a person must find it."""
    missing = tmp_path / "nothing"
    message = refusal(PRODUCTION | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(missing)})
    assert f"SECRET_KEY_FILE: {missing}" in message
    missing.write_bytes(b"Hunter2\xff")
    assert "Hunter2" not in refusal(PRODUCTION | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(missing)})


def test_a_secret_told_twice_is_refused(tmp_path: Path) -> None:
    """Whoever changed one of them would wonder why nothing happened."""
    file = tmp_path / "secret"
    file.write_text("Kd8Zs2Qp6Wm1")
    message = refusal(PRODUCTION | {"API_TOKEN_FILE": str(file)})
    assert "API_TOKEN and API_TOKEN_FILE are both set" in message
    assert "Kd8Zs2Qp6Wm1" not in message


def test_a_migration_reads_its_url_from_a_file_too(tmp_path: Path) -> None:
    """It runs in a container as the service does."""
    file = tmp_path / "url"
    file.write_text(GOOD["DATABASE_URL"] + "\n")
    with environment({"DATABASE_URL_FILE": str(file)}):
        assert migration_url() == GOOD["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")


@pytest.mark.parametrize(("pattern", "why"), [("CUST-[", "no regular expression"), ("x*", "matches everywhere")])
def test_a_pattern_of_secrets_that_cannot_work_is_refused(pattern: str, why: str) -> None:
    """One that matches an empty text would mask between all letters."""
    told = refusal(GOOD | {"SCRUB_PATTERNS": rf"\bCUST-\d+\b {pattern}"})
    assert "SCRUB_PATTERNS" in told
    assert why in told
