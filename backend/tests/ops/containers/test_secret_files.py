"""The secrets of a production host."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.config import Settings
from ops.containers import secret_files
from tests.system import BACKEND

SCRIPT = BACKEND / "ops" / "containers" / "secret_files.py"


def _read(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text().rstrip("\n") for file in folder.iterdir()}


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_host_needs_nothing_but_python(tmp_path: Path) -> None:
    """No packages, no checkout on the path, no environment; and nothing of a secret is shown."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), "secrets"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    held = _read(tmp_path / "secrets")
    assert f"made {Path('secrets') / 'secret_key'}" in done.stdout
    assert not [value for value in held.values() if value and value in done.stdout]
    again = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert again.stdout == "All are there.\n"
    assert _read(tmp_path / "secrets") == held


def test_nobody_else_on_the_host_gets_at_them(tmp_path: Path) -> None:
    """The folder is closed; the files are not, for containers run under users of their own."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    secret_files.ensure(folder)
    assert _mode(folder) == 0o700
    assert {_mode(file) for file in folder.iterdir()} == {0o444}


def test_production_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of each password agree, and none is weak."""
    secret_files.ensure(tmp_path)
    held = _read(tmp_path)
    monkeypatch.setenv("ENVIRONMENT", "production")
    for name in held.keys() & Settings.model_fields.keys():
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / name))
    settings = Settings()  # type: ignore[call-arg]
    assert settings.secret_keys == [held["secret_key"]]
    assert held["redis_auth"] == f"requirepass {urlsplit(held['redis_url']).password}"
    assert len({value for value in held.values() if value}) == len(held) - 1


@pytest.mark.parametrize("name", secret_files.RENEWABLE)
def test_one_is_renewed_and_the_others_stay(tmp_path: Path, name: str) -> None:
    """A leak of one is no reason to lock everybody out."""
    secret_files.ensure(tmp_path)
    before = _read(tmp_path)
    written = secret_files.ensure(tmp_path, renew=name)
    after = _read(tmp_path)
    assert {file for file in before if before[file] != after[file]} == set(written)
    assert written


def test_a_former_key_still_decrypts(tmp_path: Path) -> None:
    """Tokens at rest were encrypted with it."""
    secret_files.ensure(tmp_path)
    first = _read(tmp_path)["secret_key"]
    secret_files.ensure(tmp_path, renew="secret_key")
    second = _read(tmp_path)["secret_key"]
    secret_files.ensure(tmp_path, renew="secret_key")
    assert _read(tmp_path)["secret_key_fallbacks"] == f"{second},{first}"


@pytest.mark.parametrize("name", sorted(secret_files.FILES))
def test_what_is_there_stays_whichever_is_missing(tmp_path: Path, name: str) -> None:
    """A key that changed in passing would leave every stored token to a list that is meant to be emptied."""
    secret_files.ensure(tmp_path)
    before = _read(tmp_path)
    (tmp_path / name).unlink()
    assert secret_files.ensure(tmp_path) == [name]
    after = _read(tmp_path)
    assert {file: text for file, text in after.items() if file != name} == {
        file: text for file, text in before.items() if file != name
    }
    if name.startswith("redis"):
        assert after == before


def test_a_half_is_made_of_the_other_as_it_was_written(tmp_path: Path) -> None:
    """By hand, too: an address has its password encoded, Redis takes quotes."""
    secret_files.ensure(tmp_path)
    for name, text in (
        ("redis_auth", "requirepass former\nrequirepass\t'p/w@d'\n"),
        ("redis_url", "redis://:p%2Fw%40d@redis:6379/0\n"),
    ):
        secret_files._write(tmp_path / name, text)
    (tmp_path / "redis_url").unlink()
    secret_files.ensure(tmp_path)
    assert _read(tmp_path)["redis_url"] == "redis://:p%2Fw%40d@redis:6379/0"
    (tmp_path / "redis_auth").unlink()
    secret_files.ensure(tmp_path)
    assert _read(tmp_path)["redis_auth"] == "requirepass p/w@d"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("redis_auth", "masterauth x"),
        ("redis_url", "redis://redis:6379/0"),
        ("redis_url", "redis://:two%20words@redis/0"),
    ],
)
def test_a_half_that_tells_no_password_is_left_alone(
    tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two halves that don't fit would let nobody in."""
    secret_files.ensure(tmp_path)
    [other] = {"redis_auth", "redis_url"} - {name}
    (tmp_path / other).unlink()
    secret_files._write(tmp_path / name, f"{text}\n")
    (tmp_path / "api_token").unlink()
    assert secret_files.main([str(tmp_path)]) == 1
    assert f"{name} holds no password" in capsys.readouterr().err
    assert _read(tmp_path)[name] == text
    assert not (tmp_path / other).exists()
    assert secret_files.main([str(tmp_path), "--renew", "redis"]) == 0
    held = _read(tmp_path)
    assert held["redis_auth"] == f"requirepass {urlsplit(held['redis_url']).password}"
    assert "api_token" in held
