"""What the API tells Prometheus, by whatever name it is asked and whatever is thrown at it."""

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.system import System, eventually

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
FAMILIES = {
    *("http_requests", "http_request_duration_seconds", "http_requests_in_progress", "commandcenter_errors"),
    *("commandcenter_observability_overhead_seconds", "commandcenter_db_query_duration_seconds"),
    *(
        "commandcenter_db_pool_connections",
        "commandcenter_db_pool_max_connections",
        "commandcenter_db_pool_wait_seconds",
    ),
    *("commandcenter_db_pool_timeouts", "commandcenter_repository_operations", "commandcenter_alerts_received"),
    "commandcenter_build_info",
}
# Methods that the server's parser knows and we don't; others never get past it.
FAKE = (
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "BIND", "REBIND", "UNBIND", "ACL"),
    *("REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE"),
)
ALERTS = {
    "version": "4",
    "status": "firing",
    "receiver": "backend",
    "alerts": [{"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-11-24T08:00:00Z"}],
}


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    """A client that has caused each kind of traffic."""
    with system.client() as client:
        client.get("/api/v1/repositories")
        client.get("/api/v1/repositories/4711")
        client.post("/api/v1/repositories", json={"url": "https://git.example.org/metrics/x"})
        client.post("/api/v1/alerts/webhook", json=ALERTS)
        yield client


def series(client: httpx.Client, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return all series of one name, by labels."""
    found = {}
    for family in parse_text(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                found[frozenset(sample.labels.items())] = sample.value
    return found


def test_both_formats_tell_the_same_families(client: httpx.Client) -> None:
    """Prometheus asks for one or the other, by its version; each must parse as what it says it is."""
    plain = client.get("/api/v1/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    openmetrics = client.get("/metrics", headers=OPENMETRICS)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    parsed = openmetrics_parser.text_string_to_metric_families(openmetrics.text)  # type: ignore[no-untyped-call]
    names = {family.name for family in parsed}
    assert names >= FAMILIES, FAMILIES - names
    assert {family.name for family in parse_text(plain.text)} >= FAMILIES


def test_handlers_are_route_templates(client: httpx.Client) -> None:
    """One series a route, whatever stands in its place-holders."""
    for number in range(4700, 4720):
        client.get(f"/api/v1/repositories/{number}")
        client.get(f"/api/v1/jobs/01900000-0000-7000-8000-00000000{number}")
    handlers = {dict(labels)["handler"] for labels in series(client, "http_requests_total")}
    assert {"/api/v1/repositories/{id}", "/api/v1/jobs/{id}", "/api/v1/repositories"} <= handlers
    assert not [handler for handler in handlers if re.search(r"\d{3}", handler)]


def test_a_routes_failures_are_there_before_the_first_one(client: httpx.Client) -> None:
    """`increase()` does not see the failure a counter is born with, nor an outage between two scrapes."""
    client.get("/api/v1/jobs")
    counted = {
        (dict(labels)["handler"], dict(labels)["status"]): value
        for labels, value in series(client, "http_requests_total").items()
    }
    assert counted["/api/v1/jobs", "500"] == 0
    assert counted["/api/v1/jobs", "503"] == 0


def test_made_up_paths_and_methods_add_no_series_of_their_own(client: httpx.Client) -> None:
    """Anybody can send them: they must not cost us memory, in Prometheus least of all."""
    client.get("/nothing")
    client.request("TRACE", "/nothing")
    client.request("TRACE", "/api/v1/repositories")
    before = series(client, "http_requests_total").keys()
    for number in range(50):
        assert client.get(f"/random/{number}/path").status_code == 404
    for number in range(20):
        assert client.request(FAKE[number], f"/random/{number}").status_code == 404
        assert client.request(FAKE[number], "/api/v1/repositories").status_code == 405
    after = series(client, "http_requests_total").keys()
    added = [dict(labels) for labels in after - before]
    # At most: the other process of the API had not seen one of the two yet.
    assert {(each["method"], each["handler"]) for each in added} <= {
        *(("GET", "unmatched"), ("OTHER", "unmatched"), ("OTHER", "/api/v1/repositories"))
    }
    assert len(added) <= 5
    labels = {(dict(each)["method"], dict(each)["handler"]) for each in after}
    assert ("OTHER", "unmatched") in labels
    assert not {method for method, _ in labels} & {*FAKE, "TRACE"}


def test_a_refusal_is_counted_as_an_error_of_its_endpoint(client: httpx.Client) -> None:
    """The dashboards' 4xx by endpoint."""
    label = frozenset({("endpoint", "/api/v1/repositories/{id}"), ("status_code", "404"), ("error_type", "AppError")})
    before = series(client, "commandcenter_errors_total").get(label, 0)
    client.get("/api/v1/repositories/4711")
    assert series(client, "commandcenter_errors_total")[label] == before + 1


def test_build_info_tells_the_version(client: httpx.Client) -> None:
    """A release is judged by it."""
    [labels] = series(client, "commandcenter_build_info")
    assert dict(labels).keys() == {"version", "commit"}


def test_the_processes_of_the_api_count_together(system: System) -> None:
    """Prometheus asks whichever of them it gets: what the others counted must be in the answer."""
    label = frozenset({("method", "DELETE"), ("handler", "unmatched"), ("status", "404")})

    def counted() -> float:
        with system.client() as client:
            return series(client, "http_requests_total").get(label, 0)

    before, asked = counted(), 0
    pids = set[int]()

    def both_answered() -> bool:
        nonlocal asked
        # A connection each, which either process may take; the line is written when the request was counted.
        with system.client() as client:
            request_id = client.delete("/counted/together").headers["X-Request-ID"]
        asked += 1
        pids.add(system.wait_for_line("api", event="request.finished", request_id=request_id)["pid"])
        return len(pids) == 2

    eventually(both_answered, within_s=60, what="an answer of each process")
    assert counted() == before + asked
