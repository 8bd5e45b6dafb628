"""The gates, asked of a real Prometheus with a past: of one that is fine, worse, empty, silent and gone."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from ops.release import baseline, history
from ops.release.gates import GATES, Ground, Result, Status, evaluate
from ops.release.journal import Journal
from ops.release.loading import load
from ops.release.prometheus import Failed, Prometheus, Value
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from ops.stack.ports import free_port
from tests.backfill import Past, prometheus_with
from tests.release_history import RELEASED, WEEK, constant, counted, overhead, requests, series, service
from tests.system import eventually

DASHBOARDS = checkout() / "monitoring" / "grafana" / "dashboards"
TWO_DAYS = timedelta(hours=48)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """URLs of Prometheuses by what their service went through."""
    alert = series("ALERTS", alertname="HighErrorRate", alertstate="firing")
    watchdog = series("ALERTS", alertname="Watchdog", alertstate="firing")
    always = constant(1, RELEASED, RELEASED + TWO_DAYS)
    nine_minutes = constant(1, RELEASED, RELEASED + timedelta(minutes=9))
    pasts: dict[str, Past] = {
        "fine": {**service(0.005, 0.005), watchdog: always},
        "worse": {**service(0.005, 0.06), alert: nine_minutes, watchdog: always},
        "risen": service(0.001, 0.005, a_minute=60),
        "empty": {},
    }
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url(name: str) -> str:
            if name not in urls:
                urls[name] = stack.enter_context(prometheus_with(pasts[name], tmp_path_factory.mktemp(name)))
            return urls[name]

        yield url


def ground_of(client: Prometheus, after: timedelta = TWO_DAYS) -> Ground:
    before = history.hours(client, RELEASED - WEEK, RELEASED, [])
    kept = [] if isinstance(before, Failed) else before
    return Ground(client, kept, RELEASED, RELEASED + after, (), lambda asked, at: load(asked, DASHBOARDS, at))


def said(ground: Ground) -> dict[str, Result]:
    return {result.gate: result for result in evaluate(ground)}


def test_a_release_like_the_one_before_passes_what_can_be_known(worlds):
    """And what nobody has proven is named so."""
    with Prometheus(worlds("fine")) as client:
        found = said(ground_of(client))
    assert {name: result.status for name, result in found.items()} == {
        "error-ratio": Status.PASS,
        "overhead": Status.PASS,
        "pool": Status.PASS,
        "false-positives": Status.NOT_YET_PROVEN,
        "time-to-detect": Status.NOT_YET_PROVEN,
        "dashboards": Status.PASS,
    }
    assert found["error-ratio"].details["verdict"] == "EQUIVALENT"
    assert found["error-ratio"].details["paired_hours"] == 48
    assert found["overhead"].value == "0.99 ms"
    assert found["pool"].value == "10%"
    assert found["false-positives"].details == {"fired": []}
    assert len(found["dashboards"].details["seconds"]) == 5
    assert all(result.bound and result.advice and result.about for result in found.values())


def test_a_worse_release_fails_and_says_what_to_do(worlds):
    with Prometheus(worlds("worse")) as client:
        found = said(ground_of(client))
    ratio = found["error-ratio"]
    assert ratio.status is Status.FAIL
    assert "WORSE" in ratio.value
    assert "rollback quick" in ratio.advice
    assert found["false-positives"].details == {"fired": ["HighErrorRate"]}
    line = ratio.finding()
    assert (line.verdict, line.bound) == ("failed", "equivalent within ±2 points")


def test_a_rise_inside_the_margin_wants_a_person(worlds):
    """0.1 % to 0.5 %: equivalent by the margin, five times the errors."""
    with Prometheus(worlds("risen")) as client:
        ratio = said(ground_of(client))["error-ratio"]
    assert ratio.status is Status.WANTS_A_WORD
    assert ratio.details["verdict"] == "EQUIVALENT"
    assert "--waive" in ratio.advice


def test_a_day_is_the_least(worlds):
    """It says what is not excluded, and for how long to wait."""
    with Prometheus(worlds("fine")) as client:
        ratio = said(ground_of(client, timedelta(hours=5)))["error-ratio"]
    assert ratio.status is Status.INSUFFICIENT
    assert "is not excluded" in ratio.value
    assert "19 hours more" in ratio.advice


def test_an_hour_that_is_not_over_is_waited_for(worlds):
    """Not: there was no traffic."""
    with Prometheus(worlds("fine")) as client:
        ratio = said(ground_of(client, timedelta(minutes=50)))["error-ratio"]
        alone = said(replace(ground_of(client), baseline=[]))["error-ratio"]
    assert ratio.status is Status.INSUFFICIENT
    assert "no full hour is over yet" in ratio.advice
    assert ratio.finding().value.count("INSUFFICIENT") == 1
    assert alone.status is Status.INSUFFICIENT
    assert "No hour has a partner in the baseline: 0 were left out, 48 have none" in alone.advice


def test_plain_harm_is_said_early(worlds):
    with Prometheus(worlds("worse")) as client:
        ratio = said(ground_of(client, timedelta(hours=6)))["error-ratio"]
    assert ratio.status is Status.INSUFFICIENT
    assert "ALREADY WORSE" in ratio.value
    assert "rollback quick" in ratio.advice


ASKING = sorted(set(GATES) - {"time-to-detect", "false-positives"})


@pytest.mark.parametrize("gate", ASKING)
def test_nothing_opens_no_gate(worlds, gate):
    """An empty Prometheus has no errors, no slow layer, no full pool."""
    with Prometheus(worlds("empty")) as client:
        found = said(replace(ground_of(client), loads=None))[gate]
    assert not found.passes
    assert found.status in {Status.NO_VALUE, Status.INSUFFICIENT, Status.NOT_YET_PROVEN}


def test_no_answer_opens_no_gate():
    """Down, and slow."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port, timeout_s in ((free_port(), 5.0), (silent.getsockname()[1], 0.1)):
            with Prometheus(f"http://127.0.0.1:{port}", timeout_s) as client:
                found = said(ground_of(client))
            assert {name: result.status for name, result in found.items()} == {
                **dict.fromkeys(GATES, Status.NO_VALUE),
                "false-positives": Status.NOT_YET_PROVEN,
                "time-to-detect": Status.NOT_YET_PROVEN,
            }
            assert all("no answer" in found[name].value for name in ASKING)


