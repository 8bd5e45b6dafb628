"""The watch: what it writes down, what a missed look costs, and what makes it roll back, once."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ops.release import history
from ops.release.baseline import Baseline
from ops.release.history import Hour, Window, windows_of
from ops.release.journal import Journal
from ops.release.prometheus import Prometheus
from ops.release.watch import PROBE_PAUSE_S, Look, Watch, failing_health, released_at
from ops.stack.errors import StackError
from ops.stack.ports import free_port
from tests.backfill import prometheus_with
from tests.release_history import RELEASED, WEEK, service

HOUR = timedelta(hours=1)
# Applied before the full hour: the watch begins at RELEASED.
APPLIED = RELEASED - timedelta(minutes=20)
LONG = timedelta(hours=50)


def past_of(folder: Path, after_ratio: float) -> Iterator[Prometheus]:
    with prometheus_with(service(0.005, after_ratio, after=LONG), folder) as url, Prometheus(url) as client:
        yield client


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    yield from past_of(tmp_path_factory.mktemp("fine"), 0.005)


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    yield from past_of(tmp_path_factory.mktemp("worse"), 0.06)


class Service:
    """A release in service: its journal, its health, and how often it was rolled back."""

    def __init__(self, folder: Path, prometheus: Prometheus) -> None:
        self.now = APPLIED
        self.journal = Journal(folder, "r1", secrets=["the-database-password"], clock=lambda: self.now)
        self.journal.append("intent", "start")
        self.journal.append("done", "start")
        self.prometheus = prometheus
        self.has_baseline = True
        self.health: Callable[[], str] = lambda: ""
        self.way_back: Callable[[str], None] = self.roll_back
        self.rolled_back: list[str] = []
        self.pauses: list[float] = []
        before = history.hours(prometheus, RELEASED - WEEK, RELEASED, [])
        self._hours: Sequence[Hour] = before if isinstance(before, list) else []

    def roll_back(self, reason: str) -> None:
        """Take it back, as the quick way does."""
        self.rolled_back.append(reason)
        self.journal.append("intent", "rollback-quick")
        self.journal.append("done", "rollback-quick")

    def look(self, now: datetime, prometheus: Prometheus | None = None) -> Look:
        """Look at it once, as a timer would."""
        self.now = now
        baseline = Baseline(RELEASED - WEEK, RELEASED, "http://127.0.0.1", self._hours) if self.has_baseline else None

        def windows() -> list[Window]:
            return windows_of([self.journal], now)

        return Watch(
            prometheus or self.prometheus,
            self.journal,
            baseline,
            windows,
            self.way_back,
        ).look(now, failing_health(self.health, self.pauses.append))

    def checkpoints(self) -> dict[str, str]:
        """What is written down, by name."""
        return {name: entries[-1].evidence["verdict"] for name, entries in self.journal.state().verdicts.items()}


def at(hours: float) -> datetime:
    return RELEASED + timedelta(hours=hours)


def test_a_release_like_the_one_before_waits_and_then_passes(tmp_path, fine):
    """Exit codes: 3 while it goes on, 0 in the end."""
    service = Service(tmp_path, fine)
    first = service.look(at(0.5))
    assert (first.outcome, first.exit_code, first.made) == ("waiting", 3, [])
    assert first.next_at == at(1) + timedelta(minutes=2)
    second = service.look(at(1.1))
    assert [each.name for each in second.made] == ["watch 1 h"]
    assert (second.outcome, second.is_over) == ("waiting", False)
    assert service.look(at(24.1)).next_at == at(48) + timedelta(minutes=2)
    last = service.look(at(48.1))
    assert (last.outcome, last.exit_code, last.is_over, last.next_at) == ("passed", 0, True, None)
    assert service.checkpoints() == {
        "watch 1 h": "INSUFFICIENT",
        "watch 24 h": "EQUIVALENT",
        "watch 48 h": "EQUIVALENT",
    }
    assert service.rolled_back == []


def test_a_missed_look_loses_nothing(tmp_path, fine):
    """A laptop that slept for two days, and one that looked every hour, have written the same."""
    often, once = Service(tmp_path / "often", fine), Service(tmp_path / "once", fine)
    for hour in range(50):
        often.look(at(hour))
    look = once.look(at(50))
    assert [each.name for each in look.made] == ["watch 1 h", "watch 24 h", "watch 48 h"]
    figures = [
        {name: entries[-1].evidence for name, entries in each.journal.state().verdicts.items()}
        for each in (often, once)
    ]
    assert figures[0] == figures[1]
    assert len(often.journal.entries) == len(once.journal.entries) == 5


def test_a_checkpoint_that_cannot_be_asked_is_made_up_for(tmp_path, fine):
    """Prometheus down is not known, and not passed. Later it is known after all."""
    service = Service(tmp_path, fine)
    with Prometheus(f"http://127.0.0.1:{free_port()}") as down:
        look = service.look(at(25), down)
    assert (look.outcome, look.exit_code) == ("inconclusive", 4)
    assert "watch 1 h is due" in look.why
    assert service.checkpoints() == {}
    service.look(at(26))
    assert set(service.checkpoints()) == {"watch 1 h", "watch 24 h"}


def test_worse_once_is_told_and_worse_twice_rolls_back_once(tmp_path, worse):
    """Not before a day is over; then at the second full hour."""
    service = Service(tmp_path, worse)
    early = service.look(at(6))
    assert (early.outcome, early.exit_code) == ("worse", 1)
    assert "ALREADY WORSE" in early.why
    first = service.look(at(24.1))
    assert (first.outcome, service.rolled_back) == ("worse", [])
    second = service.look(at(25.1))
    assert (second.outcome, second.exit_code, second.is_over) == ("rolled back", 5, True)
    assert len(service.rolled_back) == 1
    assert "two full hours running" in service.rolled_back[0]
    again = service.look(at(26.1))
    assert (again.outcome, again.exit_code) == ("rolled back", 5)
    assert len(service.rolled_back) == 1
    assert service.journal.state().is_done("watch rollback")


def test_a_rollback_that_fails_is_tried_once_and_said(tmp_path, worse):
    """Exit code 6: a person must come."""
    service = Service(tmp_path, worse)

    def fail(reason: str) -> None:
        service.rolled_back.append(reason)
        raise StackError("the API does not start", "see its log")

    service.way_back = fail
    assert service.look(at(30)).exit_code == 6
    assert service.look(at(31)).exit_code == 6
    assert len(service.rolled_back) == 1


def killed(_: str) -> None:
    raise KeyboardInterrupt


def test_a_watch_that_was_killed_while_it_rolled_back_goes_on_with_it(tmp_path, worse):
    """Half a way back is none; it bears being run twice."""
    service = Service(tmp_path, worse)
    service.way_back = killed
    with pytest.raises(KeyboardInterrupt):
        service.look(at(30))
    service.way_back = service.roll_back
    assert service.look(at(31)).exit_code == 5
    assert len(service.rolled_back) == 1
    assert "two full hours running" in service.rolled_back[0]
    assert service.look(at(32)).exit_code == 5
    assert len(service.rolled_back) == 1


@pytest.mark.parametrize("way", [killed, None])
def test_what_a_person_finished_after_the_watch_is_taken_back(tmp_path, worse, way):
    """Killed or failed: the service is back, and says so for ever."""
    service = Service(tmp_path, worse)

    def fail(_: str) -> None:
        raise StackError("the API does not start", "see its log")

    service.way_back = way or fail
    with suppress(KeyboardInterrupt):
        service.look(at(30))
    service.roll_back("by hand")
    look = service.look(at(31))
    assert (look.exit_code, len(service.rolled_back)) == (5, 1)
    assert service.journal.state().is_done("watch rollback")
    assert service.look(at(32)).exit_code == 5


def test_without_a_baseline_its_health_is_watched_all_the_same(tmp_path, fine):
    """Errors can't be judged then; that it is down can be."""
    service = Service(tmp_path, fine)
    service.has_baseline = False
    look = service.look(at(30))
    assert (look.exit_code, look.made, look.is_over) == (4, (), False)
    assert "no baseline" in look.why
    assert service.look(at(49)).is_over
    service.health = lambda: "down"
    assert service.look(at(31)).exit_code == 5


