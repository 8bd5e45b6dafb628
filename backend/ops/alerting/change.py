"""A change of stages: checked before anything is touched, written, reloaded, looked at, and put back if that fails."""

import difflib
import os
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from ops.alerting import alertmanager, stages
from ops.alerting.stages import Stage
from ops.release import containers, reloading
from ops.release.engine import COMPOSE_FILE, Engine
from ops.release.journal import Journal
from ops.release.secret_folder import SecretFolder
from ops.stack import loopback, monitoring, parts, programs, secret_store
from ops.stack.errors import StackError
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings
from ops.stack.supervisor import Supervisor

JOURNAL: Final = "alert-stages"


@dataclass(frozen=True)
class Running:
    """A Prometheus that runs: where it answers, and how it is told to read its configuration again."""

    url: str
    reload: Callable[[], None]

    def ask(self, path: str) -> Any:
        """Return `data` of an answer of its API.

        Raises:
            StackError: there is none.
        """
        try:
            return loopback.get(f"{self.url}/api/v1/{path}").json()["data"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise StackError(
                f"Prometheus does not answer at {self.url} ({type(error).__name__}).",
                "Look at it: commandcenter status",
            ) from error

    def stages(self, alerts: Collection[str]) -> dict[str, str]:
        """Return each alert's stage under the configuration it runs with."""
        return stages.of_config(yaml.safe_load(self.ask("status/config")["yaml"]), alerts)

    def states(self) -> dict[str, str]:
        """Return by alert whether it fires, is pending or inactive."""
        rules = [rule for group in self.ask("rules?type=alert")["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["state"] for rule in rules}


@dataclass(frozen=True)
class Change:
    """Alerts that change their stage, and the text of monitoring/prometheus.yml before and after."""

    names: tuple[str, ...]
    stage: Stage
    alerts: Mapping[str, str]
    before: str
    after: str

    @property
    def diff(self) -> str:
        """What changes in the file."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), "monitoring/prometheus.yml", "after", n=1, lineterm=""
        )
        return "\n".join(lines)


def source(settings: Settings) -> Path:
    """Return the file that holds the stages."""
    return settings.layout.root / "monitoring" / "prometheus.yml"


def plan(settings: Settings, names: Collection[str], stage: Stage) -> Change:
    """Return what would change; those that have that stage already are left out.

    Raises:
        StackError: the list can't be edited here.
    """
    alerts = stages.severities(settings.layout.root / "monitoring" / "alerts.yml")
    before = source(settings).read_text()
    now = stages.of_text(before, alerts)
    moved = tuple(name for name in names if now[name] != stage)
    after = stages.changed(before, moved, stage, alerts) if moved else before
    return Change(moved, stage, alerts, before, after)


def running(settings: Settings, target: str = "native") -> Running | None:
    """Return the Prometheus of this stack, or of the containers (`compose`), if it runs."""
    if target == "compose":
        return _in_container(settings)
    supervisor = Supervisor(settings.layout)
    state = supervisor.states().get("prometheus")
    if state is None or not state.pid:
        return None
    url = f"http://127.0.0.1:{settings.port('PROMETHEUS_PORT')}"
    return Running(url, lambda: supervisor.signal("prometheus", "HUP"))


def _in_container(settings: Settings) -> Running | None:
    file = settings.layout.root / ".env"
    named = (secret_store.parse(file.read_text()) if file.exists() else {}) | os.environ
    engine = Engine(settings.layout.root, named)
    if containers.presence_problem(engine.held().get("prometheus", []), wanted=True):
        return None
    # The folder monitoring/ is mounted, so what is written here is there already.
    environment = {**os.environ, "COMPOSE_FILE": named.get("COMPOSE_FILE", COMPOSE_FILE)}
    url = f"http://127.0.0.1:{settings.port('PROMETHEUS_PORT')}"
    return Running(url, lambda: _hang_up(engine, environment))


def _hang_up(engine: Engine, environment: Mapping[str, str]) -> None:
    engine.compose("kill", "-s", "HUP", "prometheus", environment=environment)


def is_behind(change: Change, prometheus: Running | None) -> bool:
    """Whether Prometheus runs with other stages than the file has: a change was cut off before its reload."""
    return prometheus is not None and prometheus.stages(tuple(change.alerts)) != stages.of_text(
        change.before, change.alerts
    )


def check(settings: Settings, change: Change, target: str = "native") -> None:
    """Let promtool and amtool look at what would run after the change, on the stack that is meant.

    Raises:
        StackError: with what they say; or they are not installed.
    """
    names = parts.plan(settings).names
    with tempfile.TemporaryDirectory(dir=settings.layout.run) as folder:
        rendered = Path(folder) / "prometheus.yml"
        write_private(rendered, monitoring.prometheus_config(settings, names, source=change.after))
        _checked("promtool", "check", "config", str(rendered))
        receivers = Path(folder) / "alertmanager.yml"
        text = alertmanager.configuration(settings, target)
        write_private(receivers, alertmanager.for_amtool(text, _installed("amtool")))
        _checked("amtool", "check-config", str(receivers))
        way_out = f"Nothing was changed. {alertmanager.way_to_routes(settings, target)}"
        for name in change.names:
            _routed(receivers, name, change.alerts[name], change.stage, way_out)


def _routed(receivers: Path, name: str, severity: str, stage: Stage, way_out: str) -> None:
    """Let amtool say who would be told of an alert.

    Raises:
        StackError: not those whom its severity and stage mean.
    """
    labels = {"alertname": name, "severity": severity, "stage": stage}
    asked = [f"{label}={value}" for label, value in labels.items()]
    said = _checked("amtool", "config", "routes", "test", f"--config.file={receivers}", *asked)
    wanted = {"shadow"} if stage == "shadow" else {"backend-copy", severity}
    found = set(said.strip().split(","))
    if found != wanted:
        raise StackError(
            f"{name} ({severity}, {stage}) would reach {', '.join(sorted(found))} instead of "
            f"{', '.join(sorted(wanted))}.",
            way_out,
        )


def _installed(name: str) -> Path:
    program = programs.find(name)
    if program is None:
        raise StackError(f"{name} is not installed, so the change can't be checked.", "It comes with `make up`.")
    return program


def _checked(name: str, *arguments: str) -> str:
    command = [str(_installed(name)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise StackError(f"{name} refuses the configuration:\n{said}", "Nothing was changed.")
    return done.stdout


def apply(settings: Settings, change: Change, prometheus: Running | None, reason: str, target: str = "native") -> None:
    """Write the change and let a running Prometheus take it over; put everything back if it doesn't.

    Each is written to the journal, before and after.

    Raises:
        StackError: the check failed, or the reload did; then all is as before.
    """
    journal = Journal(settings.layout.data / "journals" / JOURNAL, JOURNAL, secrets=_secrets(settings, target))
    evidence: dict[str, Any] = {"alerts": list(change.names), "stage": change.stage, "why": journal.masked(reason)}
    journal.append("intent", "stages", evidence=evidence)
    rendered = settings.layout.data / "prometheus" / "prometheus.yml"
    held = rendered.read_text() if rendered.exists() else None
    is_written = False
    try:
        check(settings, change, target)
        is_written = True
        _write(source(settings), change.after)
        write_private(rendered, monitoring.prometheus_config(settings, parts.plan(settings).names))
        if prometheus is not None:
            _reload(prometheus, stages.of_text(change.after, change.alerts))
    except BaseException as error:
        _write(source(settings), change.before)
        if held is not None:
            write_private(rendered, held)
        problem = error.problem if isinstance(error, StackError) else type(error).__name__
        stuck = _put_back(prometheus, change) if prometheus is not None and is_written else ""
        if stuck and isinstance(error, StackError):
            error.way_out = f"The file was put back, and Prometheus did not take that over either: {stuck}"
        elif prometheus is not None and is_written and isinstance(error, StackError):
            error.way_out = "Everything was put back. The end of Prometheus's log says why."
        evidence["put_back"] = not stuck
        journal.append("failed", "stages", evidence={**evidence, "problem": journal.masked(problem)})
        raise
    journal.append("done", "stages", evidence={**evidence, "reloaded": prometheus is not None})


def _secrets(settings: Settings, target: str) -> tuple[str, ...]:
    """Return what must not be written down: the stack's own secrets, and the receivers' addresses."""
    mounted = SecretFolder(alertmanager.mounted(settings).parent.parent).all_parts() if target == "compose" else ()
    return (*settings.secrets, *mounted, *SecretFolder(alertmanager.addresses(settings, target)).all_parts())


def _put_back(prometheus: Running, change: Change) -> str:
    """Let Prometheus read the file as it was; return why it doesn't, or nothing."""
    try:
        _reload(prometheus, stages.of_text(change.before, change.alerts))
    except StackError as error:
        return error.problem
    return ""


def _reload(prometheus: Running, expected: Mapping[str, str]) -> None:
    reloading.reload(prometheus.url, prometheus.reload, reloading.PATIENCE_S)
    if prometheus.stages(tuple(expected)) != expected:
        raise StackError(
            "Prometheus read its configuration again, and has other stages than monitoring/prometheus.yml."
        )


def _write(path: Path, text: str) -> None:
    """Write a file of the checkout in one step; it keeps its rights."""
    if path.read_text() == text:
        return
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text)
    unfinished.chmod(path.stat().st_mode & 0o777)
    unfinished.replace(path)
