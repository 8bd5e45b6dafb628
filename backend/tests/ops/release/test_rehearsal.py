"""A release on a real stack, from plan to both rollbacks, and what goes wrong in between; tests build on each other.

Two versions: `new` is this working copy, `old` the same without the migration that adds the exporter's role.
"""

import json
import re
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ops.release.place import Releases
from ops.stack import loopback
from ops.stack.ports import free_port
from tests.git import git
from tests.native_stack import NativeStack
from tests.ops.release.rehearsed import (
    KILLED,
    NEW_SCHEMA,
    OLD_SCHEMA,
    REHEARSED,
    api,
    connect,
    journal,
    release,
    rows,
    schema,
)
from tests.system import eventually

pytestmark = pytest.mark.timeout(480)

# A watch that asks for health without a pause.
AT_ONCE = "import ops.release.watch as w; w.PROBE_PAUSE_S = 0; from ops.cli import main; main()"


def test_plan_writes_nothing(stack: NativeStack) -> None:
    """It is typed on the live system."""
    before = sorted(path for path in stack.data.glob("*") if path.name != "run")
    printed = release(stack, "plan", "new")
    assert "restore the backup" in printed
    assert "HighErrorRateFast: 160 s" in printed
    assert "Configuration:" in printed
    planned = json.loads(release(stack, "plan", "new", "--json"))
    assert planned["schema"] == {"from": NEW_SCHEMA, "to": NEW_SCHEMA, "sql": ""}
    assert planned["config"] is None or planned["config"]["settings"]["added"] == []
    assert sorted(path for path in stack.data.glob("*") if path.name != "run") == before


def test_preflight_is_content_with_a_clean_checkout(stack: NativeStack, checkout: Path) -> None:
    """And names the file that nobody else has."""
    printed = release(stack, "preflight", "new")
    assert "checks are well. Next" in printed
    assert "✓ clock, PostgreSQL" in printed
    assert "✓ clock, Prometheus" in printed
    assert "pg_dump reads the schema" in printed
    readme = checkout / "README.md"
    text = readme.read_text()
    readme.write_text(text + "x")
    try:
        assert "README.md" in release(stack, "preflight", "new", expected=1)
    finally:
        readme.write_text(text)


def test_without_yes_nothing_is_changed(stack: NativeStack) -> None:
    assert "Nothing was changed" in release(stack, "apply", "new")
    assert "Nothing was changed" in release(stack, "rollback", "quick")
    assert not Releases(stack.data).ids()


def test_an_apply_that_is_killed_anywhere_goes_on(stack: NativeStack) -> None:
    """Before and after both lines that each of its seven steps writes."""
    # A run writes who it took over from, then its first open step: moments three to six lie around the lines of that.
    # The password is set by every run, so `start` comes two lines later.
    for at in [*([3, 4, 5, 6] * 6), 7, 8, 9, 10]:
        done = stack.run("release", "apply", "new", "--yes", *REHEARSED, launcher=KILLED, TEST_KILL_AT=str(at))
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    begun = Counter(entry.step for entry in journal(stack).entries if entry.kind == "intent")
    assert set(begun) == {"remember", "prepare", "backup", "restore-test", "migrate", "password", "start"}
    assert min(begun.values()) >= 2, begun
    release(stack, "apply", "new", "--yes", *REHEARSED)
    state = journal(stack).state()
    assert set(state.steps) == {"remember", "prepare", "backup", "restore-test", "migrate", "password", "start"}
    assert not state.unknown
    assert all(step.is_done for step in state.steps.values())
    # The stack ran the checkout, which may be changed at any time: its commit was kept.
    remembered = state.steps["remember"].entry.evidence["running"]
    assert remembered["is_release"]
    assert (Path(remembered["backend"]) / "app").is_dir()
    assert "taken_over_from" in str(state.verdicts["lock"][0].evidence)
    with api(stack) as client:
        assert client.get("/health").status_code == 200


def test_an_apply_that_is_done_does_nothing(stack: NativeStack) -> None:
    before = {name: part["pid"] for name, part in stack.status().items()}
    backup = journal(stack).path.with_name("backup.dump").stat().st_mtime_ns
    assert release(stack, "apply", "new", "--yes", *REHEARSED).count("done before") >= 6
    assert {name: part["pid"] for name, part in stack.status().items()} == before
    assert journal(stack).path.with_name("backup.dump").stat().st_mtime_ns == backup


def test_what_runs_is_the_release_and_not_the_checkout(stack: NativeStack, checkout: Path) -> None:
    """Also after the machine was started again."""
    commit = git(checkout, "rev-parse", "--short=12", "new")
    text = loopback.get(f"http://127.0.0.1:{stack.ports['API_PORT']}/metrics").text
    assert re.search(rf'commandcenter_build_info{{commit="{commit}"', text)
    assert f"Release {commit} is deployed here" in stack.run("up").stdout


