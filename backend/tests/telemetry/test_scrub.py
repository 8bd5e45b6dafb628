"""No secret stays in free text: messages, tracebacks, URLs, whatever a library puts into a line."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry import scrub as module
from app.telemetry.logs import configure_logging
from app.telemetry.scrub import MASK, add_patterns, may_hold_secret, scrub
from tests.fuzzing import fuzzed

SECRET = "s3cr3t-Value.9"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://commandcenter:{SECRET}@db:5432/commandcenter",
        f"could not connect to redis://:{SECRET}@redis:6379/0",
        f"https://user:{SECRET}@example.org/repo.git failed",
        f"Authorization: Bearer {SECRET}",
        f"'authorization': 'Basic {SECRET}'",
        f"(b'authorization', b'Bearer {SECRET}')",
        f"Cookie: session={SECRET}; other={SECRET}",
        f"Set-Cookie: session={SECRET}",
        f"password={SECRET}",
        f'{{"access_token": "{SECRET}"}}',
        f"PGPASSWORD='{SECRET}'",
        f"api_key => {SECRET}",
        f"client_secret={SECRET}&x=1",
        f"password='two words {SECRET}'",
        f"https://{SECRET}@github.com/owner/name.git",
        "POST https://hooks.slack.com/services/T0000/B0000/s3cr3tValue9",
        f"--password {SECRET}",
        f"['psql', '--password', '{SECRET}']",
        f"postgresql://u:p@{SECRET}@db/x",
        f"SECRET_KEY={SECRET}",
        f"passphrase={SECRET}",
        f"credentials={SECRET}",
        f"encryption_key: {SECRET}",
        f"Server=db;Uid=u;Pwd={SECRET};Encrypt=yes",
        f"DRIVER={{ODBC Driver}};UID=u;PWD={{x;{SECRET}}};Timeout=5",
        f"Password={{x}}}}{SECRET}}};Timeout=5",
        f"db_pwd: '{SECRET}'",
        f"--pwd {SECRET}",
        f"(b'x-api-key', b'{SECRET}')",
        '{"body": "{\\"password\\": \\"s3cr3t\\"}"}',
        f"invalid input for query argument $1: '{SECRET}' (an integer is required)",
        f'invalid input syntax for type integer: "{SECRET}"',
        f'invalid input value for enum job_status: "{SECRET}"',
        f"[parameters: ('{SECRET}', 1)]",
        f"DETAIL:  Key (lower(email::text))=({SECRET}) already exists.",
        f"ALTER ROLE exporter_user PASSWORD '{SECRET}'",
        "SCRAM-SHA-256$4096:s3cr3t$stored:server",
        f"aws_secret_access_key={SECRET}",
        f'private_key: "{SECRET}"',
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEs3cr3t\nValue9\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEs3cr3t, and then it was cut",
        "AKIA0000000000S3CR3T",
        "sk_live_s3cr3tValue9abcdef",
        "token ghp_abcdefghijklmnopqrstuvwxyz0123456789s3cr3tValue9",
        "github_pat_11ABCDEFG0s3cr3tValue9_abcdefghij",
        "glpat-s3cr3tValue9abcdefgh",
        "xoxb-123456789012-s3cr3tValue9",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzM2NyM3RWYWx1ZTki.s3cr3tValue9abc",
        f"DETAIL:  Key (email)=({SECRET}) already exists.",
        f"DETAIL:  Failing row contains (1, {SECRET}, null).",
        "mail to s3cr3t.value+9@example.org bounced",
    ],
)
def test_a_secret_does_not_stay(text: str) -> None:
    """Each was seen in a log of somebody's."""
    cleaned = scrub(text)
    assert "s3cr3t" not in cleaned.lower()
    assert MASK in cleaned
    assert may_hold_secret(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT repositories.id FROM repositories WHERE owner = $1",
        "https://github.com/pallets/click",
        "ssh://git@github.com/pallets/click.git",
        "the password was wrong",
        "a token is wanted",
        "Keyboard",
        "1 passed, the pwd is /srv",
        "the key: value pairs",
        "--keyword",
        "ASIA and the Pacific",
        "DETAIL:  Process 12 waits for ShareLock on transaction 7.",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A log that hides what happened is none."""
    assert scrub(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        "-",
        "a.",
        "a-",
        "Key (",
        "Key (a)=(",
        "Failing row contains (",
        "-----BEGIN PRIVATE KEY-----",
        "a://:",
        "eyJaaaaaaaa.",
        "pwd={",
        "pwd={}}",
    ],
)
def test_a_hostile_text_takes_no_longer_than_its_length(piece: str) -> None:
    """What strangers send is logged: at 100 kB, what grows with the square of it would take longer than this may."""
    scrub(piece * (100_000 // len(piece)) + "token")


@pytest.mark.parametrize(
    "name", ["password=", "pwd={", "--password ", "token: ", "private_key='", "https://", "PASSWORD '"]
)
def test_what_is_masked_stays_as_it_is(name: str) -> None:
    """A line may come through more than once."""
    once = scrub(f"{name}{SECRET}@example.org'")
    assert MASK in once
    assert scrub(once) == once


@given(st.text(max_size=300))
def test_scrubbing_never_fails_and_is_done_once(text: str) -> None:
    """It runs where an exception is being told: it must not raise one."""
    once = scrub(text)
    assert scrub(once) == once


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=100))
def test_the_cheap_test_never_hides_a_secret(text: str) -> None:
    """What a rule would change, the hint must let through to it."""
    changed = text
    for pattern, replacement in module._rules:
        changed = pattern.sub(replacement, changed)
    if changed != text:
        assert may_hold_secret(text.encode())
        assert scrub(text) == changed


@pytest.fixture
def _own_pattern() -> Iterator[None]:
    rules, had = list(module._rules), module._has_own_patterns
    yield
    module._rules[:], module._has_own_patterns = rules, had


@pytest.mark.usefixtures("_own_pattern")
def test_a_team_adds_its_own_patterns() -> None:
    """Customer numbers are nobody's business but theirs."""
    add_patterns([r"\bCUST-\d+\b"])
    assert scrub("order of CUST-4711") == f"order of {MASK}"
    assert may_hold_secret(b"order of CUST-4711")


def logged(**fields: Any) -> dict[str, Any]:
    """Return a line as it is written."""
    stream = io.StringIO()
    configure_logging("test", "debug", stream)
    structlog.get_logger("app.tests").info("event", **fields)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_nested_values_and_keys_are_scrubbed() -> None:
    """Secrets hide in dicts, lists and under telling keys."""
    line = logged(
        outer={"inner": [f"password={SECRET}", {"access_token": SECRET}]},
        authorization=SECRET,
        cookies={"session": SECRET},
        tokens=[SECRET],
        token_count=7,
        db_password=SECRET,
        fine="fine",
    )
    assert SECRET not in json.dumps(line)
    assert (line["fine"], line["token_count"]) == ("fine", 7)


@fuzzed(300)
@given(st.from_regex(module._SECRET_KEY, alphabet=st.characters(codec="ascii")))
def test_every_key_that_names_a_secret_hides_its_value(key: str) -> None:
    """A line without a hint is written as it is: a key that is no hint would be masked only beside another secret."""
    assert (logged(**{key: "hunter2"})[key], logged(outer=[{key: "hunter2"}])["outer"]) == (MASK, [{key: MASK}])


def test_a_traceback_is_scrubbed() -> None:
    """The message of an exception stands in its traceback."""
    stream = io.StringIO()
    configure_logging("test", "debug", stream)

    def fail() -> None:
        raise ValueError(f"could not open postgresql://u:{SECRET}@db/x")

    try:
        fail()
    except ValueError:
        logging.getLogger("library").exception("failed")
        structlog.get_logger("app.tests").exception("failed")
    text = stream.getvalue()
    assert text.count("ValueError: could not open") == 2
    assert SECRET not in text


@pytest.mark.usefixtures("_own_pattern")
def test_a_pattern_that_is_there_is_not_added_again() -> None:
    """An application may be made more than once in a process."""
    before = len(module._rules)
    for _ in range(2):
        add_patterns([r"\bCUST-\d+\b"])
    assert len(module._rules) == before + 1
