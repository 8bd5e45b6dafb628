"""Runs promtool on the rules, or on what was put in their place."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.alerts.mutants import Mutant
from tests.alerts.rules import unit_tests

Tests = Mapping[str, Any]

# What promtool says about a rule that gave another answer than expected, or none for an error in its evaluation. Of one
# that it cannot even load it says neither.
_DIFFERS: Final = ("got:", "err: ")
# What it says of each file stands below a line with the file's name.
_HEADING: Final = re.compile(r"^Unit Testing:  (\d+)\.json$", re.MULTILINE)
_SUCCESS: Final = "\n  SUCCESS\n"
# To start promtool costs as much as a short test.
_FILES_A_RUN: Final = 16
_AT_ONCE: Final = 2


class NotARuleError(Exception):
    """Promtool could not load a mutant: it says nothing about the tests."""


def run(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool, on one core, and return how it ended and all it said."""
    return subprocess.run(
        ["promtool", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "GOMAXPROCS": "1", "GOGC": "400"},
    )


def survives(mutant: Mutant, folder: Path, tests: Tests | None = None) -> bool:
    """Tell of one mutant, or of a rule that is none, whether all tests pass: those of its alert, or `tests`.

    Raises:
        NotARuleError: promtool can't load it.
    """
    tests = tests or unit_tests(mutant.alert)
    folder.mkdir()
    _write_rule(folder, 0, mutant)
    _write_tests(folder, 0, tests, tests["tests"])
    return _passed({0: mutant}, folder)[0]


def survivors(mutants: Sequence[Mutant], folder: Path, tests_of: Callable[[str], Tests] = unit_tests) -> list[bool]:
    """Tell of each mutant whether the tests of its alert pass with it in the rule's place, and no other rule beside it.

    The first test goes first: it says all there is to say of an alert that fires, so that most end there. The others
    follow one by one, for those that passed so far: what kills a mutant mostly stands before what is long and silent.

    Args:
        mutants: what to run them on.
        folder: for the files; made here.
        tests_of: gives the tests of an alert, as a file of promtool's has them.

    Raises:
        NotARuleError: promtool can't load one of them.
    """
    folder.mkdir()
    for number, mutant in enumerate(mutants):
        _write_rule(folder, number, mutant)
    tests = [tests_of(mutant.alert) for mutant in mutants]
    survived = [True] * len(mutants)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for turn in range(max(len(each["tests"]) for each in tests)):
            alive = [number for number, each in enumerate(tests) if survived[number] and turn < len(each["tests"])]
            for number in alive:
                _write_tests(folder, number, tests[number], [tests[number]["tests"][turn]])
            batches = [alive[start : start + _FILES_A_RUN] for start in range(0, len(alive), _FILES_A_RUN)]
            for passed in pool.map(
                lambda batch: _passed({number: mutants[number] for number in batch}, folder), batches
            ):
                for number, verdict in passed.items():
                    survived[number] = verdict
    return survived


def _write_rule(folder: Path, number: int, mutant: Mutant) -> None:
    _write(folder / f"{number}.rules", {"groups": [{"name": "one", "rules": [mutant.rule]}]})


def _write_tests(folder: Path, number: int, tests: Tests, some: Sequence[Any]) -> None:
    _write(folder / f"{number}.json", {**tests, "tests": some, "rule_files": [f"{number}.rules"]})


def _write(file: Path, content: Mapping[str, Any]) -> None:
    # JSON is YAML, and written in a tenth of the time.
    file.write_text(json.dumps(content, ensure_ascii=False))


def _passed(mutants: Mapping[int, Mutant], folder: Path) -> dict[int, bool]:
    """Run the tests that the folder holds for these mutants, and tell of each whether they passed."""
    done = run("test", "rules", *(f"{number}.json" for number in mutants), folder=folder)
    _, *parts = _HEADING.split(done.stdout)
    said = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    passed = {number: said.get(number, "").startswith(_SUCCESS) for number in mutants}
    for number, mutant in mutants.items():
        text = said.get(number, done.stdout)
        if not passed[number] and not any(word in text for word in _DIFFERS):
            raise NotARuleError(f"{mutant.name}: {text}")
    assert all(passed.values()) is (done.returncode == 0), done.stdout
    return passed
