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


def test_a_pair_is_made_whole(tmp_path: Path) -> None:
    """One half alone would let nobody in."""
    secret_files.ensure(tmp_path)
    (tmp_path / "redis_auth").unlink()
    assert secret_files.ensure(tmp_path) == ["redis_auth", "redis_url"]