def test_no_traffic_is_not_known_and_not_passed(tmp_path):
    """Exit code 4, after all of 48 hours: an idle service is no healthy one."""
    past = service(0.0, 0.0, after=LONG, a_minute=0)
    with prometheus_with(past, tmp_path / "past") as url, Prometheus(url) as idle:
        watched = Service(tmp_path, idle)
        look = watched.look(at(48.1))
    assert (look.outcome, look.exit_code, look.is_over) == ("inconclusive", 4, True)
    assert "INSUFFICIENT" in look.why
    assert set(watched.checkpoints().values()) == {"INSUFFICIENT"}


def test_too_few_requests_say_how_long_it_takes(tmp_path, fine):
    """What is not excluded, and when it would be."""
    assert re.search(r"not excluded, which takes about \d+ hours more", Service(tmp_path, fine).look(at(6)).why)


def test_a_release_that_comes_back_is_watched_anew_and_never_rolled_back_by_itself_again(tmp_path, worse):
    """Once in the life of a release: the second time a person decides."""
    service = Service(tmp_path, worse)
    service.look(at(6))
    service.health = lambda: "down"
    assert service.look(at(7)).outcome == "rolled back"
    service.now = at(9.5)
    service.journal.append("done", "start")
    look = service.look(at(9.6))
    assert (look.outcome, len(service.rolled_back)) == ("worse", 1)
    assert "a person must decide" in look.why
    service.health = lambda: ""
    assert [each.at for each in service.look(at(12)).made] == [at(11)]


