"""Which bytes of which files are looked at."""

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.trace import source
from ops.trace.query import Archive
from ops.trace.source import log_files, scan

ALPHABET = "ABCXYZabcxyz019._-"
IDS = st.text(ALPHABET, min_size=1, max_size=6)


def write(folder: Path, name: str, *records: dict[str, Any]) -> Path:
    path = folder / name
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in records))
    return path


def line(event: str, request_id: str = "r", second: int = 0, **keys: Any) -> dict[str, Any]:
    at = f"2026-11-24T08:00:{second:02d}.000000Z"
    return {"timestamp": at, "event": event, "service": "api", "pid": 1, "request_id": request_id} | keys


def test_rotated_files_are_read_oldest_first(tmp_path):
    for name in ("api.log", "api.log.1", "api.log.2", "api.log.10", "api.log-20261120.gz", "worker.log", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.path.name for file in log_files(tmp_path)] == [
        "api.log-20261120.gz",
        "api.log.10",
        "api.log.2",
        "api.log.1",
        "api.log",
        "worker.log",
    ]


def test_equal_times_across_a_rotation_stay_in_order(tmp_path):
    write(tmp_path, "api.log", line("third"), line("request.finished", duration_ms=1))
    write(tmp_path, "api.log.1", line("second"))
    (tmp_path / "api.log.2.gz").write_bytes(gzip.compress(orjson.dumps(line("first")) + b"\n"))
    (story,) = Archive(tmp_path).trace("r").stories
    assert [one.event for one in story.requests[0].lines] == ["first", "second", "third"]


def test_a_file_seen_by_two_names_counts_once(tmp_path):
    """A rotation while we look may show one file under both names."""
    os.link(write(tmp_path, "api.log", line("once")), tmp_path / "api.log.1")
    (story,) = Archive(tmp_path).trace("r").stories
    assert [one.event for one in story.requests[0].lines] == ["once"]


@given(st.data())
def test_an_id_never_matches_within_another(tmp_path_factory, data):
    """`req-1` is not `req-10`: one customer's story must not show another's lines."""
    folder = tmp_path_factory.mktemp("logs")
    ids = data.draw(st.lists(IDS, min_size=1, max_size=12))
    wanted = data.draw(st.sampled_from(ids))
    write(folder, "api.log", *(line(f"about {one}", one, note=wanted) for one in ids))
    prefix = "2026-11-24 08:00:00.000 UTC [1]"
    text = [f"{prefix} app={one} user=u db=d LOG:  duration: 1.000 ms  statement: SELECT '{one}'\n" for one in ids]
    (folder / "postgres.log").write_text("".join(text))
    (story,) = Archive(folder).trace(wanted).stories
    assert story.request_id == wanted
    assert [one.event for one in story.requests[0].lines] == [f"about {wanted}"] * ids.count(wanted)
    assert [one.text for one in story.database.statements] == [f"SELECT '{wanted}'"] * ids.count(wanted)


@given(st.lists(st.binary(max_size=200) | st.just(b'{"request_id":"r"}') | st.just(b"app=r user=u"), max_size=6))
def test_any_bytes_in_log_files_are_survived(tmp_path_factory, chunks):
    folder = tmp_path_factory.mktemp("logs")
    for name in ("api.log", "postgres.log", "worker.log.1.gz"):
        (folder / name).write_bytes(b"\n".join(chunks))
    archive = Archive(folder)
    archive.trace("r")
    archive.errors()


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 4096])
def test_records_over_block_borders_are_whole(tmp_path, monkeypatch, chunk_bytes):
    """Blocks end anywhere; lines and statements of several lines do not."""
    monkeypatch.setattr(source, "_CHUNK_BYTES", chunk_bytes)
    write(tmp_path, "api.log", *(line(f"e{second}", second=second) for second in range(5)))
    prefix = "2026-11-24 08:00:00.000 UTC [1] app=r user=u db=d LOG:  duration: 1.000 ms  statement: "
    (tmp_path / "postgres.log").write_text(f"{prefix}SELECT 1\n\tFROM a\n{prefix}SELECT 2\n\tFROM b\n")
    (story,) = Archive(tmp_path).trace("r").stories
    assert [one.event for one in story.requests[0].lines] == ["e0", "e1", "e2", "e3", "e4"]
    assert [one.text for one in story.database.statements] == ["SELECT 1\nFROM a", "SELECT 2\nFROM b"]


