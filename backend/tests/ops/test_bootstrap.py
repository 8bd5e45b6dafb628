"""Which Python the virtual environment is made with."""

import sys
import sysconfig
from pathlib import Path

import pytest

from ops import bootstrap


@pytest.mark.parametrize(
    ("prefix", "built_with", "quick"),
    [
        ("/home/x/.pyenv/versions/3.12.1", "'--enable-shared'", False),
        ("/home/x/.pyenv/versions/3.12.1", "'--enable-optimizations' '--with-lto'", True),
        ("/home/x/own", None, False),
        ("/usr", "'--enable-shared'", True),
    ],
)
def test_a_python_built_with_a_profile_is_quick(
    monkeypatch: pytest.MonkeyPatch, prefix: str, built_with: str | None, *, quick: bool
) -> None:
    monkeypatch.setattr(sys, "base_prefix", prefix)
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": built_with}.get)
    assert bootstrap._is_quick() is quick


def _distribution(folder: Path, script: str | None) -> Path:
    if script is not None:
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / "python3").chmod(0o755)
    return folder


@pytest.mark.parametrize("arguments", [[], ["--this-python"]])
@pytest.mark.parametrize(
    ("script", "is_taken"), [(f'exec {sys.executable} "$@"', True), ("exit 1", False), (None, False)]
)
def test_a_slow_one_hands_over_to_the_distributions_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, arguments: list[str], *, is_taken: bool
) -> None:
    """Where that one is new enough and can make an environment."""

    class HandedOverError(Exception):
        pass

    def hand_over(program: str, given: list[str]) -> None:
        raise HandedOverError(program, given)

    # It is no environment, and so nothing is made in its place.
    (tmp_path / "venv").mkdir()
    monkeypatch.setattr(bootstrap, "_VENV", tmp_path / "venv")
    monkeypatch.setattr(bootstrap, "_PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "_DISTRIBUTION", str(_distribution(tmp_path, script)))
    monkeypatch.setattr(bootstrap, "_is_quick", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
    monkeypatch.setattr("os.execv", hand_over)
    python = f"{tmp_path}/bin/python3"
    if is_taken and not arguments:
        with pytest.raises(HandedOverError) as handed:
            bootstrap._make_venv()
        assert handed.value.args == (python, [python, bootstrap.__file__, "--this-python"])
    else:
        with pytest.raises(SystemExit):
            bootstrap._make_venv()