def answering(*answers: str) -> Callable[[], str]:
    left = list(answers)
    return lambda: left.pop(0)


@pytest.mark.parametrize(
    ("answers", "rolls_back"),
    [
        (["down", "down", "down"], True),
        (["down", "", "down", "", "down"], True),
        (["down", "", "", ""], False),
        (["down", "down", "", "", ""], False),
        ([""], False),
    ],
)
def test_health_that_fails_three_of_five_times_rolls_back(tmp_path, fine, answers, rolls_back):
    """One failure is a restart; it asks no more often than it must."""
    service = Service(tmp_path, fine)
    service.health = answering(*answers)
    look = service.look(at(0.3))
    assert len(service.rolled_back) == rolls_back
    assert look.exit_code == (5 if rolls_back else 3)
    assert service.pauses == [PROBE_PAUSE_S] * (len(answers) - 1)


def test_a_reason_that_quotes_a_secret_does_not_stop_the_rollback(tmp_path, fine):
    service = Service(tmp_path, fine)
    service.health = lambda: "cannot connect with the-database-password"
    assert service.look(at(0.3)).outcome == "rolled back"
    assert "the-database-password" not in (tmp_path / "journal.jsonl").read_text()


def test_hours_of_a_drill_are_not_judged(tmp_path, worse):
    """What was broken on purpose says nothing of the version."""
    service = Service(tmp_path, worse)
    service.now = at(0)
    service.journal.append("intent", "drill errors")
    service.now = at(26)
    service.journal.append("undo", "drill errors")
    look = service.look(at(26.1))
    assert look.outcome == "waiting"
    evidence = service.journal.state().verdicts["watch 24 h"][-1].evidence
    assert evidence["hours_left_out"] == {"drill": 24}


def test_what_is_not_in_service_is_not_watched(tmp_path):
    journal = Journal(tmp_path, "r1")
    journal.append("intent", "start")
    with pytest.raises(StackError, match="not in service"):
        released_at(journal)
