"""The command lines that a release on compose gives to engine and Compose, held by programs that only write them down.

No engine is needed: both names lead to one script, which notes its arguments and its surroundings and answers as told.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from ops.containers import secret_files
from ops.release import compose, containers, deployed_file
from ops.release.backup import LockedOutError
from ops.release.compose import ComposeTarget
from ops.release.scrubbing import MASK, scrubbed
from ops.stack import secret_store
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from tests.git import git

# Notes what it was called with, then says what the folder of answers has for its first words.
ENGINE: Final = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({here!r})
words = sys.argv[1:]
names = ("COMMANDCENTER_VERSION", "COMMANDCENTER_COMMIT", "CORRELATION_ENABLED", "COMPOSE_FILE")
settings = {{name: os.environ[name] for name in names if name in os.environ}}
call = {{"words": [pathlib.Path(sys.argv[0]).name, *words], "env": settings}}
with (here / "calls").open("a") as out:
    out.write(json.dumps(call) + "\\n")
if words[0] == "build":
    # What the image would be made of, as it lay there.
    context = pathlib.Path(words[-1])
    (here / "context").write_text("\\n".join(sorted(str(p.relative_to(context)) for p in context.rglob("*"))))
for name in sorted(os.listdir(here / "answers")):
    if all(word in words for word in name.split()):
        answer = json.loads((here / "answers" / name).read_text())
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["err"])
        sys.exit(answer["rc"])
"""


class Programs:
    """The script under both names, what it was asked, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "answers").mkdir()
        for name in ("engine", "composer"):
            script = folder / name
            script.write_text(ENGINE.format(python=sys.executable, here=str(folder)))
            script.chmod(0o755)

    def answer(self, words: str, out: str = "", err: str = "", rc: int = 0) -> None:
        """Answer so where all these words are among the arguments."""
        (self._folder / "answers" / words).write_text(json.dumps({"out": out, "err": err, "rc": rc}))

    def calls(self) -> list[dict[str, Any]]:
        """Return all it was called with, in order."""
        file = self._folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def words(self, program: str) -> list[list[str]]:
        """Return the arguments of one program's calls."""
        return [call["words"][1:] for call in self.calls() if call["words"][0] == program]

    def environment(self, word: str) -> dict[str, str]:
        """Return the settings that the one call with this word was given."""
        [found] = [call["env"] for call in self.calls() if word in call["words"]]
        return dict(found)

    @property
    def context(self) -> list[str]:
        """What lay in the folder that an image was built from."""
        return (self._folder / "context").read_text().splitlines()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, with secrets of its own and settings of an operator."""
    root = tmp_path / "root"
    (root / "backend" / "app").mkdir(parents=True)
    (root / "monitoring").mkdir()
    for name in ("LICENSE", ".dockerignore", "backend/requirements.lock", "backend/Dockerfile"):
        shutil.copy(checkout() / name, root / name)
    (root / "backend" / "app" / "main.py").touch()
    (root / "monitoring" / "alerts.yml").touch()
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    (root / "backend" / "app" / "unfinished.py").touch()
    (root / ".env").write_text("API_PORT=28000\nCOMMANDCENTER_VERSION=0.1.0\n# by hand")
    secret_files.ensure(root / "secrets")
    monkeypatch.setattr(compose, "checkout", lambda: root)
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMMANDCENTER_DATA", "COMMANDCENTER_VERSION", "SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CORRELATION_ENABLED", raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ENGINE", "engine")
    monkeypatch.setenv("COMPOSE", "composer --ansi never")
    monkeypatch.setenv("BUILD_OPTIONS", "--network host")
    return Programs(folder)


@pytest.fixture
def target(root: Path, programs: Programs) -> Iterator[ComposeTarget]:
    made = ComposeTarget(Console())
    yield made
    # Whoever may list processes reads arguments: in none of all these calls may a secret stand.
    told = json.dumps(programs.calls())
    assert not [name for name, secret in made.wanted_secrets().items() if secret in told]
    assert root.is_dir()


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all parts answer well."""
    monkeypatch.setattr(ComposeTarget, "_answers", lambda *_: {})


