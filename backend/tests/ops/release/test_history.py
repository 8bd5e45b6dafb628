"""Hours of a service, from a real Prometheus: whole counts, and which hours don't count."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.release.history import Hour, Window, _increases, hour_after, hour_before, hours, pair, windows_of
from ops.release.journal import Journal
from ops.release.prometheus import Failed, Prometheus
from ops.release.state import Kind
from ops.release.statistics import Pair
from ops.stack.ports import free_port
from tests.backfill import Past, prometheus_with
from tests.release_history import RELEASED, constant, counted, requests, series

HOUR = timedelta(hours=1)
# A busy machine is no reason to fail.
unhurried = settings(deadline=None)
DOWN = "up under 90% of the time"
START = RELEASED - 3 * HOUR


def read(folder: Path, past: Past, windows: Iterable[Window] = ()) -> list[Hour]:
    """Return the three hours before the release."""
    with prometheus_with(past, folder) as url, Prometheus(url) as client:
        found = hours(client, START, RELEASED, windows)
    assert not isinstance(found, Failed)
    return found


def up(start: datetime = START - 2 * HOUR, end: datetime = RELEASED) -> Past:
    return {series("up"): constant(1, start, end)}


def traffic(each_minute: float = 10) -> Past:
    return {requests("200"): counted(lambda _: each_minute, START - 2 * HOUR, RELEASED)}


def test_requests_and_errors_are_counted_whole(tmp_path):
    """Health and metrics are no traffic; 4xx are no failures."""
    past = {
        **up(),
        **traffic(),
        requests("500"): counted(lambda _: 1, START - 2 * HOUR, RELEASED),
        requests("503", "/api/v1/jobs"): counted(lambda _: 2, START - 2 * HOUR, RELEASED),
        requests("404"): counted(lambda _: 3, START - 2 * HOUR, RELEASED),
        requests("500", "/api/v1/health"): counted(lambda _: 7, START - 2 * HOUR, RELEASED),
        requests("500", "/metrics"): counted(lambda _: 7, START - 2 * HOUR, RELEASED),
    }
    found = read(tmp_path, past)
    assert [hour.start for hour in found] == [START, START + HOUR, START + 2 * HOUR]
    assert {(hour.n, hour.k, hour.up, hour.left_out) for hour in found} == {(960, 180, 1, "")}


def test_a_series_born_with_its_first_error_counts_that_error(tmp_path):
    """increase() misses it: a failure nobody had seen before is the one that matters."""
    born = START + HOUR + timedelta(minutes=30)
    past = {**up(), **traffic(), requests("500"): constant(3, born, RELEASED)}
    assert [hour.k for hour in read(tmp_path, past)] == [0, 3, 0]


def test_no_error_is_zero_and_no_series_is_missing(tmp_path):
    """Nobody measured is not: nothing failed."""
    past = {**up(), requests("200"): counted(lambda _: 10, START + HOUR + timedelta(minutes=1), RELEASED)}
    first, second, third = read(tmp_path, past)
    assert (first.n, first.k, first.left_out) == (None, None, "nothing measured")
    assert (second.n, second.k, second.left_out) == (590, 0, "")
    assert third.counts


def test_an_hour_without_a_request_was_measured(tmp_path):
    """A night without traffic is an hour of 0 requests."""
    past = {**up(), requests("200"): constant(50, START - 2 * HOUR, RELEASED)}
    assert [(hour.n, hour.k, hour.counts) for hour in read(tmp_path, past)] == [(0, 0, True)] * 3


def test_a_counter_that_starts_again_counts_on(tmp_path):
    """A restart within the hour."""
    half = START + HOUR + timedelta(minutes=30)
    samples = counted(lambda _: 10, START - 2 * HOUR, half)
    again = counted(lambda _: 10, half + timedelta(minutes=1), RELEASED)
    found = read(tmp_path, {**up(), requests("200"): samples + again})
    # The minute in which it was away is all that is missing.
    assert [hour.n for hour in found] == [600, 590, 600]


def test_what_was_there_before_we_looked_is_not_new(tmp_path):
    """A Prometheus that is new must not take a counter's past for an hour's traffic."""
    begun = START + HOUR + timedelta(minutes=30)
    past = {
        **up(begun),
        requests("200"): [(at, value + 5000) for at, value in counted(lambda _: 10, begun, RELEASED)],
    }
    first, second, third = read(tmp_path, past)
    assert not first.counts
    assert (second.n, second.left_out) == (300, DOWN)
    assert (third.n, third.left_out) == (600, "")


def test_a_gap_loses_no_request(tmp_path):
    """Prometheus stood still for half an hour: its hour is left out, the counts of the others stay right."""
    gap = START + HOUR + timedelta(minutes=10), START + HOUR + timedelta(minutes=40)

    def cut(samples: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(at, value) for at, value in samples if not gap[0].timestamp() < at < gap[1].timestamp()]

    past = {name: cut(samples) for name, samples in {**up(), **traffic()}.items()}
    found = read(tmp_path, past)
    assert [hour.n for hour in found] == [600, 600, 600]
    assert [hour.counts for hour in found] == [True, False, True]
    assert found[1].left_out == DOWN
    assert found[1].up < 0.6


def test_a_gap_at_the_beginning_loses_no_request(tmp_path):
    """What came in it is counted where it was seen first."""
    gap = (START - timedelta(minutes=10)).timestamp(), (START + timedelta(minutes=5)).timestamp()
    past = {
        name: [(at, value) for at, value in samples if not gap[0] < at < gap[1]]
        for name, samples in {**up(), **traffic()}.items()
    }
    assert [hour.n for hour in read(tmp_path, past)] == [700, 600, 600]


def test_an_hour_of_a_service_that_was_down_is_left_out(tmp_path):
    """Under 90 %; five minutes don't matter."""

    def ups(down: timedelta) -> Past:
        dead = START + HOUR, START + HOUR + down
        return {
            series("up"): [
                (at, 0 if dead[0].timestamp() < at <= dead[1].timestamp() else value)
                for at, value in constant(1, START - 2 * HOUR, RELEASED)
            ]
        }

    assert [hour.counts for hour in read(tmp_path / "5", {**traffic(), **ups(timedelta(minutes=5))})] == [True] * 3
    found = read(tmp_path / "7", {**traffic(), **ups(timedelta(minutes=7))})
    assert [hour.left_out for hour in found] == ["", DOWN, ""]