def one_gate(folder: Path, gate: str, past: Past) -> Result:
    with prometheus_with(past, folder) as url, Prometheus(url) as client:
        return GATES[gate](Ground(client, [], RELEASED, RELEASED + TWO_DAYS))


@pytest.mark.parametrize(
    ("over_1_ms", "a_minute", "status"),
    [
        (0.0008, 10, Status.PASS),
        (0.0012, 10, Status.FAIL),
        # 500 requests.
        (0.0008, 500 / 2880, Status.INSUFFICIENT),
        (0.0008, 0, Status.INSUFFICIENT),
    ],
)
def test_the_layer_may_take_a_millisecond_of_one_request_in_a_thousand(tmp_path, over_1_ms, a_minute, status):
    past = overhead(counted(lambda _: a_minute, RELEASED, RELEASED + TWO_DAYS), over_1_ms)
    assert one_gate(tmp_path, "overhead", past).status is status


@pytest.mark.parametrize(("worst", "status"), [(9, Status.PASS), (10, Status.FAIL), (19, Status.FAIL)])
def test_the_fullest_pool_at_its_worst_moment_counts(tmp_path, worst, status):
    """One minute, of one service of two, in two days."""
    moment = (RELEASED + timedelta(hours=30, minutes=7)).timestamp()
    taken = [(at, worst if at == moment else 1) for at, _ in constant(1, RELEASED, RELEASED + TWO_DAYS)]
    name, most = "commandcenter_db_pool_connections", "commandcenter_db_pool_max_connections"
    past = {
        series(name, state="checked_out"): constant(1, RELEASED, RELEASED + TWO_DAYS),
        series(name, state="idle"): constant(19, RELEASED, RELEASED + TWO_DAYS),
        series(most): constant(20, RELEASED, RELEASED + TWO_DAYS),
        series(name, state="checked_out", service="worker"): taken,
        series(most, service="worker"): constant(20, RELEASED, RELEASED + TWO_DAYS),
    }
    found = one_gate(tmp_path, "pool", past)
    assert found.status is status
    assert found.details["value"] == worst / 20


def test_a_pool_that_may_hold_nothing_is_no_number(tmp_path):
    """0 of 0 taken is not: none taken."""
    past = {
        series("commandcenter_db_pool_connections", state="checked_out"): constant(0, RELEASED, RELEASED + TWO_DAYS),
        series("commandcenter_db_pool_max_connections"): constant(0, RELEASED, RELEASED + TWO_DAYS),
    }
    found = one_gate(tmp_path, "pool", past)
    assert (found.status, found.value) == (Status.NO_VALUE, "NaN, which is no number")


