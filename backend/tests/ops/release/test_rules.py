"""Rules that a real Prometheus evaluates, held against the files; and read again when a release on compose is there."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml
from rich.console import Console

from ops.release import reloading, rules, ruleset
from ops.release.compose import ComposeTarget
from ops.stack import layout, loopback
from ops.stack.errors import StackError
from tests.backfill import prometheus_over
from tests.ops.release.engine import NEW, Programs
from tests.system import eventually

MONITORING = layout.checkout() / "monitoring"
FILES = ("alerts.yml", "recording.yml")


@dataclass(frozen=True)
class Evaluating:
    """A Prometheus that runs with the files of a folder."""

    url: str
    process: psutil.Process
    folder: Path

    def edit(self, file: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
        """Change the rules of a file's first group."""
        path = self.folder / file
        content = yaml.safe_load(path.read_text())
        change(content["groups"][0]["rules"])
        path.write_text(yaml.safe_dump(content))

    def check(self) -> tuple[str, str]:
        """Return the verdict on it and its words."""
        found = rules.check(self.folder, self.url, "Reload.")
        return found.verdict, found.value


@contextmanager
def evaluating(folder: Path) -> Iterator[Evaluating]:
    for name in FILES:
        shutil.copy(MONITORING / name, folder / name)
    config = yaml.safe_dump({"rule_files": [str(folder / name) for name in FILES]})
    with prometheus_over(folder / "data", config) as url:
        ours = [each for each in psutil.Process().children() if str(folder / "prometheus.yml") in str(each.cmdline())]
        yield Evaluating(url, ours[0], folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluating]:
    """One with the shipped rules, which is never told to read them again."""
    with evaluating(tmp_path_factory.mktemp("rules")) as made:
        yield made


@pytest.fixture
def prometheus(shared: Evaluating) -> Evaluating:
    """The same, the files as shipped again."""
    for name in FILES:
        shutil.copy(MONITORING / name, shared.folder / name)
    return shared


def test_the_shipped_rules_are_as_they_are_written(prometheus: Evaluating) -> None:
    """Prometheus tells them in its own form: without comments and line breaks, `1m30s` for `90s`."""
    groups = [group for name in FILES for group in yaml.safe_load((MONITORING / name).read_text())["groups"]]
    assert prometheus.check() == ("ok", f"all {sum(len(group['rules']) for group in groups)}")


def _threshold(found: list[dict[str, Any]]) -> None:
    found[0]["expr"] = found[0]["expr"].replace("> 0.05", "> 0.06", 1)


def _patience(found: list[dict[str, Any]]) -> None:
    found[0]["for"] = "6m"


def _severity(found: list[dict[str, Any]]) -> None:
    found[0]["labels"]["severity"] = "warning"


def _without(found: list[dict[str, Any]]) -> None:
    del found[0]


def _another(found: list[dict[str, Any]]) -> None:
    found.append({"alert": "New", "expr": "vector(1)"})


def _window(found: list[dict[str, Any]]) -> None:
    found[-1]["expr"] = found[-1]["expr"].replace("[1h]", "[2h]", 1)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("alerts.yml", _threshold, "HighErrorRate is loaded with another expr"),
        ("alerts.yml", _patience, "HighErrorRate is loaded with another for"),
        ("alerts.yml", _severity, "HighErrorRate is loaded with another labels"),
        ("alerts.yml", _without, "HighErrorRate is loaded and in no file"),
        ("alerts.yml", _another, "New is not loaded"),
        ("recording.yml", _window, "commandcenter:http_error_ratio:rate1h is loaded with another expr"),
    ],
)
def test_a_rule_that_was_not_read_again_is_told(
    prometheus: Evaluating, file: str, change: Callable[[list[dict[str, Any]]], None], said: str
) -> None:
    """By name alone an alert with last release's threshold looked as well as the new one."""
    prometheus.edit(file, change)
    assert prometheus.check() == ("failed", said)


def test_another_way_to_write_it_is_the_same_rule(prometheus: Evaluating) -> None:
    """A `verify` that fails on line breaks is soon overlooked."""

    def rewrite(found: list[dict[str, Any]]) -> None:
        found[0]["expr"] = " # The same.\n" + found[0]["expr"].replace("sum(", "sum (\n").replace("[1m]", "[60s]")
        found[0]["for"] = "300s"

    prometheus.edit("alerts.yml", rewrite)
    assert prometheus.check()[0] == "ok"


