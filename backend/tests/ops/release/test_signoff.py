"""Sign-off: the report, the waivers, and the commands from baseline to sign-off on a system of their own."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Ran

from ops.cli import cli
from ops.release import at_work, judgements, lock, signoff
from ops.release.baseline import Baseline
from ops.release.gates import GATES, Result, Status
from ops.release.journal import Journal
from ops.release.place import Releases
from ops.release.report import Report
from ops.release.watch import CHECKPOINTS, named
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from tests.backfill import prometheus_with
from tests.release_history import service


def results_of(**statuses: Status) -> list[Result]:
    """What gates say: PASS, unless told."""
    return [
        Result(
            gate,
            f"about {gate}",
            statuses.get(gate.replace("-", "_"), Status.PASS),
            "1 | 2",
            "3",
            f"do {gate}",
            ("query",),
        )
        for gate in GATES
    ]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path, "r1")
    made.append("done", "baseline", evidence={"sha256": "0" * 64})
    made.append("done", "start")
    return made


def signed(journal: Journal, results: Sequence[Result]) -> Report:
    now = datetime.now(UTC)
    kept = Baseline(now - timedelta(days=7), now, "http://127.0.0.1", [])
    return signoff.sign_off(journal, kept, results, journal.path.parent, now)


def test_only_all_gates_sign_off(journal):
    assert signed(journal, results_of()).is_signed_off
    for status in set(Status) - {Status.PASS}:
        made = signed(journal, results_of(pool=status))
        assert not made.is_signed_off
        assert [each.gate for each in made.open_gates] == ["pool"]


def test_a_waiver_has_a_name_a_reason_and_a_date(journal):
    results = results_of(pool=Status.FAIL)
    signoff.waive(journal, results, {"pool": "a load test ran"})
    made = signed(journal, results)
    assert made.is_signed_off
    waiver = made.waivers["pool"]
    assert (waiver.reason, waiver.status) == ("a load test ran", "FAIL")
    assert "@" in waiver.who
    assert waiver.at.endswith("+00:00")
    assert "a load test ran" in (journal.path.parent / "signoff.md").read_text()


def test_a_clock_that_went_back_undoes_no_waiver(journal):
    """What came after what is said by the journal's order; hosts' clocks jump."""
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    results = results_of(pool=Status.FAIL)
    behind = Journal(journal.path.parent, "r1", clock=lambda: an_hour_ago)
    signoff.waive(behind, results, {"pool": "a load test ran"})
    assert signed(behind, results).is_signed_off


def test_a_waiver_holds_for_what_was_said_then(journal):
    """A word for too little traffic is none for more errors."""
    signoff.waive(journal, results_of(error_ratio=Status.INSUFFICIENT), {"error-ratio": "little traffic here"})
    assert signed(journal, results_of(error_ratio=Status.INSUFFICIENT)).is_signed_off
    assert not signed(journal, results_of(error_ratio=Status.FAIL)).is_signed_off


def test_a_waiver_of_another_time_in_service_is_none(journal):
    results = results_of(pool=Status.FAIL)
    signoff.waive(journal, results, {"pool": "a load test ran"})
    later = datetime.now(UTC) + timedelta(seconds=1)
    again = Journal(journal.path.parent, "r1", clock=lambda: later)
    again.append("done", "start")
    assert not signed(again, results).is_signed_off


def test_what_passes_needs_no_waiver(journal):
    """It would stand in the report, and mean nothing."""
    with pytest.raises(StackError, match="passes"):
        signoff.waive(journal, results_of(), {"pool": "just in case"})


def test_a_reason_with_a_password_is_refused(journal):
    with pytest.raises(StackError, match="secret"):
        signoff.waive(journal, results_of(pool=Status.FAIL), {"pool": "see postgresql://u:hunter2@db/x"})


def test_what_was_taken_back_is_not_signed_off(journal):
    journal.append("done", "rollback-quick")
    with pytest.raises(StackError, match="taken back"):
        signed(journal, results_of())


def test_the_report_says_the_same_to_people_and_scripts(journal):
    """Every gate, value, bound and query; what is open, first."""
    made = signed(journal, results_of(time_to_detect=Status.NOT_YET_PROVEN))
    text = (journal.path.parent / "signoff.md").read_text()
    document = json.loads((journal.path.parent / "signoff.json").read_text())
    assert text.startswith("# Release r1: NOT signed off: time-to-detect")
    assert document["signed_off"] is False
    assert [each["gate"] for each in document["results"]] == list(GATES)
    for gate in GATES:
        assert f"| {gate} | about {gate} | 1 \\| 2 | 3 |" in text
    assert "- **time-to-detect**: do time-to-detect" in text
    assert "NOT YET PROVEN" in text
    # Every row of a table has as many cells as its head.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    (entry,) = journal.state().verdicts["signoff"]
    assert entry.evidence["signed_off"] is False
    assert made.journal_head == entry.before


def test_before_48_hours_it_is_no_full_pass(journal):
    """A day of traffic is enough for a figure, and not for a weekend."""
    for after in CHECKPOINTS[:-1]:
        journal.append("verdict", named(after), evidence={})
    early = signoff.watched(journal)
    assert (early.status, "48" in early.value) == (Status.INSUFFICIENT, True)
    journal.append("verdict", named(CHECKPOINTS[-1]), evidence={})
    assert signoff.watched(journal).passes


def test_the_report_tells_what_was_gone_without(journal):
    """Who reads it in a year must not think that all was there."""
    journal.append("approval", "baseline pool", evidence={"reason": "the first release"})
    journal.append("done", "baseline", evidence={"sha256": "0" * 64, "without": ["pool"]})
    made = signed(journal, results_of())
    text = (journal.path.parent / "signoff.md").read_text()
    assert made.without["pool"].reason == "the first release"
    assert "| pool | no value before the release | the first release |" in text
    assert "**Not verified** since it is in service" in text
    assert made.missing == [named(after) for after in CHECKPOINTS]
    assert named(CHECKPOINTS[-1]) in text
    journal.append("verdict", "verify", evidence={"checks": 16, "not_ok": ["pg_up"]})
    signed(journal, results_of())
    text = (journal.path.parent / "signoff.md").read_text()
    assert "15 of 16 checks were well" in text
    assert "**Not well**: pg_up." in text


# --- The commands


@dataclass
class Answer:
    """Of the API."""

    status: int = 200


@dataclass
class System:
    """A target with a past: releases in a folder of its own."""

    data: Path
    prometheus_url: str
    name: str = "native"
    secrets: Sequence[str] = ()
    ready: list[int] = field(default_factory=lambda: [200])
    checkout: Path = field(default_factory=checkout)

    @property
    def releases(self) -> Releases:
        """Where they are written down."""
        return Releases(self.data)

    def resolve(self, ref: str) -> str:
        """Return the commit of a name."""
        return {"HEAD": "0123456789ab"}[ref]

    def api(self) -> "System":
        """Return its client: itself."""
        return self

    def close(self) -> None:
        """Have nothing to close."""

    def call(self, *_: str) -> Answer:
        """Answer whether it is ready."""
        return Answer(self.ready[0])

    def run(self, *arguments: str) -> Ran:
        """Run `commandcenter release …` on it."""
        return CliRunner().invoke(cli, ["release", *arguments])


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that was as it is for a week, and will be for two days."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    past = service(0.005, 0.005, released=now, after=timedelta(hours=3))
    with prometheus_with(past, tmp_path_factory.mktemp("past")) as url:
        yield url


@pytest.fixture
def system(tmp_path: Path, prometheus_url: str, monkeypatch: pytest.MonkeyPatch) -> System:
    made = System(tmp_path, prometheus_url)
    choose: Callable[[object], System] = lambda _: made  # noqa: E731 - one line, twice
    monkeypatch.setattr(at_work, "choose_target", choose)
    monkeypatch.setattr(judgements, "choose_target", choose)
    return made


def test_from_baseline_to_sign_off(system):
    """As an operator goes, with what a script reads at each step."""
    kept = system.run("baseline", "--json")
    assert kept.exit_code == 0, kept.output
    release = json.loads(kept.stdout)["release"]
    journal = system.releases.journal()
    assert journal.release == release
    assert journal.state().is_done("baseline")
    # Watched and signed off is only what is in service.
    for command in ("watch", "signoff"):
        refused = system.run(command, *(["--once"] if command == "watch" else []))
        assert refused.exit_code == 1
        assert "not in service" in refused.output
    half_an_hour_ago = datetime.now(UTC) - timedelta(minutes=30)
    Journal(journal.path.parent, release, clock=lambda: half_an_hour_ago).append("done", "start")

    looked = system.run("watch", "--once", "--json")
    assert looked.exit_code == 3, looked.output
    assert json.loads(looked.stdout)["outcome"] == "waiting"

    refused = system.run("signoff", "--json")
    assert refused.exit_code == 4, refused.output
    document = json.loads(refused.stdout)
    statuses = {each["gate"]: each["status"] for each in document["results"]}
    assert statuses["error-ratio"] == "INSUFFICIENT"
    assert statuses["time-to-detect"] == "NOT YET PROVEN"
    waived = [f"--waive={gate}=agreed with the team" for gate, status in statuses.items() if status != "PASS"]

    signed_off = system.run("signoff", *waived)
    assert signed_off.exit_code == 0, signed_off.output
    assert f"{release} is signed off" in signed_off.output
    assert "agreed with the team" in (system.releases.of(release) / "signoff.md").read_text()
    # Once waived, it stays so: for what these gates say now.
    assert system.run("signoff").exit_code == 0
    # What is in service can't be the baseline of itself.
    another = system.run("baseline", "--json")
    assert json.loads(another.stdout)["release"] != release
    assert system.run("baseline", "--release", release).exit_code == 1
    # What was begun since is not what is in service.
    assert f"{release} is signed off" in system.run("signoff").output
    assert system.run("watch", "--once").exit_code == 3


def test_a_baseline_without_a_value_is_none_unless_a_person_says_so(system, tmp_path):
    with prometheus_with({}, tmp_path / "empty") as url:
        system.prometheus_url = url
        failed = system.run("baseline", "--release", "r1")
        assert failed.exit_code == 1, failed.output
        assert "NOT kept" in failed.output
        assert "--without overhead=REASON" in failed.output
        assert not system.releases.journal("r1").state().is_done("baseline")
        without = [f"--without={gate}=first release" for gate in ("error-ratio", "partners", "overhead", "pool")]
        without += ["--without=dashboards=first release"]
        kept = system.run("baseline", "--release", "r1", *without)
        assert kept.exit_code == 0, kept.output
    approvals = system.releases.journal("r1").state().approvals
    assert approvals["baseline overhead"][0].evidence == {"reason": "first release"}


def test_a_look_at_a_service_that_is_down_rolls_back(system, monkeypatch):
    """Exit code 5, and the way back is the quick one."""
    asked: list[str] = []
    monkeypatch.setattr(judgements, "roll_back", lambda _, kind: asked.append(kind))
    monkeypatch.setattr("ops.release.watch.PROBE_PAUSE_S", 0)
    system.run("baseline")
    system.releases.journal().append("done", "start")
    system.ready[0] = 503
    looked = system.run("watch", "--once")
    assert looked.exit_code == 5, looked.output
    assert "/health/ready answers 503" in looked.output
    assert asked == ["quick"]
    assert system.run("watch", "--once").exit_code == 5
    assert asked == ["quick"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["signoff", "--waive", "pool"],
        ["signoff", "--waive", "pool= "],
        ["signoff", "--waive", "pol=because"],
        ["baseline", "--without", "time-to-detect=because"],
        ["baseline", "--days", "0"],
    ],
)
def test_a_wrong_option_is_a_usage_error(system, arguments):
    assert system.run(*arguments).exit_code == 2
    assert system.releases.ids() == []


def test_two_operators_are_told_of_each_other(system):
    """Exit code 7."""
    system.run("baseline")
    with lock.held(system.releases.lock, "apply"):
        for arguments in (["baseline"], ["watch", "--once"], ["signoff"]):
            ran = system.run(*arguments)
            assert ran.exit_code == 7
            assert "apply, since" in ran.output


def test_what_a_terminal_would_obey_stays_text():
    """A label of a metric stands in a report."""
    odd = replace(results_of(pool=Status.FAIL)[2], value="[red]x[/] | y\nz")
    assert odd.finding().value == "FAIL: [red]x[/] | y\nz"