def test_cut_off_lines_are_counted(tmp_path):
    path = write(tmp_path, "api.log", line("whole"))
    path.write_bytes(path.read_bytes() + b'{"timestamp":"2026-11-24T08:00:01Z","request_id":"r","ev')
    found = Archive(tmp_path).trace("r")
    assert found.searched.malformed_lines == 1
    assert len(found.stories) == 1
    path.write_bytes(path.read_bytes().replace(b'"request_id":"r","ev', b'"request_id":"r-2","ev'))
    assert Archive(tmp_path).trace("r").searched.malformed_lines == 0


def test_a_broken_archive_is_said_and_the_rest_read(tmp_path):
    write(tmp_path, "api.log", line("here"))
    (tmp_path / "api.log.1.gz").write_bytes(gzip.compress(orjson.dumps(line("gone")) * 100)[:40])
    found = Archive(tmp_path).trace("r")
    assert [bool(file.problem) for file in found.searched.files] == [True, False]
    assert len(found.stories) == 1


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_CHUNK_BYTES", 1024)
    monkeypatch.setattr(source, "_MAX_RECORD_BYTES", 4096)
    (tmp_path / "api.log").write_bytes(b"x" * 100_000 + b"\n" + orjson.dumps(line("after")) + b"\n")
    found = Archive(tmp_path).trace("r")
    assert found.searched.malformed_lines > 0
    assert len(found.stories) == 1


def test_files_older_than_since_are_left_alone(tmp_path):
    old = write(tmp_path, "api.log.1", line("old"))
    past = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    os.utime(old, (past, past))
    write(tmp_path, "api.log", line("new", second=30), line("newer", second=40))
    found = Archive(tmp_path, datetime(2026, 11, 24, 8, 0, 35, tzinfo=UTC)).trace("r")
    assert [file.skipped for file in found.searched.files] == [True, False]
    assert [one.event for one in found.stories[0].requests[0].lines] == ["newer"]


def test_the_period_of_each_file_is_known(tmp_path):
    write(tmp_path, "api.log", {"no": "time"}, line("a", second=1), line("b", second=9), {"no": "time"})
    files = log_files(tmp_path)
    assert list(scan(files, lambda _: [b"nothing like it"])) == []
    start = datetime(2026, 11, 24, 8, tzinfo=UTC)
    assert (files[0].first_at, files[0].last_at) == (start + timedelta(seconds=1), start + timedelta(seconds=9))


def test_task_and_trace_ids_lead_to_the_request(tmp_path):
    """On-call has whichever ID the screen before them shows."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    write(tmp_path, "api.log", line("task.sent", trace_id=trace_id, sent_task_id="T", sent_task="work"), line("other"))
    for wanted, key in (("T", "sent_task_id"), (trace_id, "trace_id"), ("r", "request_id")):
        found = Archive(tmp_path).trace(wanted)
        assert found.found_as == [key]
        assert [story.request_id for story in found.stories] == ["r"]
        assert [one.event for one in found.stories[0].requests[-1].lines] == ["other"]


def test_one_trace_id_may_lead_to_many_requests(tmp_path):
    """A browser may put all of a day under one trace; the first twenty are told, the rest is named."""
    write(tmp_path, "api.log", *(line("x", f"r{number}", trace_id="f" * 32) for number in range(25)))
    found = Archive(tmp_path).trace("f" * 32)
    assert (len(found.stories), found.more_request_ids) == (20, [f"r{number}" for number in range(20, 25)])