def test_deployments_and_drills_are_left_out(tmp_path):
    """Whatever touches an hour."""
    windows = [
        Window(START + timedelta(minutes=59), START + timedelta(minutes=61), "deployment"),
        Window(START + timedelta(minutes=150), START + timedelta(minutes=151), "drill"),
    ]
    assert [hour.left_out for hour in read(tmp_path, {**up(), **traffic()}, windows)] == [
        "deployment",
        "deployment",
        "drill",
    ]


def test_an_empty_prometheus_has_hours_of_nothing(tmp_path):
    assert [(hour.n, hour.counts) for hour in read(tmp_path, {})] == [(None, False)] * 3


def test_no_answer_is_no_history():
    with Prometheus(f"http://127.0.0.1:{free_port()}") as client:
        assert isinstance(hours(client, START, RELEASED, []), Failed)


def test_weeks_are_read_in_parts_that_join(tmp_path):
    """No minute between two days is lost or counted twice."""
    start = RELEASED - timedelta(days=9)
    past = {
        series("up"): constant(1, start, RELEASED),
        requests("200"): counted(lambda _: 10, start, RELEASED),
    }
    with prometheus_with(past, tmp_path) as url, Prometheus(url) as client:
        found = hours(client, start + HOUR, RELEASED, [])
    assert isinstance(found, list)
    assert [(hour.n, hour.up) for hour in found] == [(600, 1)] * (9 * 24 - 1)


