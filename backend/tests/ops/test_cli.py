"""The command line as a whole: every command is there, and a short one waits for nothing that it doesn't need."""

import subprocess
import sys

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