NEW: Final = {"commit": "aaaaaaaaaaaa", "switches": {}, "stopped": []}


def test_an_image_is_built_of_a_commit_and_nothing_else(target: ComposeTarget, programs: Programs) -> None:
    """What an editor holds must not get into what others believe to be that commit."""
    programs.answer("image inspect", rc=1)
    commit = target.resolve("main")

    assert target.prepare(commit) == {"commit": commit, "switches": {}, "stopped": []}

    [words] = [words for words in programs.words("engine") if words[0] == "build"]
    context = words[-1]
    assert words[:-1] == [
        "build", "--network", "host", "--build-arg", f"VERSION={commit}", "--build-arg", f"COMMIT={commit}",
        "--file", f"{context}/backend/Dockerfile", "--tag", f"commandcenter:{commit}",
    ]  # fmt: skip
    assert "backend/app/main.py" in programs.context
    assert not {"backend/app/unfinished.py", "secrets", ".env"} & set(programs.context)


def test_an_image_that_is_there_is_not_built_again(target: ComposeTarget, programs: Programs) -> None:
    target.prepare("aaaaaaaaaaaa")
    assert programs.words("engine") == [["image", "inspect", "commandcenter:aaaaaaaaaaaa"]]


@pytest.mark.usefixtures("well")
def test_a_start_touches_our_own_services_alone(target: ComposeTarget, programs: Programs) -> None:
    """A Compose that follows dependencies would make PostgreSQL anew, in the middle of a release."""
    target.deploy(NEW)
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
    assert target.running() == NEW


@pytest.mark.usefixtures("well")
def test_quick_stops_the_exporter_and_starts_the_rest_without_the_layer(
    target: ComposeTarget, programs: Programs
) -> None:
    off = target.without_layer(NEW)
    target.deploy(off)

    stop, up = programs.words("composer")
    assert stop[2:] == ["stop", "postgres-exporter"]
    assert up[-3:] == ["backend", "celery-worker", "celery-beat"]
    assert programs.environment("up")["CORRELATION_ENABLED"] == "false"
    assert target.without_layer(target.running()) == target.running()
    assert target.without_layer(NEW) != NEW


@pytest.mark.usefixtures("well")
def test_compose_by_hand_runs_what_was_released(target: ComposeTarget, root: Path) -> None:
    """A setting changed by `docker compose up -d` must not bring an old version back in passing."""
    file = root / ".env"
    file.chmod(0o640)
    before = file.read_text()
    target.deploy(target.without_layer(NEW))
    settings = secret_store.parse(file.read_text())
    assert settings["COMMANDCENTER_VERSION"] == "aaaaaaaaaaaa"
    assert settings["CORRELATION_ENABLED"] == "false"

    target.deploy({**NEW, "commit": "bbbbbbbbbbbb"})
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


def test_halt_stops_our_services_alone(target: ComposeTarget, programs: Programs) -> None:
    target.halt()
    assert programs.words("composer") == [
        ["--ansi", "never", "stop", "backend", "celery-worker", "celery-beat", "postgres-exporter"]
    ]


def test_a_migration_waits_a_second_for_locks_in_a_container_of_its_version(
    target: ComposeTarget, programs: Programs
) -> None:
    target.migrate("aaaaaaaaaaaa", "downgrade", "d4dff12b63d6")
    [words] = programs.words("composer")
    assert words[2:] == [
        "run", "--rm", "--no-deps", "-T", "-e", "PGOPTIONS=-c lock_timeout=1s", "migrate",
        "python", "-m", "alembic", "downgrade", "d4dff12b63d6",
    ]  # fmt: skip
    assert programs.environment("run")["COMMANDCENTER_VERSION"] == "aaaaaaaaaaaa"


def test_a_migration_that_is_locked_out_may_be_tried_again(target: ComposeTarget, programs: Programs) -> None:
    programs.answer("run", err="ERROR: canceling statement due to lock timeout", rc=1)
    with pytest.raises(LockedOutError):
        target.migrate("aaaaaaaaaaaa", "upgrade", "head")


