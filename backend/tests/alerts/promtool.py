"""Runs promtool on the rules, or on what was put in their place."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.alerts.mutants import Mutant
from tests.alerts.rules import unit_tests

# What promtool says about a rule that gave another answer than expected, or none for an error in its evaluation. Of one
# that it cannot even load it says neither.
_DIFFERS = ("got:", "err: ")


class NotARuleError(Exception):
    """Promtool could not load a mutant: it says nothing about the tests."""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool, on one core, and return how it ended and all it said."""
    return subprocess.run(
        ["promtool", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "GOMAXPROCS": "1", "GOGC": "400"},
    )


def survives(mutant: Mutant, folder: Path, tests: Mapping[str, Any] | None = None) -> bool:
    """Tell whether the tests of its alert pass with the mutant in the rule's place, and no other rule beside it.

    The first test goes first: it says all there is to say of an alert that fires, so that most end there.

    Args:
        mutant: what to run them on.
        folder: an empty one, for the files.
        tests: promtool's, as a file has them; those of the alert unless given.

    Raises:
        NotARuleError: promtool can't load it.
    """
    tests = tests or unit_tests(mutant.alert)
    folder.mkdir()
    (folder / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [dict(mutant.rule)]}]}))
    return all(
        _pass(mutant, {**tests, "tests": some}, folder) for some in (tests["tests"][:1], tests["tests"][1:]) if some
    )


def _pass(mutant: Mutant, tests: Mapping[str, Any], folder: Path) -> bool:
    file = folder / "tests.yml"
    file.write_text(json.dumps({**tests, "rule_files": ["alerts.yml"]}))
    done = run("test", "rules", file)
    if done.returncode and not any(word in done.stdout for word in _DIFFERS):
        raise NotARuleError(f"{mutant.name}: {done.stdout}")
    return not done.returncode
