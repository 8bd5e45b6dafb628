"""Each recording rule makes what its name says, and no mistake in it goes unseen: panels show nothing else."""

from pathlib import Path

import pytest

from tests.alerts.mutants import Mutant, mutants_of_recording
from tests.alerts.promtool import survives, survivors
from tests.alerts.recordings import cases_of
from tests.alerts.rules import recordings


@pytest.mark.parametrize("record", recordings())
def test_a_recording_rule_makes_what_its_name_says(record: str, tmp_path: Path) -> None:
    assert survives(Mutant(record, "unchanged", recordings()[record]), tmp_path / "unchanged", cases_of(record))


def test_its_tests_kill_every_mutant(tmp_path: Path, summary: list[str]) -> None:
    """A mistake that passes the tests can be made tomorrow."""
    every = [mutant for rule in recordings().values() for mutant in mutants_of_recording(rule)]
    verdicts = survivors(every, tmp_path / "all", cases_of)
    alive = [mutant.name for mutant, survived in zip(every, verdicts, strict=True) if survived]
    summary.append(f"mutants of recording rules killed: {len(every) - len(alive)} / {len(every)}")
    assert not alive, "\n".join(("not killed:", *alive))