def test_a_migration_that_fails_says_why(target: ComposeTarget, programs: Programs) -> None:
    programs.answer("run", err="Can't locate revision", rc=1)
    with pytest.raises(StackError, match="Can't locate revision"):
        target.migrate("aaaaaaaaaaaa", "upgrade", "head")


def test_revisions_are_asked_where_no_network_is(target: ComposeTarget, programs: Programs) -> None:
    programs.answer("history", out="d4dff12b63d6 -> d3e92d35ba2f (head), x\n<base> -> d4dff12b63d6, y\n")
    assert target.revisions("aaaaaaaaaaaa") == ["d3e92d35ba2f", "d4dff12b63d6"]
    assert programs.words("engine")[-1] == [
        "run", "--rm", "--network=none", "commandcenter:aaaaaaaaaaaa", "python", "-m", "alembic", "history",
    ]  # fmt: skip


def test_a_backup_is_what_the_servers_own_tool_writes(
    target: ComposeTarget, programs: Programs, tmp_path: Path
) -> None:
    """Over the socket in its container: no password is needed, and none is told."""
    programs.answer("pg_dump", out="dumped")
    with (tmp_path / "dump").open("wb") as out:
        target.postgres_tool("pg_dump", "--format=custom", target=out)
    assert (tmp_path / "dump").read_text() == "dumped"
    [words] = programs.words("composer")
    assert words[2:5] == ["exec", "-T", "-e"]
    assert "log_min_duration_statement=-1" in words[5]
    assert words[6:] == ["postgres", "pg_dump", "--username=postgres", "--no-password", "--format=custom"]


def test_no_part_of_a_secret_file_is_told(target: ComposeTarget, root: Path) -> None:
    """An error quotes a password, seldom a whole URL or a line of Redis's configuration."""
    (root / "secrets" / "secret_key_fallbacks").write_text("first-former-key,second-former-key")
    password = target.wanted_secrets()["redis_url"]
    assert (root / "secrets" / "redis_auth").read_text() == f"requirepass {password}\n"
    for secret in (*target.wanted_secrets().values(), "first-former-key", "second-former-key"):
        assert secret
        assert scrubbed(f"it said <{secret}>", target.secrets) == f"it said <{MASK}>"


def inspected(service: str, *, running: bool = True, one_off: str = "False", **changes: Any) -> dict[str, Any]:
    """A container, as both engines tell of it."""
    labels = {"com.docker.compose.service": service, "com.docker.compose.oneoff": one_off}
    config = {"Image": "localhost/commandcenter:aaaaaaaaaaaa", "Labels": labels, "Env": [], **changes}
    return {"Config": config, "State": {"Running": running}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"Image": "commandcenter:aaaaaaaaaaaa"}, ""),
        ({"Image": "localhost/commandcenter:0.1.0"}, "runs localhost/commandcenter:0.1.0 instead of"),
        ({"running": False}, "does not run"),
    ],
)
def test_what_runs_is_asked_of_the_engine(
    target: ComposeTarget, programs: Programs, changes: dict[str, Any], said: str
) -> None:
    """A note was written before a start that may have been cut off; only containers say what runs."""
    secret_store.write_private(_folder(target) / "compose-deployment.json", json.dumps(NEW))
    programs.answer("ps", out="1 2\n")
    # A one shot of another version is no service.
    shot = inspected("celery-beat", one_off="True", Image="commandcenter:other")
    programs.answer("inspect", out=json.dumps([inspected("celery-beat", **changes), shot]))
    found = target.answers()["celery-beat"]
    assert found.startswith(said)
    assert bool(found) == bool(said)
    assert "label=com.docker.compose.project=commandcenter" in programs.words("engine")[0]


OWN: Final = ("backend", "celery-worker", "celery-beat")


def _holding(programs: Programs, *held: dict[str, Any]) -> None:
    programs.answer("ps", out="1\n")
    programs.answer("inspect", out=json.dumps(held))


