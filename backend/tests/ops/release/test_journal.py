"""The journal: what a crash leaves, what a hand changes, what it never holds."""

import hashlib
import json
import secrets
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.release.journal import FILE, Journal, read
from ops.release.scrubbing import MASK, SecretRefused, refuse, scrubbed
from ops.release.state import Kind, digest, fold
from ops.stack.errors import StackError

STEPS = ("backup", "migrate", "start")
plain = st.dictionaries(
    st.sampled_from(["figure", "path", "versions", "why"]),
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=12)),
    max_size=3,
)
moves = st.lists(st.tuples(st.sampled_from(get_args(Kind)), st.sampled_from(STEPS), plain), min_size=1, max_size=8)
in_one_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A fresh folder for each example."""
    return lambda: tmp_path_factory.mktemp("release")


def written(folder: Path, some) -> Journal:
    journal = Journal(folder, "r1")
    for kind, step, evidence in some:
        journal.append(kind, step, inputs={"step": step}, evidence=evidence)
    return journal


@in_one_folder
@given(moves, st.data())
def test_after_a_cut_anywhere_the_state_is_that_of_the_longest_valid_prefix(folders, some, data):
    """A crash may end a write at any byte."""
    folder = folders()
    whole = written(folder, some)
    content = whole.path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    whole.path.write_bytes(content[:at])
    complete = content[:at].count(b"\n")
    left = Journal(folder, "r1")
    assert left.entries == whole.entries[:complete]
    assert left.state() == fold(whole.entries[:complete])
    assert left.torn == content[:at].rpartition(b"\n")[2]
    # Reading repairs nothing.
    assert left.path.read_bytes() == content[:at]
    left.append("done", "start")
    again = Journal(folder, "r1")
    assert again.torn == b""
    assert again.entries[:complete] == whole.entries[:complete]
    assert again.entries[-1].step == "start"
    if left.entries[complete].step == "journal":
        kept = folder / left.entries[complete].evidence["kept_in"]
        assert kept.read_bytes() == content[:at].rpartition(b"\n")[2]


@in_one_folder
@given(moves, st.data())
def test_any_changed_byte_is_detected(folders, some, data):
    """A journal that was edited must not be believed, nor looked away from."""
    content = bytearray(written(folders(), some).path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    if at == len(content) - 1:
        # Without its line break, the last line cannot be told from one that a crash left.
        assert read(bytes(content), "r1")[1]
    else:
        with pytest.raises(StackError, match="line"):
            read(bytes(content), "r1")


@in_one_folder
@given(moves.filter(lambda some: len(some) > 1), st.data())
def test_a_line_that_is_missing_doubled_or_moved_is_detected(folders, some, data):
    """Each line follows on the one before."""
    lines = written(folders(), some).path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 2))
    for wrong in (
        lines[:at] + lines[at + 1 :],
        [*lines[: at + 1], *lines[at:]],
        [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    ):
        with pytest.raises(StackError, match=f"line {at + 1}|line {at + 2}"):
            read(b"".join(wrong), "r1")


def test_a_line_that_was_written_anew_is_detected(tmp_path):
    """Who changes a line and works out its hash, too, must change all that follow."""
    journal = written(tmp_path, [("failed", "migrate", {}), ("done", "start", {})])
    first, second = journal.path.read_bytes().splitlines(keepends=True)
    body = first.rpartition(b',"hash"')[0].replace(b'"failed"', b'"done"')
    forged = body + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    with pytest.raises(StackError, match=r"line 2 .* does not follow"):
        read(forged + second, "r1")


def test_a_journal_fits_its_own_release_only(tmp_path):
    """A folder that was copied must not speak for another release."""
    journal = written(tmp_path, [("done", "backup", {})])
    with pytest.raises(StackError, match="line 1"):
        Journal(tmp_path, "r2")
    assert journal.head != Journal(tmp_path / "other", "r1").head
    assert Journal(tmp_path / "a", "r1").head != Journal(tmp_path / "b", "r2").head


def test_an_intent_without_an_end_asks_reality(tmp_path):
    """Nobody knows whether a step that was cut off happened."""
    journal = Journal(tmp_path, "r1")
    journal.append("intent", "migrate", inputs={"to": "head"})
    assert journal.state().unknown == ("migrate",)
    assert not journal.state().is_done("migrate")
    journal.append("done", "migrate", inputs={"to": "head"})
    assert journal.state().unknown == ()
    assert journal.state().is_done("migrate", {"to": "head"})
    # With other inputs it is another thing to do.
    assert not journal.state().is_done("migrate", {"to": "other"})
    journal.append("intent", "migrate", evidence={"undoing": True})
    assert journal.state().unknown == ("migrate",)
    journal.append("undo", "migrate")
    assert journal.state().steps["migrate"].status == "undone"
    journal.append("failed", "migrate")
    assert journal.state().steps["migrate"].status == "failed"


def test_verdicts_and_approvals_change_no_step(tmp_path):
    """A judgement of a step is not the step."""
    journal = Journal(tmp_path, "r1")
    journal.append("done", "start")
    journal.append("verdict", "start", evidence={"verdict": "WORSE"})
    journal.append("approval", "start", evidence={"reason": "known"})
    journal.append("verdict", "start", evidence={"verdict": "EQUIVALENT"})
    state = journal.state()
    assert state.is_done("start")
    assert [each.evidence["verdict"] for each in state.verdicts["start"]] == ["WORSE", "EQUIVALENT"]
    assert len(state.approvals["start"]) == 1


def test_each_line_says_who_when_and_on_what(tmp_path):
    """Weeks later, nobody remembers. The time has its zone, the inputs only their hash."""
    written(tmp_path, [("done", "backup", {"path": "dump"})])
    line = json.loads((tmp_path / FILE).read_text())
    assert line["release"] == "r1"
    assert "@" in line["who"]
    assert line["at"].endswith("+00:00")
    assert line["inputs"] == digest({"step": "backup"})
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_what_another_wrote_meanwhile_is_followed_on(tmp_path):
    """A watch by a timer and a person at the keyboard write to one journal."""
    first, second = Journal(tmp_path, "r1"), Journal(tmp_path, "r1")
    for number in range(3):
        first.append("verdict", "a", evidence={"number": number})
        second.append("verdict", "b", evidence={"number": number})
    assert Journal(tmp_path, "r1").entries == second.entries
    assert [entry.step for entry in second.entries] == ["a", "b"] * 3


def test_two_writers_at_once_lose_no_line(tmp_path):
    """Neither waits for the other to finish."""
    script = (
        "import sys, pathlib; from ops.release.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), 'r1')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(100): journal.append('verdict', sys.argv[2], evidence={'number': number})"
    )
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, str(tmp_path), name],
                    cwd=Path(__file__).parents[3],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for name in ("a", "b")
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        assert [writer.wait() for writer in writers] == [0, 0]
    verdicts = Journal(tmp_path, "r1").state().verdicts
    assert {name: [each.evidence["number"] for each in found] for name, found in verdicts.items()} == {
        "a": list(range(100)),
        "b": list(range(100)),
    }


def test_a_lost_lock_stops_the_pen(tmp_path):
    """Who was taken over must not write on."""

    def lost() -> None:
        raise StackError("lost", "", 7)

    journal = Journal(tmp_path, "r1", before_append=lost)
    with pytest.raises(StackError):
        journal.append("done", "backup")
    assert not journal.path.exists()


def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    """A full disk, or a right that is gone: in words, and with nothing half done."""
    journal = Journal(tmp_path, "r1")
    journal.path.mkdir()
    with pytest.raises(StackError, match="can't be written"):
        journal.append("done", "backup")
    assert journal.entries == ()


@pytest.mark.parametrize("release", ["", "..", "a/b", "-x", "x" * 64, "a b", "ü"])
def test_an_id_is_no_path(tmp_path, release):
    with pytest.raises(StackError):
        Journal(tmp_path, release)


SECRETS = [
    {"password": "hunter2hunter2"},
    {"DB_PASSWORD": "x"},
    {"nested": [{"api_token": "x"}]},
    {"rows": {"api_tokens": "5"}},
    {"passwords": [5]},
    {"url": "postgresql://commandcenter:hunter2@127.0.0.1/commandcenter"},
    {"said": "could not connect with password=hunter2"},
    {"sql": "ALTER ROLE exporter_user PASSWORD 'hunter2'"},
    {"sql": "ALTER ROLE exporter_user PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'"},
    {"command": "pg_dump --password hunter2"},
    {"header": "Authorization: Bearer abcdefghijklmnop"},
    {"text": "ghp_0123456789abcdefABCD"},
    {"text": "-----BEGIN RSA PRIVATE KEY-----\nMIIE"},
    {"environment": "EXPORTER_PASSWORD=hunter2"},
    {"postgresql://u:hunter2@h/d": 1},
    {"value": "correct horse battery staple"},
]
FINE = [
    {"command": "docker compose -f docker-compose.prod.yml up -d", "took_s": 3.2},
    {"digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
    {"error": "password authentication failed for user commandcenter"},
    {"has_password": True, "token": None, "secret": ""},
    # A table may be called so, and its rows are counted.
    {"rows": {"api_tokens": 5, "repositories": 2}, "tokens": 0.5},
    {"url": "http://127.0.0.1:9090", "query": 'sum(rate(http_requests_total{status=~"5.."}[5m]))'},
    {"path": "/var/lib/commandcenter/releases/20261124T200825Z-d3cbd22/baseline.json"},
    {"missing": ["SECRET_KEY", "EXPORTER_PASSWORD"], "weak": "API_TOKEN is shorter than 32 characters"},
]


@pytest.mark.parametrize("evidence", SECRETS)
def test_a_secret_is_refused_and_not_quoted(tmp_path, evidence):
    """What is in a journal is in its copies too."""
    journal = Journal(tmp_path, "r1", secrets=["correct horse battery staple"])
    for place in ("evidence", "inputs"):
        with pytest.raises(SecretRefused) as refused:
            journal.append("done", "start", **{place: evidence})
        assert "hunter2" not in str(refused.value)
    assert not journal.path.exists()


@pytest.mark.parametrize("evidence", FINE)
def test_what_is_no_secret_is_written(tmp_path, evidence):
    """A release must not stop over a word."""
    assert Journal(tmp_path, "r1").append("done", "start", evidence=evidence).evidence == evidence


def test_our_own_secrets_are_known_by_their_looks():
    """Made by secrets.token_urlsafe(32), as the stack makes them."""
    for _ in range(50):
        secret = secrets.token_urlsafe(32)
        # One in a thousand has no digit, or the like; it is known by its name and by `secrets`.
        if any(c.isdigit() for c in secret) and any(c.islower() for c in secret) and any(c.isupper() for c in secret):
            assert scrubbed(f"it said {secret} and left") == f"it said {MASK} and left"


@pytest.mark.parametrize("evidence", SECRETS)
def test_scrubbed_text_may_be_written(evidence):
    """What a program said when it failed goes into the journal, without what it quotes."""
    text = scrubbed("\n".join(f"{key}={value}" for key, value in evidence.items()), ["correct horse battery staple"])
    assert "hunter2" not in text
    refuse({"said": text})
    assert scrubbed(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["a.a-", "-", "--a", "password", "a_token", "-----BEGIN PRIVATE KEY-----", "Basic "])
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """What a program says when it fails may be megabytes; a way back must not wait hours for its words."""
    scrubbed(part * (400_000 // len(part)))
