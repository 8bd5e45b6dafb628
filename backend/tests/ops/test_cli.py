"""The command line as a whole: every command is there, and a short one waits for nothing that it doesn't need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_can_be_loaded(name: str) -> None:
    """They are named by text, which no linter follows."""
    told = CliRunner().invoke(cli, [name, "--help"])
    assert told.exit_code == 0, told.output
    assert f"Usage: commandcenter {name}" in told.output
    assert "--install-completion" not in told.output


def test_the_help_page_has_them_all_in_order() -> None:
    told = CliRunner().invoke(cli, ["--help"]).output
    assert sorted(COMMANDS, key=told.index) == list(COMMANDS)


def test_who_mistypes_is_told_what_there_is() -> None:
    told = CliRunner().invoke(cli, ["tarce", "x"])
    assert told.exit_code == 2
    assert "Did you mean 'trace'" in told.output


def test_a_trace_waits_for_no_driver() -> None:
    """On call, half a second each time; loading drivers of databases was half of it."""
    program = (
        "import sys; from typer.testing import CliRunner; from ops.cli import cli;"
        "told = CliRunner().invoke(cli, ['trace', 'an-id', '--logs', '/']);"
        "assert told.exit_code == 1, told.output;"
        "print(*{'psycopg', 'redis', 'httpx', 'yaml'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("down", set()),
        ("status", {"httpx", "psycopg", "yaml"}),
        ("release status", {"httpx", "psycopg", "yaml", "ops.release.native"}),
        ("release --target compose status", {"httpx", "psycopg", "yaml", "ops.release.compose"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_loads_what_it_needs_and_no_more(command: str, needs: set[str], tmp_path: Path) -> None:
    """Looking how a stack is, and stopping it, are for when something is wrong: each took a second of loading."""
    heavy = ("httpx", "psycopg", "redis", "yaml", "ops.release.native", "ops.release.compose")
    program = (
        "import sys; from typer.testing import CliRunner; from ops.cli import cli;"
        f"told = CliRunner().invoke(cli, {command.split()!r});"
        "assert told.exception is None or isinstance(told.exception, SystemExit), told;"
        f"print(*{{*{heavy!r}, 'ops.release.statistics'}} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "COMMANDCENTER_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= needs
