"""A release on `docker-compose.prod.yml`: an image a version, run by Compose on this host.

What is deployed stands in a block of its own at the end of `.env`, so that Compose by hand runs it too. The engine's
own words are used: COMPOSE (`docker compose`) and ENGINE (`docker`) name other programs of the same command line, and
COMPOSE_FILE other files, as Compose itself has it.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

import psycopg
from rich.console import Console

from ops import lock_timeout, roles
from ops.demo.api import Api
from ops.release import compose_parts, containers, deployed_file, reloading, version
from ops.release.backup import LockedOutError
from ops.release.compose_parts import EXPORTER, IMAGE, LAYER, OWN, PORTS
from ops.release.engine import COMPOSE_FILE, Engine
from ops.release.place import Releases
from ops.release.secret_folder import SecretFolder
from ops.stack import lock, secret_store
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from ops.stack.secret_store import write_private
from ops.stack.wait import until_content

_HEALTHY_WITHIN_S: Final = 120.0
# What `verify` looks for was done minutes ago; a busy PostgreSQL writes a gigabyte in some hours.
_LOGS_SINCE: Final = "10m"
_LOGS_OF: Final = {"api": "backend", "worker": "celery-worker", "beat": "celery-beat", "postgres": "postgres"}


class ComposeTarget:
    """The compose project of this checkout.

    Args:
        console: where progress is shown.
        data: where releases are written down; COMMANDCENTER_DATA, or `.commandcenter` in the checkout, unless given.
    """

    name = "compose"

    def __init__(self, console: Console, data: Path | None = None) -> None:
        self._console = console
        self._root = checkout()
        chosen = os.environ.get("COMMANDCENTER_DATA")
        self._data = data or (Path(chosen).expanduser().resolve() if chosen else self._root / ".commandcenter")
        file = self._root / ".env"
        settings = secret_store.parse(file.read_text()) if file.exists() else {}
        self._settings = PORTS | settings | {name: value for name, value in os.environ.items() if value}
        self._engine = Engine(self._root, self._settings)
        self._was_told = False
        self._secrets = SecretFolder(self._root / self._settings.get("SECRETS_DIR", "secrets"))

    # --- where things are

    @property
    def releases(self) -> Releases:
        """Where its releases are written down."""
        return Releases(self._data)

    @property
    def checkout(self) -> Path:
        """The checkout that releases are made from."""
        return self._root

    @property
    def rules(self) -> Path:
        """Folder of the rules that are mounted."""
        return self._root / "monitoring"

    @property
    def alertmanager_file(self) -> Path:
        """Alertmanager's configuration, as it is mounted; `commandcenter alerts config` makes it."""
        return self._secrets.folder / "alertmanager" / "alertmanager.yml"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return f"http://127.0.0.1:{self._settings['PROMETHEUS_PORT']}"

    @property
    def logs(self) -> Path:
        """Folder with what the services wrote in the last minutes, asked of the engine afresh."""
        return self._gathered(_LOGS_SINCE)

    def logs_since(self, moment: datetime | None) -> Path:
        """Return a folder with what the services wrote since then, or all that the engine still has of it."""
        return self._gathered(moment.isoformat() if moment else None)

    def _gathered(self, since: str | None) -> Path:
        folder = self._data / "compose-logs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, service in _LOGS_OF.items():
            self._engine.log(service, folder / f"{name}.log", since)
        return folder

    # --- what must not be written, and what must be there

    @property
    def secrets(self) -> Collection[str]:
        """What must not be written anywhere."""
        return self._secrets.all_parts()

    def wanted_secrets(self) -> dict[str, str]:
        """Return the secrets that the compose file mounts; of a file that is more, its secret part."""
        return self._secrets.wanted()

    @property
    def secret_key(self) -> str:
        """What the service signs with."""
        return self._secrets.text("secret_key")

    def api(self) -> Api:
        """Return a client of the REST API."""
        return Api(f"http://127.0.0.1:{self._settings['API_PORT']}", self._secrets.text("api_token"))

    def _exclusive(self) -> AbstractContextManager[None]:
        """Keep another one that restarts parts away."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return lock.held(self._data / ".lock")

    def answers(self) -> dict[str, str]:
        """Ask each part how it is, and the engine whether our services run what was deployed."""
        return self._answers(self.running())

    def _answers(self, deployed: Mapping[str, Any]) -> dict[str, str]:
        token = self._secrets.text("metrics_token")
        return compose_parts.answers(self._settings, token, deployed, self._engine.held())

    def data_free_bytes(self) -> int:
        """Return the room where PostgreSQL's data lies."""
        asked = self._on(self.running(), "exec", "-T", "postgres", "df", "-Pk", "/var/lib/postgresql")
        try:
            return 1024 * int(asked.stdout.decode().splitlines()[-1].split()[-3])
        except (IndexError, ValueError) as error:
            raise StackError("df in PostgreSQL's container says nothing.", "docker compose ps postgres") from error

    # --- versions

    def resolve(self, ref: str) -> str:
        """Return the commit that a branch, tag or commit names."""
        return version.resolve(self._root, ref)

    def running(self) -> dict[str, Any]:
        """Return what is deployed now, by the engine's word; by the note where it has none.

        Whoever upgrades by hand writes no note: a way back by it would bring another version in.
        """
        noted = self._noted()
        found = containers.deployed(self._engine.held(), noted, IMAGE, OWN, LAYER)
        if found != noted and self._note.exists() and not self._was_told:
            self._was_told = True
            self._console.print(
                f"[yellow]Containers run {compose_parts.said(found)}, {self._note.name} says "
                f"{compose_parts.said(noted)}: containers count.[/]",
                highlight=False,
                soft_wrap=True,
            )
        return found

    def _noted(self) -> dict[str, Any]:
        """Return what was noted at the last start, or what `.env` says where all was started by hand."""
        try:
            noted: dict[str, Any] = json.loads(self._note.read_text())
        except FileNotFoundError:
            tag = self._settings.get("COMMANDCENTER_VERSION", "0.1.0")
            return {"commit": tag, "switches": {}, "stopped": []}
        except (OSError, ValueError) as error:
            raise StackError(f"{self._note} can't be read: {error}", "commandcenter release status") from error
        return noted

    @property
    def _note(self) -> Path:
        return self._data / "compose-deployment.json"

    def kept(self) -> dict[str, Any]:
        """Return what runs now: its image stays."""
        return self.running()

    def is_prepared(self, commit: str) -> bool:
        """Whether a version's image is there."""
        return self._engine.run("image", "inspect", f"{IMAGE}:{commit}", may_fail=True).returncode == 0

    def prepare(self, commit: str) -> dict[str, Any]:
        """Build a version's image, from its commit and nothing else."""
        if not self.is_prepared(commit):
            with TemporaryDirectory() as scratch:
                version.extract(self._root, commit, Path(scratch) / commit, "LICENSE", ".dockerignore")
                self._build(commit, Path(scratch) / commit)
        return {"commit": commit, "switches": {}, "stopped": []}

    def _build(self, commit: str, context: Path) -> None:
        arguments = ["--build-arg", f"VERSION={commit}", "--build-arg", f"COMMIT={commit}"]
        arguments += ["--file", str(context / "backend" / "Dockerfile"), "--tag", f"{IMAGE}:{commit}"]
        options = shlex.split(os.environ.get("BUILD_OPTIONS", ""))
        self._engine.run("build", *options, *arguments, str(context))

    def deploy(self, wanted: Mapping[str, Any]) -> None:
        """Run this from now on, wait until all is healthy, and let Prometheus read the rules that belong to it.

        These come last: a mistake in them must keep nobody from a version that runs.
        """
        with self._exclusive():
            deployed_file.write(self._root / ".env", self._deployed(wanted))
            write_private(self._note, json.dumps(dict(wanted), indent=2) + "\n")
            services = [name for name in (*OWN, EXPORTER) if name not in wanted["stopped"]]
            if wanted["stopped"]:
                self._on(wanted, "stop", *wanted["stopped"])
            self._on(wanted, "up", "--detach", "--no-build", "--no-deps", "--force-recreate", *services)
        until_content(lambda: self._unwell(wanted), _HEALTHY_WITHIN_S, "docker compose ps; docker compose logs")
        self._let_rules_be_read(wanted)

    def _let_rules_be_read(self, deployed: Mapping[str, Any]) -> None:
        """Tell where it does not take them, and fail nothing: a way back is none the less one. `verify` judges it."""
        if containers.presence_problem(self._engine.held().get("prometheus", []), wanted=True):
            return
        try:
            reloading.reload(self.prometheus_url, lambda: self._on(deployed, "kill", "-s", "HUP", "prometheus"))
        except StackError as error:
            self._console.print(
                f"[yellow]{compose_parts.said(deployed)} runs and is healthy. But: {error.problem}[/] "
                "Look: docker compose logs --tail 20 prometheus; put monitoring/ right, then HUP it.",
                highlight=False,
                soft_wrap=True,
            )

    def _unwell(self, wanted: Mapping[str, Any]) -> str:
        return "; ".join(f"{name}: {problem}" for name, problem in self._answers(wanted).items() if problem)

    def halt(self) -> None:
        """Stop API, worker, beat and the exporter."""
        self._on(self.running(), "stop", *OWN, EXPORTER)

    def without_layer(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same with the layer off and the exporter stopped."""
        return self.without_exporter(wanted) | {"switches": {**wanted["switches"], LAYER: "false"}}

    def without_exporter(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same without the exporter."""
        return {**wanted, "stopped": sorted({*wanted["stopped"], EXPORTER})}

    # --- schema and data

    def revisions(self, commit: str) -> list[str]:
        """Return the schema revisions that a version knows, newest first."""
        return version.listed(self._alone(commit, "history"), commit)

    def schema_sql(self, commit: str, start: str, end: str) -> str:
        """Return the SQL that leads from one revision to another."""
        return self._alone(commit, "upgrade", f"{start}:{end}", "--sql")

    def _alone(self, commit: str, *arguments: str) -> str:
        """Run alembic of a version where there is no network."""
        self.prepare(commit)
        command = ("run", "--rm", "--network=none", f"{IMAGE}:{commit}", "python", "-m", "alembic")
        return self._engine.run(*command, *arguments).stdout.decode()

    def migrate(self, commit: str, command: str, revision: str) -> None:
        """Run `alembic upgrade` or `downgrade` in a container of a version; locks are waited for a second."""
        version_ = {"commit": commit, "switches": {}, "stopped": []}
        done = self._on(
            version_, "run", "--rm", "--no-deps", "-T", "-e", f"PGOPTIONS={lock_timeout.OPTION}", "migrate",
            "python", "-m", "alembic", command, revision, may_fail=True,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        if done.returncode and lock_timeout.has_passed(said):
            raise LockedOutError(lock_timeout.IN_VAIN)
        if done.returncode:
            raise StackError(f"alembic {command} failed:\n{said[-3000:]}", "Nothing was changed by it.")

    def connect(self, database: str = "commandcenter") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser."""
        try:
            return psycopg.connect(
                host="127.0.0.1",
                port=int(self._settings["POSTGRES_PORT"]),
                user="postgres",
                password=self._secrets.text("postgres_password"),
                dbname=database,
                connect_timeout=5,
                autocommit=True,
                application_name="commandcenter-release",
                options=roles.UNLOGGED,
            )
        except psycopg.OperationalError as error:
            raise StackError(f"PostgreSQL can't be reached: {error}", "docker compose ps postgres") from error

    def postgres_tool(
        self, tool: str, *arguments: str, source: IO[bytes] | None = None, target: IO[bytes] | None = None
    ) -> None:
        """Run a tool in PostgreSQL's container, over its socket."""
        command = self._engine.compose_words("exec", "-T", "-e", f"PGOPTIONS={roles.UNLOGGED}", "postgres", tool)
        done = subprocess.run(
            [*command, "--username=postgres", "--no-password", *arguments],
            cwd=self._root,
            env=self._environment(self.running()),
            stdin=source or subprocess.DEVNULL,
            stdout=target or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise StackError(f"{tool} failed:\n{done.stderr.decode('utf-8', 'replace').strip()[-2000:]}")

    def set_exporter_password(self) -> None:
        """Give the exporter's role its password."""
        try:
            with self.connect() as connection:
                roles.let_exporter_in(connection, self._secrets.text("exporter_password"))
        except roles.NoExporterError as error:
            raise StackError(str(error), "Look at the log of the service migrate.") from error

    # --- Compose

    def _on(
        self, deployed: Mapping[str, Any], *arguments: str, may_fail: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        return self._engine.compose(*arguments, environment=self._environment(deployed), may_fail=may_fail)

    @staticmethod
    def _deployed(deployed: Mapping[str, Any]) -> dict[str, str]:
        versions = {"COMMANDCENTER_VERSION": deployed["commit"], "COMMANDCENTER_COMMIT": deployed["commit"]}
        return {**versions, **deployed["switches"]}

    def _environment(self, deployed: Mapping[str, Any]) -> dict[str, str]:
        """Return what Compose is run with. Files go by their variable: `--file` would leave an operator's own out."""
        files = self._settings.get("COMPOSE_FILE", COMPOSE_FILE)
        return {**os.environ, "COMPOSE_FILE": files, **self._deployed(deployed)}
