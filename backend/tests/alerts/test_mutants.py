"""Each alert's tests tell each mistake in its rule from the rule."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.alerts.equivalent import EQUIVALENT
from tests.alerts.mutants import Mutant, mutants, unchanged
from tests.alerts.promtool import NotARuleError, survives, survivors
from tests.alerts.rules import rules


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory, summary: list[str]) -> Mapping[str, bool]:
    """Whether each mutant passes the tests of its alert, by its name."""
    every = [mutant for rule in rules().values() for mutant in mutants(rule)]
    verdicts = survivors(every, tmp_path_factory.mktemp("mutants") / "all")
    found = {mutant.name: survived for mutant, survived in zip(every, verdicts, strict=True)}
    assert len(found) == len(every), "two mutants have one name"
    equal = sum(found[name] for name in EQUIVALENT if name in found)
    killed = len(found) - sum(found.values())
    summary.append(f"mutants of alerts killed: {killed} / {len(found) - equal}; {equal} more do what the rule does")
    return found


@pytest.mark.timeout(600)  # Hundreds of mutants: some 80 s of one core.
def test_the_tests_kill_every_mutant(survived: Mapping[str, bool]) -> None:
    """A mistake that passes the tests can be made tomorrow."""
    alive = sorted(name for name, passed in survived.items() if passed and name not in EQUIVALENT)
    assert not alive, "\n".join(("not killed:", *alive))


def test_what_is_listed_as_equivalent_is(survived: Mapping[str, bool]) -> None:
    """An excuse that is not needed hides the next mistake."""
    killed = [name for name in EQUIVALENT if not survived.get(name, False)]
    assert not killed, "\n".join(("killed, or no mutant at all:", *killed))


def test_no_excuse_is_empty() -> None:
    assert [name for name, reason in EQUIVALENT.items() if not reason.strip()] == []


@pytest.mark.parametrize("alert", rules())
def test_the_rule_itself_passes(alert: str, tmp_path: Path) -> None:
    """By the way the mutants go: a way that breaks rules would kill them all."""
    assert survives(unchanged(rules()[alert]), tmp_path / "unchanged")


def test_a_broken_rule_is_no_mutant(tmp_path: Path) -> None:
    """Promtool fails on it as well; that proves nothing about the tests."""
    rule = {**rules()["HighErrorRate"], "expr": "sum("}
    with pytest.raises(NotARuleError):
        survives(Mutant("HighErrorRate", "HighErrorRate: broken", rule), tmp_path / "broken")
