"""What a person types, and what they and their scripts get."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typer.testing import CliRunner, Result

from ops.cli import cli
from ops.trace import text
from ops.trace.model import Errors, Trace
from tests.system import BACKEND

DATA = Path(__file__).parent / "data" / "logs"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def line(event: str, **keys: Any) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(minutes=keys.pop("minutes_ago", 5))).isoformat()
    return {"timestamp": at, "event": event, "service": "api", "pid": 1, "request_id": "r"} | keys


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, *lines: dict[str, Any], name: str = "api.log") -> None:
    (folder / name).write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in lines))


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 64, "é", "a\n", "a'; DROP TABLE", "../etc"])
def test_what_is_no_id_is_refused(wanted):
    """Usage errors are 2, and are told before any file is read."""
    result = run("trace", wanted, "--logs", DATA)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no ID" in result.stderr


def test_an_unknown_id_says_where_it_is_not():
    """Which folder, which period, what next: on-call must know whether to look elsewhere."""
    result = run("trace", "unknown", "--logs", DATA)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert str(DATA) in result.stderr.replace("\n", "")
    assert "2026-11-24 08:00:00.100 UTC to 2026-11-24 08:00:00.121 UTC" in result.stderr
    assert "--logs DIR" in result.stderr


def test_a_known_id_is_0_also_where_the_request_failed():
    assert run("trace", "req-1", "--logs", DATA).exit_code == 0


def test_no_logs_at_all_says_how_to_get_some(tmp_path):
    for command in (["trace", "r"], ["errors"]):
        result = run(*command, "--logs", tmp_path)
        assert result.exit_code == 1
        assert "make up" in result.stderr
    # In containers nobody finds a folder to name.
    assert "--target compose" in run("trace", "r", "--logs", tmp_path).stderr


@pytest.mark.parametrize("since", ["yesterday", "5x", "-1h", "", "9999999w"])
def test_a_since_that_is_none_is_a_usage_error(since):
    assert run("errors", f"--since={since}", "--logs", DATA).exit_code == 2


def test_the_default_folder_is_the_native_stacks(logs, monkeypatch):
    monkeypatch.setenv("COMMANDCENTER_DATA", str(logs))
    (logs / "log").mkdir()
    write(logs / "log", line("here"))
    assert run("trace", "r").exit_code == 0


def test_json_is_the_documented_document():
    """A script may read it: strictly typed, nothing beyond it, and the same again when written again."""
    result = run("trace", "req-1", "--json", "--logs", DATA)
    document = orjson.loads(result.stdout)
    adapter = TypeAdapter(Trace)
    found = adapter.validate_json(result.stdout, strict=True, extra="forbid")
    assert orjson.loads(orjson.dumps(found, option=orjson.OPT_UTC_Z)) == document
    page = (Path(__file__).parents[4] / "docs" / "trace.md").read_text()
    undocumented = {key for key in keys_of(adapter.json_schema()) if f"`{key}`" not in page}
    assert not undocumented


def test_errors_as_json_are_the_documented_document():
    result = run("errors", "--since=2026-11-01", "--json", "--logs", DATA)
    found = TypeAdapter(Errors).validate_json(result.stdout, strict=True, extra="forbid")
    assert [(group.type, group.count, group.request_id) for group in found.groups] == [("HTTPStatusError", 1, "req-1")]
    page = (Path(__file__).parents[4] / "docs" / "trace.md").read_text()
    assert not {key for key in keys_of(TypeAdapter(Errors).json_schema()) if f"`{key}`" not in page}


def keys_of(schema: dict[str, Any]) -> set[str]:
    shapes = [schema, *schema["$defs"].values()]
    return {key for shape in shapes for key in shape["properties"]}


def test_an_unknown_id_as_json_is_an_empty_answer_and_1():
    result = run("trace", "unknown", "--json", "--logs", DATA)
    assert (result.exit_code, orjson.loads(result.stdout)["stories"]) == (1, [])


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\r\x08 [bold red]x[/] [link=http://evil]y :skull: \u2028 [/]"


def test_log_values_command_no_terminal_and_speak_no_markup(logs):
    """A path, a user agent, a commit message: strangers write into our logs."""
    write(
        logs,
        line(HOSTILE, level=HOSTILE, logger=HOSTILE, **{HOSTILE: HOSTILE}),
        line("task.sent", sent_task=HOSTILE, sent_task_id=HOSTILE, queue=HOSTILE),
        line("request.failed", error_type=HOSTILE, fingerprint=HOSTILE, exception=f"{HOSTILE}\n{HOSTILE}: {HOSTILE}"),
        line("request.failed", trail=[{"at_ms": 1, "kind": HOSTILE, "text": HOSTILE, "detail": {HOSTILE: HOSTILE}}]),
        line("task.failed", task_id="T", trail=[{"kind": "sql", "text": HOSTILE, "detail": HOSTILE}]),
        line("outbound.finished", method=HOSTILE, host=HOSTILE, path=HOSTILE, error_type=HOSTILE),
        line("sync.progress", stage=HOSTILE, progress=1),
        line("request.finished", method=HOSTILE, path=HOSTILE, route=HOSTILE, client=HOSTILE, trace_id=HOSTILE),
        line("x", task_id=HOSTILE, task=HOSTILE, service=HOSTILE),
        line("task.finished", task_id=HOSTILE, task=HOSTILE, service="worker", state=HOSTILE),
    )
    prefix = "2026-11-24 08:00:00.000 UTC [1] app=r user=u db=d "
    sql = HOSTILE.replace("\r", "")
    (logs / "postgres.log").write_text(
        f"{prefix}LOG:  duration: 1.000 ms  statement: {sql}\n{prefix}ERROR:  {sql}\n", newline="\n"
    )
    for command in (
        ["trace", "r"],
        ["trace", "r", "--full"],
        ["errors"],
        ["trace", "r", "--json"],
        ["errors", "--json"],
    ):
        result = run(*command, "--logs", logs)
        assert result.exit_code == 0, result.output
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", result.stdout)
        if "--json" not in command:
            assert "[bold red]x[/]" in result.stdout
            assert ":skull:" in result.stdout


@given(st.text())
def test_safe_text_is_safe_and_keeps_what_can_be_seen(value):
    made = text.safe(value)
    assert not re.search("[\x00-\x1f\x7f-\x9f]", made)
    assert text.safe(made) == made
    assert made == value or not value.isprintable()


def test_many_rows_are_cut_and_say_how_to_see_all(logs):
    """A chatty task must not scroll its own error off the screen."""
    write(logs, *(line(f"event-{number:03d}") for number in range(60)))
    shown = run("trace", "r", "--logs", logs).stdout
    assert "event-049" in shown
    assert "event-050" not in shown
    assert "10 more: --full" in shown
    assert "event-059" in run("trace", "r", "--full", "--logs", logs).stdout


def test_a_long_trail_shows_how_it_began_and_how_it_ended(logs):
    """What it did last is why it failed; --full shows all."""
    steps = [{"at_ms": number, "kind": "log", "text": f"step-{number:03d}"} for number in range(100)]
    write(logs, line("request.failed", error_type="E", trail=steps))
    shown = re.findall(r"step-(\d+)", run("trace", "r", "--logs", logs).stdout)
    assert shown == [f"{number:03d}" for number in (*range(10), *range(60, 100))]
    assert "50 more: --full" in run("trace", "r", "--logs", logs).stdout
    assert len(re.findall(r"step-\d+", run("trace", "r", "--full", "--logs", logs).stdout)) == 100


def test_a_long_step_is_cut_to_a_row(logs):
    """A trail is read from top to bottom; one statement must not fill the screen."""
    sql = f"SELECT {', '.join(f'column_{number}' for number in range(60))} FROM jobs"  # noqa: S608 - runs nowhere
    steps = [{"at_ms": 1, "kind": "sql", "text": sql, "detail": 1}, {"at_ms": 2, "kind": "log", "text": "x" * 400}]
    write(logs, line("request.failed", trail=steps))
    shown = run("trace", "r", "--logs", logs).stdout
    assert "… FROM jobs" in shown
    assert "x" * 120 not in shown
    assert "column_59" in run("trace", "r", "--full", "--logs", logs).stdout


def test_short_sql_keeps_table_and_condition():
    """Which columns hardly ever tells one statement from another; which table and which rows does."""
    columns = ", ".join(f"repositories.column_{number}" for number in range(30))
    made = text.short_sql(f"SELECT {columns}\nFROM repositories WHERE repositories.id = $1", 96)
    assert len(made) <= 96
    assert made.endswith("… FROM repositories WHERE repositories.id = $1")


@given(st.text(), st.integers(30, 120))
def test_short_sql_is_never_longer_than_asked(statement, limit):
    assert len(text.short_sql(statement, limit)) <= limit


def test_the_same_failure_is_one_row_with_its_last_id(logs):
    """Told by fingerprint, most recent first, with an ID to go on with."""
    write(
        logs,
        line(
            "request.failed", minutes_ago=50, error_type="A", fingerprint="f1", route="/a", status=500, request_id="r1"
        ),
        line(
            "request.failed", minutes_ago=20, error_type="A", fingerprint="f1", route="/b", status=503, request_id="r2"
        ),
        line("task.failed", minutes_ago=10, error_type="B", task="work", task_id="T", state="FAILURE", request_id="r3"),
        line(
            "request.failed", minutes_ago=90, error_type="C", fingerprint="f3", route="/c", status=500, request_id="r4"
        ),
    )
    result = run("errors", "--since=1h", "--json", "--logs", logs)
    groups = orjson.loads(result.stdout)["groups"]
    assert [(one["type"], one["count"], one["request_id"]) for one in groups] == [("B", 1, "r3"), ("A", 2, "r2")]
    assert groups[1]["where"] == ["/a", "/b"]
    assert groups[1]["statuses"] == ["500", "503"]
    shown = run("errors", "--logs", logs).stdout
    assert "commandcenter trace r3" in shown
    assert "r4" in shown


def test_a_run_that_was_lost_is_an_error_of_its_own(logs):
    """A killed process leaves no traceback; its parent's word is all there is."""
    lost = {"state": "LOST", "error_type": "WorkerLostError", "fingerprint": "f", "reason": "signal 9 (SIGKILL)"}
    write(logs, line("task.failed", service="worker", task="work", task_id="T", **lost), name="worker.log")
    (group,) = orjson.loads(run("errors", "--json", "--logs", logs).stdout)["groups"]
    assert (group["type"], group["statuses"], group["where"]) == ("WorkerLostError", ["LOST"], ["work"])
    assert (group["message"], group["request_id"]) == ("signal 9 (SIGKILL)", "r")
    shown = run("errors", "--logs", logs).stdout
    assert "WorkerLostError LOST" in shown


