"""Which programs are taken, where there are several."""

import sys
from pathlib import Path

import pytest

from ops.stack import programs


def put(folder: Path, name: str) -> Path:
    """Install a program."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_an_activated_environment_does_not_change_the_redis_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wheel is older than most systems' Redis, and can't read what that one wrote: queued tasks would be gone."""
    put(tmp_path / "venv", "redis-server")
    systems = put(tmp_path / "system", "redis-server")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'venv'}:{tmp_path / 'system'}")
    assert programs.redis_server() == systems
