"""Which secrets a release is refused for: all that the compose file mounts."""

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import yaml

from ops.release.compose import ComposeTarget
from ops.stack.layout import checkout
from tests.ops.release.preflight.asked import found, refused

MOUNTED_SECRETS: Final = sorted(yaml.safe_load((checkout() / "docker-compose.prod.yml").read_text())["secrets"])


def _put(file: Path, secret: str) -> None:
    """Put a secret where its file has it."""
    held = file.read_text().strip()
    if "://" in held:
        text = held.replace(str(urlsplit(held).password), secret)
    else:
        text = f"requirepass {secret}" if file.name == "redis_auth" else secret
    file.unlink()
    file.write_text(text + "\n")


@pytest.mark.parametrize(
    ("secret", "said"), [("admin", "well known"), ("kX9!b", "too short"), ("a" * 40, "easy to guess")]
)
def test_each_secret_that_is_mounted_is_looked_at(target: ComposeTarget, secret: str, said: str) -> None:
    """Grafana is published: with `admin` for a password, whoever finds it reads all."""
    for name in MOUNTED_SECRETS:
        file = target.checkout / "secrets" / name
        held = file.read_text()
        _put(file, secret)
        assert re.fullmatch(f"{name}(, key 1)? is {said}", refused(target, "secrets", said).value)
        file.write_text(held)
    assert len(MOUNTED_SECRETS) >= 10


def test_each_secret_that_is_mounted_must_be_there(target: ComposeTarget) -> None:
    """Compose starts no service whose file is missing: better known before the backup than after it."""
    for name in MOUNTED_SECRETS:
        (target.checkout / "secrets" / name).unlink()
    told = refused(target, "secrets", "missing").value.split("; ")
    assert sorted(told) == [f"{name} is missing" for name in MOUNTED_SECRETS]


def test_every_former_key_counts(target: ComposeTarget) -> None:
    """What any of them encrypted is believed; none at all is as it should be."""
    file = target.checkout / "secrets" / "secret_key_fallbacks"
    assert file.read_text().strip() == ""
    _put(file, f"{os.urandom(32).hex()}, changeme1")
    assert refused(target, "secrets", "key 2 is well known").value == "secret_key_fallbacks, key 2 is well known"


@pytest.mark.parametrize(
    ("line", "problem"), [("# admin\nREQUIREPASS 'postgres'", "well known"), ("masterauth x", "missing")]
)
def test_redis_own_side_of_its_password_is_read_as_redis_does(target: ComposeTarget, line: str, problem: str) -> None:
    file = target.checkout / "secrets" / "redis_auth"
    file.unlink()
    file.write_text(line + "\n")
    refused(target, "secrets", f"^redis_auth is {problem}$")


def test_a_secret_that_is_no_text_is_told_and_hides_nothing_else(target: ComposeTarget) -> None:
    """`openssl rand 32 > api_token` is no password: it can't be sent in a header."""
    file = target.checkout / "secrets" / "api_token"
    file.unlink()
    file.write_bytes(b"\xff" * 32)
    said = found(target)
    assert re.search(r"api_token is no text", said["preflight"].value)
    assert said["preflight"].verdict == "failed"
    assert "tools" in said
    assert "time to detect, HighErrorRate" in said