@pytest.mark.parametrize(
    ("moment", "before", "after"),
    [("10:00:00", "10:00:00", "10:00:00"), ("10:00:01", "10:00:00", "11:00:00"), ("10:59:59", "10:00:00", "11:00:00")],
)
def test_only_full_hours_count(moment, before, after):
    day = "2026-11-16T{}+00:00"
    at = datetime.fromisoformat(day.format(moment))
    assert hour_before(at) == datetime.fromisoformat(day.format(before))
    assert hour_after(at) == datetime.fromisoformat(day.format(after))
    # Whatever the zone a time is told in.
    assert hour_after(at.astimezone(timezone(timedelta(hours=5, minutes=30)))) == hour_after(at)


def test_no_full_hour_is_none():
    """Nothing is asked for."""
    with Prometheus(f"http://127.0.0.1:{free_port()}") as client:
        assert hours(client, START + timedelta(minutes=1), START + timedelta(minutes=59), []) == []
        assert hours(client, START + HOUR, START, []) == []


@unhurried
@given(st.lists(st.integers(0, 20), min_size=1), st.sets(st.integers(0, 30)), st.booleans())
def test_a_counter_adds_up_whatever_restarts_it(increments, restarts, known):
    """What all points add up to is what happened, from when we knew of the instance."""
    total, points = 0, []
    for number, increment in enumerate(increments):
        total = increment if number in restarts else total + increment
        points.append((float(number + 1), float(total)))
    found = sum(increase for _, increase in _increases(points, 0.0 if known else None))
    expected = sum(increments)
    # A counter that starts again and is soon above where it was looks like one that went on.
    values = [0.0, *(value for _, value in points)]
    hidden = sum(
        values[number] for number in range(1, len(points)) if number in restarts and points[number][1] >= values[number]
    )
    assert found == expected - hidden - (0 if known else points[0][1])


def an_hour(start: datetime, n: float | None, k: float | None, left_out: str = "") -> Hour:
    return Hour(start, n, k, 1.0, left_out)


def test_each_hour_is_paired_with_the_same_of_the_week():
    """A Monday morning with Monday mornings, two of them if there are two."""
    monday = datetime(2026, 11, 16, 9, tzinfo=UTC)
    week = timedelta(days=7)
    baseline = [
        an_hour(monday - 2 * week, 100, 1),
        an_hour(monday - week, 50, 0),
        an_hour(monday - week + HOUR, 70, 7, "drill"),
        an_hour(monday - week + 2 * HOUR, 80, 8),
    ]
    new = [
        an_hour(monday, 60, 2),
        an_hour(monday + HOUR, 70, 1),
        an_hour(monday + 2 * HOUR, 70, 1, "deployment"),
        an_hour(monday + 24 * HOUR, 70, 1),
    ]
    found = pair(baseline, new)
    assert found.pairs == [Pair(60, 2, 150, 1)]
    assert [hour.start for hour in found.without_partner] == [monday + HOUR, monday + 24 * HOUR]


def test_what_a_journal_says_of_deployments_and_drills(tmp_path):
    """Steps that judge leave the service alone; what has no end is still going on."""
    journal = Journal(tmp_path, "r1")
    written: tuple[tuple[Kind, str], ...] = (
        ("intent", "baseline"),
        ("done", "baseline"),
        ("intent", "migrate"),
        ("failed", "migrate"),
        ("intent", "start"),
        ("done", "start"),
        ("verdict", "watch 1 h"),
        ("intent", "drill errors"),
        ("undo", "drill errors"),
        ("intent", "rollback-quick"),
    )
    for kind, step in written:
        journal.append(kind, step)
    now = datetime.now(UTC) + HOUR / 2
    found = windows_of([journal], now)
    assert [window.why for window in found] == ["deployment", "deployment", "drill", "deployment"]
    at = [entry.moment for entry in journal.entries]
    assert [(window.start, window.end) for window in found] == [
        (at[2], at[3]),
        (at[4], at[5]),
        (at[7], at[8]),
        (at[9], now),
    ]
