"""The command lines that a release on compose gives to engine and Compose, held by programs that only write them down.

No engine is needed: both names lead to one script, which notes its arguments and its surroundings and answers as told.
"""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ops.cli import cli
from ops.release import deployed_file
from ops.release.backup import LockedOutError
from ops.release.compose import ComposeTarget
from ops.release.scrubbing import MASK, scrubbed
from ops.stack import secret_store
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from tests.ops.release.engine import NEW, Programs


def test_an_image_is_built_of_a_commit_and_nothing_else(compose_target: ComposeTarget, programs: Programs) -> None:
    """What an editor holds must not get into what others believe to be that commit."""
    programs.answer("image inspect", rc=1)
    commit = compose_target.resolve("main")

    assert compose_target.prepare(commit) == {"commit": commit, "switches": {}, "stopped": []}

    [words] = [words for words in programs.words("engine") if words[0] == "build"]
    context = words[-1]
    assert words[:-1] == [
        "build", "--network", "host", "--build-arg", f"VERSION={commit}", "--build-arg", f"COMMIT={commit}",
        "--file", f"{context}/backend/Dockerfile", "--tag", f"commandcenter:{commit}",
    ]  # fmt: skip
    assert "backend/app/main.py" in programs.context
    assert not {"backend/app/unfinished.py", "secrets", ".env"} & set(programs.context)


def test_an_image_that_is_there_is_not_built_again(compose_target: ComposeTarget, programs: Programs) -> None:
    compose_target.prepare("aaaaaaaaaaaa")
    assert programs.words("engine") == [["image", "inspect", "commandcenter:aaaaaaaaaaaa"]]


@pytest.mark.usefixtures("well")
def test_a_start_touches_our_own_services_alone(compose_target: ComposeTarget, programs: Programs) -> None:
    """A Compose that follows dependencies would make PostgreSQL anew, in the middle of a release."""
    compose_target.deploy(NEW)
    [words] = programs.words("composer")
    assert words == [
        "--ansi", "never", "up", "--detach", "--no-build", "--no-deps", "--force-recreate",
        "backend", "celery-worker", "celery-beat", "postgres-exporter",
    ]  # fmt: skip
    assert programs.environment("up") == {
        "COMMANDCENTER_VERSION": "aaaaaaaaaaaa",
        "COMMANDCENTER_COMMIT": "aaaaaaaaaaaa",
        "COMPOSE_FILE": "docker-compose.prod.yml",
    }
    assert compose_target.running() == NEW


@pytest.mark.usefixtures("well")
def test_quick_stops_the_exporter_and_starts_the_rest_without_the_layer(
    compose_target: ComposeTarget, programs: Programs
) -> None:
    off = compose_target.without_layer(NEW)
    compose_target.deploy(off)

    stop, up = programs.words("composer")
    assert stop[2:] == ["stop", "postgres-exporter"]
    assert up[-3:] == ["backend", "celery-worker", "celery-beat"]
    assert programs.environment("up")["CORRELATION_ENABLED"] == "false"
    assert compose_target.without_layer(compose_target.running()) == compose_target.running()
    assert compose_target.without_layer(NEW) != NEW


@pytest.mark.usefixtures("well")
def test_compose_by_hand_runs_what_was_released(compose_target: ComposeTarget, root: Path) -> None:
    """A setting changed by `docker compose up -d` must not bring an old version back in passing."""
    file = root / ".env"
    file.chmod(0o640)
    before = file.read_text()
    compose_target.deploy(compose_target.without_layer(NEW))
    settings = secret_store.parse(file.read_text())
    assert settings["COMMANDCENTER_VERSION"] == "aaaaaaaaaaaa"
    assert settings["CORRELATION_ENABLED"] == "false"

    compose_target.deploy({**NEW, "commit": "bbbbbbbbbbbb"})
    settings = secret_store.parse(file.read_text())
    assert settings == {
        "API_PORT": "28000",
        **dict.fromkeys(("COMMANDCENTER_VERSION", "COMMANDCENTER_COMMIT"), "b" * 12),
    }
    assert file.read_text().startswith(before)
    assert file.read_text().count("--- Written by") == 1
    assert file.stat().st_mode & 0o777 == 0o640


def test_without_env_file_the_block_is_all_there_is(tmp_path: Path) -> None:
    deployed_file.write(tmp_path / ".env", {"A": "1"})
    assert secret_store.parse((tmp_path / ".env").read_text()) == {"A": "1"}
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_an_operators_own_files_count(root: Path, programs: Programs) -> None:
    """`--file` would silently leave an override out."""
    (root / ".env").write_text("COMPOSE_FILE=docker-compose.prod.yml:own.yml\n")
    ComposeTarget(Console()).halt()
    assert programs.environment("stop")["COMPOSE_FILE"] == "docker-compose.prod.yml:own.yml"
    assert "--file" not in json.dumps(programs.words("composer"))


def test_halt_stops_our_services_alone(compose_target: ComposeTarget, programs: Programs) -> None:
    compose_target.halt()
    assert programs.words("composer") == [
        ["--ansi", "never", "stop", "backend", "celery-worker", "celery-beat", "postgres-exporter"]
    ]


