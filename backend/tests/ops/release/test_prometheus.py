"""A value, nothing, not a number and no answer: four answers, from a real Prometheus and from none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ops.release.prometheus import Empty, Failed, NotANumber, Prometheus, Value, said
from ops.stack.ports import free_port
from tests.backfill import prometheus_with

START = 1_794_000_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    past = {
        'figure{of="one"}': [(START + 60 * minute, minute) for minute in range(30)],
        'figure{of="two"}': [(START + 60 * minute, 2 * minute) for minute in range(30)],
        "zero": [(START + 60 * minute, 0) for minute in range(30)],
    }
    with prometheus_with(past, tmp_path_factory.mktemp("past")) as address:
        yield address


@pytest.fixture
def prometheus(url: str) -> Iterator[Prometheus]:
    with Prometheus(url) as client:
        yield client


AT = START + 60 * 20


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ('figure{of="one"}', Value(20)),
        ("zero", Value(0)),
        ("1 + 1", Value(2)),
        ("nowhere", Empty()),
        ("zero / zero", NotANumber("NaN")),
        ("1 / zero", NotANumber("+Inf")),
        ("0/0", NotANumber("NaN")),
    ],
)
def test_each_answer_is_what_it_is(prometheus, query, answer):
    """Zero is a value; nothing is none."""
    assert prometheus.instant(query, AT) == answer


def test_several_series_are_no_number(prometheus):
    """One of them would be chance."""
    found = prometheus.instant("figure", AT)
    assert found == Failed("the query gives 2 series where one is wanted")
    several = prometheus.vector("figure", AT)
    assert {each.labels["of"]: each.value for each in several} == {"one": Value(20), "two": Value(40)}


def test_a_wrong_query_says_what_is_wrong_with_it(prometheus):
    found = prometheus.instant("sum(", AT)
    assert isinstance(found, Failed)
    assert "parse error" in found.why
    assert isinstance(prometheus.range("sum(", START, AT, 60), Failed)


def test_a_range_has_every_point(prometheus):
    lines = {line.labels["of"]: line.points for line in prometheus.range("figure", START, AT, 60)}
    assert lines["one"] == [(START + 60 * minute, minute) for minute in range(21)]
    assert len(lines["two"]) == 21
    assert prometheus.range("nowhere", START, AT, 60) == []


def test_more_points_than_prometheus_gives_at_once_are_asked_for_in_parts(prometheus):
    """It refuses a range of over 11,000."""
    lines = prometheus.range('figure{of="one"}', START - 7200, START + 1740, 0.5)
    (line,) = lines
    times = [at for at, _ in line.points]
    assert times == sorted(set(times))
    assert times[0] == START
    assert times[-1] == START + 1740


def test_one_that_is_down_is_no_answer():
    with Prometheus(f"http://127.0.0.1:{free_port()}") as client:
        found = client.instant("1")
    assert isinstance(found, Failed)
    assert "can't be reached" in found.why


def test_one_that_is_slow_is_no_answer():
    """It takes the connection, and says nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Prometheus(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2) as client,
    ):
        found = client.instant("1")
    assert found == Failed(f"{client.url} took longer than 0.2 s")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>log in</html>", "not as Prometheus does"),
        (502, b"bad gateway", "answers 502"),
        (200, b"[]", "not as Prometheus does"),
        (200, b'{"status": "success"}', "answers 200"),
        (200, b'{"status": "success", "data": {"result": 1}}', "another form"),
        (503, b'{"status": "error", "error": "too many queries"}', "too many queries"),
        (200, b'{"status": "success", "data": {"result": []}, "warnings": ["store is gone"]}', "store is gone"),
    ],
)
def test_what_is_no_prometheus_is_no_answer(status, body, why):
    """A login page of a proxy has status 200; a part of the data is not the data."""
    with answering(status, body) as address, Prometheus(address) as client:
        for found in (client.instant("1"), client.range("1", 0, 60, 60)):
            assert isinstance(found, Failed)
            assert why in found.why


def test_a_password_in_the_address_is_used_and_never_shown(url):
    with Prometheus(url.replace("http://", "http://operator:hunter2@")) as client:
        assert client.instant("1") == Value(1)
        assert client.url == url
    with Prometheus(f"http://operator:hunter2@127.0.0.1:{free_port()}") as client:
        found = client.instant("1")
    assert isinstance(found, Failed)
    assert "hunter2" not in found.why


def test_people_read_words():
    assert [said(each) for each in (Value(0.25), Empty(), NotANumber("NaN"), Failed("down"))] == [
        "0.25",
        "no data",
        "NaN, which is no number",
        "no answer: down",
    ]