def test_no_error_is_said_with_the_period_it_holds_for(logs):
    write(logs, line("fine"))
    result = run("errors", "--logs", logs)
    assert result.exit_code == 0
    assert "No error since" in result.stdout
    assert "api: 1 file" in result.stdout


def test_a_refused_id_leads_to_the_one_we_gave(logs):
    """A customer quotes the ID they sent; we refused it and made another."""
    write(logs, line("request.id_rejected", client_request_id="theirs", request_id="ours"))
    result = run("trace", "theirs", "--logs", logs)
    assert "Request ID ours" in result.stdout
    assert "did not accept" in result.stdout


def test_what_runs_is_told_as_running(logs):
    write(logs, line("task.sent", minutes_ago=2, sent_task="work", sent_task_id="T1"), line("hello", minutes_ago=3))
    write(logs, line("task.started", service="worker", task="work", task_id="T2", attempt=1), name="worker.log")
    shown = run("trace", "r", "--logs", logs).stdout
    assert "running since 3 min 0 s" in shown
    assert "QUEUED for 2 min 0 s" in shown
    assert "running since 5 min 0 s" in shown


@pytest.mark.parametrize("command", [["trace", "r"], ["errors"]])
def test_where_no_log_can_be_fetched_to_is_told_in_words(tmp_path, monkeypatch, command):
    """A full disk or a lost right is nothing that a traceback explains; what names files may hold obeys nobody."""
    (tmp_path / "fi\x1b[31mle").touch()
    monkeypatch.setenv("COMMANDCENTER_DATA", str(tmp_path / "fi\x1b[31mle" / "data"))
    result = run(*command, "--target", "compose")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Not a directory" in result.stderr
    assert "fi\\x1b[31mle" in result.stderr.replace("\n", "")
    assert "Remove the cause" in result.stderr