def test_a_migration_waits_a_second_for_locks_in_a_container_of_its_version(
    compose_target: ComposeTarget, programs: Programs
) -> None:
    compose_target.migrate("aaaaaaaaaaaa", "downgrade", "d4dff12b63d6")
    [words] = programs.words("composer")
    assert words[2:] == [
        "run", "--rm", "--no-deps", "-T", "-e", "PGOPTIONS=-c lock_timeout=1s", "migrate",
        "python", "-m", "alembic", "downgrade", "d4dff12b63d6",
    ]  # fmt: skip
    assert programs.environment("run")["COMMANDCENTER_VERSION"] == "aaaaaaaaaaaa"


def test_a_migration_that_is_locked_out_may_be_tried_again(compose_target: ComposeTarget, programs: Programs) -> None:
    programs.answer("run", err="ERROR: canceling statement due to lock timeout", rc=1)
    with pytest.raises(LockedOutError):
        compose_target.migrate("aaaaaaaaaaaa", "upgrade", "head")


def test_a_migration_that_fails_says_why(compose_target: ComposeTarget, programs: Programs) -> None:
    programs.answer("run", err="Can't locate revision", rc=1)
    with pytest.raises(StackError, match="Can't locate revision"):
        compose_target.migrate("aaaaaaaaaaaa", "upgrade", "head")


def test_revisions_are_asked_where_no_network_is(compose_target: ComposeTarget, programs: Programs) -> None:
    programs.answer("history", out="d4dff12b63d6 -> d3e92d35ba2f (head), x\n<base> -> d4dff12b63d6, y\n")
    assert compose_target.revisions("aaaaaaaaaaaa") == ["d3e92d35ba2f", "d4dff12b63d6"]
    assert programs.words("engine")[-1] == [
        "run", "--rm", "--network=none", "commandcenter:aaaaaaaaaaaa", "python", "-m", "alembic", "history",
    ]  # fmt: skip


def test_a_backup_is_what_the_servers_own_tool_writes(
    compose_target: ComposeTarget, programs: Programs, tmp_path: Path
) -> None:
    """Over the socket in its container: no password is needed, and none is told."""
    programs.answer("pg_dump", out="dumped")
    with (tmp_path / "dump").open("wb") as out:
        compose_target.postgres_tool("pg_dump", "--format=custom", target=out)
    assert (tmp_path / "dump").read_text() == "dumped"
    [words] = programs.words("composer")
    assert words[2:5] == ["exec", "-T", "-e"]
    assert "log_min_duration_statement=-1" in words[5]
    assert words[6:] == ["postgres", "pg_dump", "--username=postgres", "--no-password", "--format=custom"]


def test_no_part_of_a_secret_file_is_told(compose_target: ComposeTarget, root: Path) -> None:
    """An error quotes a password, seldom a whole URL or a line of Redis's configuration."""
    (root / "secrets" / "secret_key_fallbacks").write_text("first-former-key,second-former-key")
    password = compose_target.wanted_secrets()["redis_url"]
    assert (root / "secrets" / "redis_auth").read_text() == f"requirepass {password}\n"
    for secret in (*compose_target.wanted_secrets().values(), "first-former-key", "second-former-key"):
        assert secret
        assert scrubbed(f"it said <{secret}>", compose_target.secrets) == f"it said <{MASK}>"


def test_room_is_asked_for_where_the_data_lies(compose_target: ComposeTarget, programs: Programs) -> None:
    """The restored copy fills that disk, not the one of the backup."""
    programs.answer("df", out="Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 100 58 42 58% /v\n")
    assert compose_target.data_free_bytes() == 42 * 1024


def test_logs_are_those_of_the_last_minutes(compose_target: ComposeTarget, programs: Programs) -> None:
    """A busy PostgreSQL writes a gigabyte in hours; what is looked for was just done."""
    programs.answer("ps", out="abc\n")
    programs.answer("logs", out="a line\n", err="of both kinds\n")
    folder = compose_target.logs
    assert {file.name for file in folder.iterdir()} == {"api.log", "worker.log", "beat.log", "postgres.log"}
    assert sorted((folder / "postgres.log").read_text().splitlines()) == ["a line", "of both kinds"]
    assert ["logs", "--since", "10m", "abc"] in programs.words("engine")


@pytest.mark.usefixtures("compose_target")
@pytest.mark.parametrize(
    ("options", "asked"),
    [([], ["logs", "abc"]), (["--since", "2026-11-24"], ["logs", "--since", "2026-11-24T00:00:00+00:00"])],
)
def test_a_story_is_told_of_what_the_engine_has(programs: Programs, options: list[str], asked: list[str]) -> None:
    """The question on call is the same where logs are no files."""
    line = (checkout() / "backend/tests/ops/trace/data/logs/api.log").read_text()
    programs.answer("ps", out="abc\n")
    programs.answer("logs", out=line)
    told = CliRunner().invoke(cli, ["trace", "req-1", "--target", "compose", *options])
    assert "POST /api/v1/repositories/7/sync" in told.output
    assert [words[: len(asked)] for words in programs.words("engine") if words[0] == "logs"] == [asked] * 4
    listed = CliRunner().invoke(cli, ["errors", "--since", "2020-01-01", "--json"], env={"RELEASE_TARGET": "compose"})
    assert json.loads(listed.stdout)["searched"]


@pytest.mark.usefixtures("compose_target")
def test_an_engine_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "no-such-engine")
    told = CliRunner().invoke(cli, ["errors", "--target", "compose"])
    assert told.exit_code == 1
    assert "no-such-engine can't be run" in told.output