def test_verify_finds_one_request_everywhere(stack: NativeStack, checkout: Path) -> None:
    """In the answers, the logs, PostgreSQL's log, the metrics; and, with a repository, in the task."""
    with api(stack) as client:
        made = client.post("/repositories", json={"url": checkout.as_uri()})
        assert made.status_code == 201, made.text
    deadline = time.monotonic() + 180
    while True:
        done = stack.run("release", "verify", "--json")
        findings = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
        unwell = {name: each for name, each in findings.items() if each["verdict"] != "ok"}
        # A stack of some seconds has not shown everything yet; its panels may say so.
        if not unwell or time.monotonic() > deadline:
            break
        assert unwell.keys() == {"every panel has data"}
        assert done.returncode == 4
    assert (unwell, done.returncode) == ({}, 0)
    for check in ("X-Request-ID on 500", "PostgreSQL's own log has it", "its task is in the logs, with its SQL"):
        assert findings[check]["verdict"] == "ok"


def test_errors_tell_what_is_new(stack: NativeStack) -> None:
    """The first question after a release: is this error ours, or was it there before?"""
    told = json.loads(stack.run("errors", "--new", "--json").stdout)
    # Asked for by `verify`, and never before.
    assert [group["type"] for group in told["groups"]] == ["ProofError"]
    assert told["new_since"] > "2026"
    fingerprint = told["groups"][0]["fingerprint"]
    assert fingerprint in stack.run("errors", "--new").stdout
    log = stack.data / "log" / "api.log"
    # As often as `verify` was run.
    lines = [line for line in log.read_text().splitlines() if "ProofError" in line and '"request.failed"' in line]
    before = re.sub(r'"timestamp":\s*"[^"]*"', '"timestamp":"2020-01-01T00:00:00.000000Z"', lines[0])
    older = log.with_name("api.log.1")
    older.write_text(before + "\n")
    try:
        assert json.loads(stack.run("errors", "--new", "--json").stdout)["groups"] == []
    finally:
        older.unlink()


def test_status_shows_the_steps(stack: NativeStack) -> None:
    told = json.loads(release(stack, "status", "--json"))
    assert {step["status"] for step in told["steps"]} == {"done"}
    assert "restore-test" in release(stack, "status")


def test_a_release_nobody_used_yet_is_neither_passed_nor_signed_off(stack: NativeStack) -> None:
    """Exit code 4: nothing to hold it against. And what nobody could judge is not signed."""
    assert "only its health is watched" in release(stack, "watch", "--once", expected=4)
    assert "baseline" in release(stack, "signoff", expected=1)


def test_verify_says_what_is_wrong(stack: NativeStack) -> None:
    """An exporter that is down, and a Prometheus: each has its line, and the rest is still asked."""
    status = stack.status()
    stopped = [psutil.Process(status[name]["pid"]) for name in ("postgres-exporter", "prometheus")]
    for process in stopped:
        process.suspend()
    try:
        printed = release(stack, "verify", expected=1)
    finally:
        for process in stopped:
            process.resume()
    assert "✗ every part is healthy: postgres-exporter" in printed
    assert "✗ pg_up: no answer" in printed
    assert "✓ X-Request-ID on 500" in printed
    assert "✓ PostgreSQL's own log has it" in printed


def test_a_second_operator_is_turned_away(stack: NativeStack) -> None:
    """Exit code 7, and who it is."""
    from ops.release import lock  # noqa: PLC0415

    with lock.held(Releases(stack.data).lock, "apply something"):
        printed = release(stack, "apply", "new", "--yes", *REHEARSED, expected=7)
    assert "apply something" in printed


def test_older_code_is_kept_from_a_newer_schema(stack: NativeStack) -> None:
    """Old code first, then the downgrade: "Can't locate revision"."""
    printed = release(stack, "apply", "old", "--yes", *REHEARSED, expected=1)
    assert f"revision {NEW_SCHEMA}, which version" in printed
    assert "rollback full" in printed
    shutil.rmtree(journal(stack).path.parent)


def test_quick_rollback_switches_the_layer_off(stack: NativeStack, summary: list[str]) -> None:
    """Also where it was killed before and after its first line. In five minutes, however busy the machine is."""
    before = rows(stack)
    for at in (1, 2):
        killed = stack.run("release", "rollback", "quick", "--yes", launcher=KILLED, TEST_KILL_AT=str(at))
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    printed = release(stack, "rollback", "quick", "--yes")
    took_s = float(re.findall(r"quick, ([\d.]+) s", printed)[0])
    assert took_s < 300
    summary.append(f"rollback quick: {took_s:.0f} s")
    with api(stack) as client:
        answer = client.get("/repositories")
        assert (answer.status_code, "x-request-id" in answer.headers) == (200, False)
    assert "postgres-exporter" not in stack.status()
    assert rows(stack) == before
    # And an `up` leaves it so.
    assert "CORRELATION_ENABLED=false" in stack.run("up").stdout