def test_who_stops_reading_is_told_nothing(tmp_path):
    """`| head` is no trouble."""
    write(tmp_path, *[line("x" * 1000, level="error", error_type=f"E{number}") for number in range(2000)])
    program = [sys.executable, "-c", "from ops.cli import main; main()", "errors", "--json", "--logs", str(tmp_path)]
    with subprocess.Popen(program, cwd=BACKEND, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout
        assert reading.stderr
        reading.stdout.read(1)
        reading.stdout.close()
        assert reading.stderr.read() == b""


@pytest.mark.parametrize("key", ["level", "request_id", "extra"])
@pytest.mark.parametrize("depth", [300, 1020])
@pytest.mark.parametrize("options", [[], ["--json"], ["--full"]])
def test_a_line_as_deep_as_a_well_is_passed_over(logs, key, depth, options):
    """What is read deeper than it can be written again would end the command, and hide the story around it."""
    write(logs, line("here"))
    with (logs / "api.log").open("ab") as file:
        file.write(orjson.dumps(line("there", trace_id="r"))[:-1] + f',"{key}":'.encode())
        file.write(b"[" * depth + b"]" * depth + b"}\n")
    result = run("trace", "r", "--logs", logs, *options)
    assert (result.exit_code, "here" in result.stdout, "there" in result.stdout) == (0, True, False), result
