"""What runs is asked of the engine: containers as it tells of them, held against what was noted."""

import json
from typing import Any, Final

import pytest

from ops.release import containers
from ops.release.compose import ComposeTarget
from ops.stack import secret_store
from tests.ops.release.engine import NEW, Programs, folder_of


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
        ({"Image": "docker.io/library/commandcenter:aaaaaaaaaaaa"}, ""),
        ({"Image": "localhost/commandcenter:0.1.0"}, "runs commandcenter:0.1.0 instead of"),
        ({"Image": "example.org/commandcenter:aaaaaaaaaaaa"}, "runs example.org/commandcenter:aaaaaaaaaaaa instead of"),
        ({"running": False}, "does not run"),
    ],
)
def test_what_runs_is_asked_of_the_engine(
    compose_target: ComposeTarget, programs: Programs, changes: dict[str, Any], said: str
) -> None:
    """A note was written before a start that may have been cut off; only containers say what runs."""
    secret_store.write_private(folder_of(compose_target) / "compose-deployment.json", json.dumps(NEW))
    programs.answer("ps", out="1 2\n")
    # A one shot of another version is no service.
    shot = inspected("celery-beat", one_off="True", Image="commandcenter:other")
    programs.answer("inspect", out=json.dumps([inspected("celery-beat", **changes), shot]))
    found = compose_target.answers()["celery-beat"]
    assert found.startswith(said)
    assert bool(found) == bool(said)
    assert "label=com.docker.compose.project=commandcenter" in programs.words("engine")[0]


OWN: Final = ("backend", "celery-worker", "celery-beat")


def _holding(programs: Programs, *held: dict[str, Any]) -> None:
    programs.answer("ps", out="1\n")
    programs.answer("inspect", out=json.dumps(held))


@pytest.mark.parametrize("env", [["CORRELATION_ENABLED=true"], ["CORRELATION_ENABLED=false"]])
def test_an_upgrade_by_hand_is_what_runs(
    compose_target: ComposeTarget, programs: Programs, env: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A quick way back must leave the version that runs, not bring in the one before."""
    secret_store.write_private(folder_of(compose_target) / "compose-deployment.json", json.dumps(NEW))
    _holding(programs, *(inspected(name, Image="commandcenter:cccccccccccc", Env=env) for name in OWN))
    off = {"CORRELATION_ENABLED": "false"} if "false" in env[0] else {}
    assert compose_target.running() == {**NEW, "commit": "cccccccccccc", "switches": off}
    assert compose_target.without_layer(compose_target.running())["commit"] == "cccccccccccc"
    assert capsys.readouterr().out.count("containers count") == 1


def test_a_start_that_was_cut_off_is_what_was_noted(compose_target: ComposeTarget, programs: Programs) -> None:
    """Two versions at once are no version."""
    secret_store.write_private(folder_of(compose_target) / "compose-deployment.json", json.dumps(NEW))
    _holding(programs, inspected("backend", Image="commandcenter:old"), *(inspected(name) for name in OWN[1:]))
    assert compose_target.running() == NEW


def test_an_exporter_that_was_started_by_hand_runs(compose_target: ComposeTarget, programs: Programs) -> None:
    """`docker compose up -d` starts what a quick rollback stopped."""
    noted = {**NEW, "stopped": ["postgres-exporter"]}
    secret_store.write_private(folder_of(compose_target) / "compose-deployment.json", json.dumps(noted))
    _holding(programs, *map(inspected, OWN))
    assert compose_target.running()["stopped"] == ["postgres-exporter"]
    _holding(programs, *map(inspected, (*OWN, "postgres-exporter")))
    assert compose_target.running()["stopped"] == []


def test_a_service_that_is_down_or_ill_is_told(compose_target: ComposeTarget, programs: Programs) -> None:
    """What `verify` calls every part must be every one."""
    ill = inspected("loki")
    ill["State"]["Health"] = {"Status": "unhealthy"}
    _holding(programs, inspected("grafana", running=False), ill, inspected("redis"))
    found = compose_target.answers()
    assert (found["grafana"], found["loki"], found["redis"]) == ("does not run", "is unhealthy", "")
    assert {found[name] for name in ("alloy", "postgres")} == {"does not run"}


def test_a_switch_that_did_not_arrive_is_told() -> None:
    off = {**NEW, "switches": {"CORRELATION_ENABLED": "false"}}
    held = [containers.Container("commandcenter:aaaaaaaaaaaa", {"CORRELATION_ENABLED": "true"}, is_running=True)]
    assert containers.strays(held, "commandcenter:aaaaaaaaaaaa", off) == "was started without CORRELATION_ENABLED"


def test_an_exporter_that_should_be_stopped_is_told_when_it_runs() -> None:
    running = [containers.Container("exporter", {}, is_running=True)]
    assert containers.presence_problem(running, wanted=False)
    assert not containers.presence_problem([], wanted=False)
    assert not containers.presence_problem(running, wanted=True)