def test_full_rollback_takes_the_schema_back(stack: NativeStack, summary: list[str]) -> None:
    """By the newer version's code; nothing of the data is lost. In 15 minutes, however busy the machine is."""
    before = rows(stack)
    printed = release(stack, "rollback", "full", "--to", OLD_SCHEMA, "--yes")
    took_s = float(re.findall(r"full, ([\d.]+) s", printed)[0])
    assert took_s < 900
    summary.append(f"rollback full: {took_s:.0f} s")
    assert schema(stack) == OLD_SCHEMA
    assert rows(stack) == before
    assert before["repositories"] == 1
    counted = journal(stack).state().steps
    assert counted["rollback-count"].entry.evidence["rows"] == counted["rollback-compare"].entry.evidence["rows"]


def test_from_old_to_new_and_back(stack: NativeStack, checkout: Path) -> None:
    """The way the first release goes: an older version without the exporter's role, then this one."""
    release(stack, "apply", "old", "--yes", *REHEARSED)
    assert schema(stack) == OLD_SCHEMA
    planned = json.loads(release(stack, "plan", "new", "--json"))
    assert "exporter_user" in planned["schema"]["sql"]
    assert "✓ migrations: no finding" in release(stack, "preflight", "new")
    before = rows(stack)
    release(stack, "apply", "new", "--yes", *REHEARSED)
    assert schema(stack) == NEW_SCHEMA
    eventually(lambda: stack.status()["postgres-exporter"]["health"] == "ok")
    release(stack, "rollback", "full", "--yes")
    assert schema(stack) == OLD_SCHEMA
    assert rows(stack) == before
    text = loopback.get(f"http://127.0.0.1:{stack.ports['API_PORT']}/metrics").text
    assert f'commit="{git(checkout, "rev-parse", "--short=12", "old")}"' in text


def test_a_lock_that_passes_is_waited_for(stack: NativeStack) -> None:
    """A migration that waits for a lock stops everybody behind it: a second a try, and again."""
    with connect(stack) as holder:
        holder.execute("SELECT * FROM alembic_version FOR UPDATE")
        launcher = (
            "import ops.release.schema as s; s.migrate.__kwdefaults__.update(tries=2, pause_s=0.1);"
            "from ops.cli import main; main()"
        )
        done = stack.run("release", "apply", "new", "--yes", *REHEARSED, launcher=launcher)
        assert done.returncode == 1
        assert "found its tables locked 2 times" in done.stderr
        assert "idle in transaction" in done.stderr
        assert schema(stack) == OLD_SCHEMA
        # Held until the first try has waited in vain, and free at the second.
        giving_way = threading.Thread(target=give_way_after_a_try, args=(stack, holder))
        giving_way.start()
        printed = release(stack, "apply", "new", "--yes", *REHEARSED)
        giving_way.join()
    assert "tries 2" in printed
    assert schema(stack) == NEW_SCHEMA


def give_way_after_a_try(stack: NativeStack, holder: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Hold a lock until somebody has waited for it and left."""

    def waiting() -> bool:
        with connect(stack) as connection:
            [[found]] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchall()
        return bool(found)

    try:
        eventually(waiting, within_s=60, what="a migration that waits")
        eventually(lambda: not waiting(), what="its giving up")
    finally:
        holder.rollback()


def test_a_watch_takes_back_what_is_not_healthy(stack: NativeStack) -> None:
    """By itself, the quick way, once; exit code 5, now and from then on."""
    sick = f"import ops.release.judgements as j; j._health = lambda _: 'said so by a test'; {AT_ONCE}"
    printed = release(stack, "watch", "--once", expected=5, launcher=sick)
    assert "rolled back: health failed 3 of 5 times: said so by a test" in printed
    with api(stack) as client:
        answer = client.get("/repositories")
        assert (answer.status_code, "x-request-id" in answer.headers) == (200, False)
    assert release(stack, "watch", "--once", expected=5).count("rolled back") == 1


def test_a_full_way_back_that_is_killed_goes_on(stack: NativeStack) -> None:
    """Wherever it was; and it counts only once all of it is done."""
    before = rows(stack)
    for at in (2, 5, 8):
        done = stack.run("release", "rollback", "full", "--yes", launcher=KILLED, TEST_KILL_AT=str(at))
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
        release(stack, "watch", "--once", expected=6, launcher=AT_ONCE)
    release(stack, "rollback", "full", "--yes")
    assert (schema(stack), rows(stack)) == (OLD_SCHEMA, before)
    release(stack, "watch", "--once", expected=5)


def test_prometheus_that_is_away_or_empty_gives_no_baseline(stack: NativeStack) -> None:
    """Neither is a value; each is said, and what to do."""
    away = release(stack, "baseline", expected=1, PROMETHEUS_PORT=str(free_port()))
    assert "no answer" in away
    assert "NOT kept" in away
    empty = release(stack, "baseline", expected=1)
    assert "no answer" not in empty
    assert "NOT kept" in empty


def test_no_secret_is_written_down(stack: NativeStack) -> None:
    """Journals are shown around."""
    secrets = [line.partition("=")[2] for line in (stack.data / "secrets.env").read_text().splitlines()[1:]]
    written = [file.read_text() for file in (stack.data / "releases").rglob("*.jsonl")]
    assert written
    assert not [secret for secret in secrets if any(secret in text for text in written)]