def test_a_dashboard_with_a_query_that_fails_has_no_time(worlds, tmp_path):
    content = json.loads((DASHBOARDS / "golden-signals.json").read_text())
    next(panel for panel in content["panels"] if panel["datasource"]["type"] == "prometheus")["targets"][0]["expr"] = (
        "sum("
    )
    (tmp_path / "golden-signals.json").write_text(json.dumps(content))
    with Prometheus(worlds("fine")) as client:
        found = GATES["dashboards"](replace(ground_of(client), loads=lambda asked, at: load(asked, tmp_path, at)))
        none = load(client, tmp_path / "nowhere", RELEASED)
    assert found.status is Status.NO_VALUE
    assert "parse error" in found.value
    assert isinstance(none, Failed)


# --- The baseline


def checked(url: str) -> tuple[dict[str, Result], list[history.Hour] | Failed]:
    with Prometheus(url) as client:
        hours = history.hours(client, RELEASED - WEEK, RELEASED, [])
        ground = replace(ground_of(client), since=RELEASED - WEEK, until=RELEASED)
        return {result.gate: result for result in baseline.check(ground, hours)}, hours


def test_a_baseline_wants_a_value_of_every_gate(worlds):
    found, _ = checked(worlds("fine"))
    assert tuple(found) == baseline.CHECKED
    assert {result.status for result in found.values()} == {Status.PASS}
    assert "168 of 168 hours count" in found["error-ratio"].value
    assert found["partners"].value == "48 of 48"


def test_a_baseline_of_nothing_is_none(worlds):
    found, _ = checked(worlds("empty"))
    assert {name for name, result in found.items() if result.passes} <= {"false-positives", "dashboards"}
    assert "--without overhead=REASON" in found["overhead"].advice


def test_a_baseline_without_an_answer_is_none():
    found, _ = checked(f"http://127.0.0.1:{free_port()}")
    assert not [name for name, result in found.items() if result.passes]


def test_a_baseline_of_another_weekday_has_no_partners(tmp_path):
    """Two days of history before a Monday are a weekend."""
    start = RELEASED - timedelta(days=2)
    past = {
        series("up"): constant(1, start, RELEASED),
        requests("200"): counted(lambda _: 10, start, RELEASED),
    }
    with prometheus_with(past, tmp_path) as url:
        found, _ = checked(url)
    assert found["error-ratio"].passes
    assert not found["partners"].passes
    assert found["partners"].value == "0 of 48"


def test_a_baseline_is_kept_and_cannot_be_exchanged(worlds, tmp_path):
    """It is what the release was promised to be judged by."""
    results, hours = checked(worlds("fine"))
    assert isinstance(hours, list)
    journal = Journal(tmp_path, "r1")
    with pytest.raises(StackError, match="no baseline"):
        baseline.load(tmp_path, journal)
    made = baseline.Baseline(RELEASED - WEEK, RELEASED, "http://127.0.0.1", hours)
    digest = baseline.save(made, results.values(), tmp_path)
    journal.append("done", baseline.STEP, evidence={"sha256": digest})
    assert baseline.load(tmp_path, journal) == made
    path = tmp_path / baseline.FILE
    path.write_text(path.read_text().replace('"k": 1', '"k": 9', 1))
    with pytest.raises(StackError, match="changed"):
        baseline.load(tmp_path, journal)


def test_what_gates_ask_for_is_there_in_the_real_system(lived):
    """A metric or label that is renamed must not make a gate blind."""
    with Prometheus(lived.prometheus_url) as client:

        def has_values(gate: str) -> bool:
            now = datetime.now(UTC)
            found = GATES[gate](Ground(client, [], now - timedelta(minutes=5), now))
            answers = [client.instant(query) for query in found.queries]
            return found.status is not Status.NO_VALUE and all(isinstance(each, Value) for each in answers)

        # The pool is looked at every 15 seconds.
        for gate in ("overhead", "pool"):
            eventually(partial(has_values, gate), within_s=40, what=f"values for {gate}")
        requested = client.vector(history.REQUESTS)
        up = client.vector(history.UP)
        assert isinstance(requested, list)
        assert isinstance(up, list)
        assert {each.labels["status"][0] for each in requested} >= {"2", "4", "5"}
        # Births are told by the instance that was up before.
        assert {each.labels["instance"] for each in requested} == {each.labels["instance"] for each in up}
        assert client.vector('ALERTS{alertstate="firing",alertname="Watchdog"}')