@pytest.mark.parametrize("env", [["CORRELATION_ENABLED=true"], ["CORRELATION_ENABLED=false"]])
def test_an_upgrade_by_hand_is_what_runs(
    target: ComposeTarget, programs: Programs, env: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A quick way back must leave the version that runs, not bring in the one before."""
    secret_store.write_private(_folder(target) / "compose-deployment.json", json.dumps(NEW))
    _holding(programs, *(inspected(name, Image="commandcenter:cccccccccccc", Env=env) for name in OWN))
    off = {"CORRELATION_ENABLED": "false"} if "false" in env[0] else {}
    assert target.running() == {**NEW, "commit": "cccccccccccc", "switches": off}
    assert target.without_layer(target.running())["commit"] == "cccccccccccc"
    assert capsys.readouterr().out.count("containers count") == 1


def test_a_start_that_was_cut_off_is_what_was_noted(target: ComposeTarget, programs: Programs) -> None:
    """Two versions at once are no version."""
    secret_store.write_private(_folder(target) / "compose-deployment.json", json.dumps(NEW))
    _holding(programs, inspected("backend", Image="commandcenter:old"), *(inspected(name) for name in OWN[1:]))
    assert target.running() == NEW


def test_an_exporter_that_was_started_by_hand_runs(target: ComposeTarget, programs: Programs) -> None:
    """`docker compose up -d` starts what a quick rollback stopped."""
    noted = {**NEW, "stopped": ["postgres-exporter"]}
    secret_store.write_private(_folder(target) / "compose-deployment.json", json.dumps(noted))
    _holding(programs, *map(inspected, OWN))
    assert target.running()["stopped"] == ["postgres-exporter"]
    _holding(programs, *map(inspected, (*OWN, "postgres-exporter")))
    assert target.running()["stopped"] == []


def test_a_service_that_is_down_or_ill_is_told(target: ComposeTarget, programs: Programs) -> None:
    """What `verify` calls every part must be every one."""
    ill = inspected("loki")
    ill["State"]["Health"] = {"Status": "unhealthy"}
    _holding(programs, inspected("grafana", running=False), ill, inspected("redis"))
    found = target.answers()
    assert (found["grafana"], found["loki"], found["redis"]) == ("does not run", "is unhealthy", "")
    assert {found[name] for name in ("alloy", "postgres")} == {"does not run"}


def test_room_is_asked_for_where_the_data_lies(target: ComposeTarget, programs: Programs) -> None:
    """The restored copy fills that disk, not the one of the backup."""
    programs.answer("df", out="Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 100 58 42 58% /v\n")
    assert target.data_free_bytes() == 42 * 1024


def test_a_switch_that_did_not_arrive_is_told() -> None:
    off = {**NEW, "switches": {"CORRELATION_ENABLED": "false"}}
    held = [containers.Container("commandcenter:aaaaaaaaaaaa", {"CORRELATION_ENABLED": "true"}, is_running=True)]
    assert containers.strays(held, "commandcenter:aaaaaaaaaaaa", off) == "was started without CORRELATION_ENABLED"


def test_an_exporter_that_should_be_stopped_is_told_when_it_runs() -> None:
    running = [containers.Container("exporter", {}, is_running=True)]
    assert containers.is_there(running, wanted=False)
    assert not containers.is_there([], wanted=False)
    assert not containers.is_there(running, wanted=True)


def test_logs_are_those_of_the_last_minutes(target: ComposeTarget, programs: Programs) -> None:
    """A busy PostgreSQL writes a gigabyte in hours; what is looked for was just done."""
    programs.answer("ps", out="abc\n")
    programs.answer("logs", out="a line\n", err="of both kinds\n")
    folder = target.logs
    assert {file.name for file in folder.iterdir()} == {"api.log", "worker.log", "beat.log", "postgres.log"}
    assert sorted((folder / "postgres.log").read_text().splitlines()) == ["a line", "of both kinds"]
    assert ["logs", "--since", "10m", "abc"] in programs.words("engine")


def _folder(target: ComposeTarget) -> Path:
    folder = target.checkout / ".commandcenter"
    folder.mkdir(exist_ok=True)
    return folder