def test_without_a_form_of_expressions_nothing_is_claimed(
    prometheus: Evaluating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Prometheus before 2.38 can't say whether two expressions are one; what it can say still counts."""
    post = httpx.Client.post
    gone = httpx.Response(404, request=httpx.Request("POST", prometheus.url))
    monkeypatch.setattr(httpx.Client, "post", lambda *a, **b: gone if "format_query" in str(a) else post(*a, **b))
    verdict, said = prometheus.check()
    assert (verdict, "expressions can't be compared" in said) == ("inconclusive", True)
    prometheus.edit("alerts.yml", _patience)
    assert prometheus.check() == ("failed", "HighErrorRate is loaded with another for")


def test_a_rule_that_fails_is_told(tmp_path: Path) -> None:
    """It is loaded as written, and never fires."""
    twice = " or ".join(f'label_replace(vector(1), "a", "{each}", "", "")' for each in (1, 2))
    bad = {"alert": "Bad", "expr": f"vector(1) == on () ({twice})"}
    with evaluating(tmp_path) as made:
        made.folder.joinpath("alerts.yml").write_text(
            yaml.safe_dump({"groups": [{"name": "phase_c_alerts", "interval": "1s", "rules": [bad]}]})
        )
        reloading.reload(made.url, lambda: made.process.send_signal(signal.SIGHUP))
        eventually(lambda: made.check() == ("failed", "Bad fails"), what="an evaluation")


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"prometheus\.yml"):
        ruleset.read(tmp_path)


@pytest.fixture
def own(root: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluating]:
    """The Prometheus of containers, which lies in `root` and gets its signals by the engine."""
    with evaluating(root / "monitoring") as made:
        monkeypatch.setenv("PROMETHEUS_PORT", str(urlsplit(made.url).port))
        labels = {"com.docker.compose.service": "prometheus"}
        held = [{"Config": {"Image": "prom", "Labels": labels, "Env": []}, "State": {"Running": True}}]
        programs.answer("ps", out="1\n")
        programs.answer("inspect", out=json.dumps(held))
        programs.answer("kill -s HUP prometheus", hup=made.process.pid)
        yield made


@pytest.mark.usefixtures("well")
def test_a_release_on_compose_brings_its_rules(own: Evaluating, programs: Programs) -> None:
    """They lie in the checkout that was just changed; without a word Prometheus goes on with the former ones."""
    own.edit("alerts.yml", _threshold)
    assert own.check()[0] == "failed"
    target = ComposeTarget(Console())
    assert rules.check(target.rules, target.prometheus_url, "").verdict == "failed"
    target.deploy(NEW)
    assert [words[-4:] for words in programs.words("composer")][-1] == ["kill", "-s", "HUP", "prometheus"]
    assert own.check()[0] == "ok"


@pytest.mark.usefixtures("well")
def test_rules_that_are_refused_keep_nobody_from_the_version(own: Evaluating, programs: Programs) -> None:
    """It runs, a way back too; and the one who brought it hears that its rules do not."""
    own.edit("alerts.yml", lambda found: found[0].update(expr="sum("))
    console = Console(record=True, width=200)
    target = ComposeTarget(console)
    target.deploy(NEW)
    said = console.export_text()
    assert "aaaaaaaaaaaa runs and is healthy. But: Prometheus refuses" in said
    assert "logs --tail 20 prometheus" in said
    assert own.check()[0] == "failed"
    assert [words[2] for words in programs.words("composer")] == ["up", "kill"]
    own.edit("alerts.yml", lambda found: found[0].update(expr="vector(1) > 2"))
    target.deploy(NEW)
    assert own.check()[0] == "ok"


@pytest.mark.usefixtures("well")
def test_where_no_prometheus_runs_none_is_told(own: Evaluating, programs: Programs) -> None:
    programs.answer("inspect", out="[]")
    ComposeTarget(Console()).deploy(NEW)
    assert [words[2] for words in programs.words("composer")] == ["up"]
    assert own.process.is_running()


def test_a_prometheus_that_reads_nothing_is_waited_for_no_longer_than_it_may_take(prometheus: Evaluating) -> None:
    """A signal that was lost must not hold a release for ever."""
    with pytest.raises(StackError, match=r"did not read its rules again within 0.3 s"):
        reloading.reload(prometheus.url, lambda: None, patience_s=0.3)
    assert reloading.last(loopback.get(f"{prometheus.url}/metrics").text).is_well
