"""A release on the native stack: versions in folders beside each other, run by its supervisor."""

import shutil
import subprocess
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

import psutil
import psycopg
from rich.console import Console

from ops import lock_timeout, roles
from ops.demo.api import Api
from ops.release import version
from ops.release.backup import LockedOutError
from ops.release.place import Releases
from ops.stack import database, deployment, health, lock, monitoring, parts, secret_store
from ops.stack.bring_up import bring_up
from ops.stack.cluster import SUPERUSER
from ops.stack.deployment import Deployment
from ops.stack.errors import StackError
from ops.stack.inherited import from_shell
from ops.stack.layout import Layout
from ops.stack.names import OWN
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings
from ops.stack.supervisor import Supervisor

_EXPORTER: Final = "postgres-exporter"
_LAYER: Final = "CORRELATION_ENABLED"
_MIGRATION_TIMEOUT_S: Final = 600


class NativeTarget:
    """The stack of this checkout, or of COMMANDCENTER_DATA.

    Args:
        console: where progress is shown.
        versions: folder of all versions; with the stack's data, unless given.

    Raises:
        StackError: it was never up.
    """

    name = "native"

    def __init__(self, console: Console, versions: Path | None = None) -> None:
        self._console = console
        self._layout = Layout.from_environment()
        self._versions = versions or self._layout.data / "versions"
        if not self._layout.exists():
            raise StackError("This stack was never up.", "Start it first: make up")

    @property
    def _settings(self) -> Settings:
        # Read afresh: a step may have changed what is deployed.
        return Settings.load(self._layout)

    @property
    def releases(self) -> Releases:
        """Where its releases are written down."""
        return Releases(self._layout.data)

    @property
    def checkout(self) -> Path:
        """The checkout that releases are made from."""
        return self._layout.root

    @property
    def logs(self) -> Path:
        """Folder of the services' log files."""
        return self._layout.logs

    @property
    def rules(self) -> Path:
        """Folder of the rules that belong to what runs."""
        return monitoring.released_folder(self._settings)

    @property
    def alertmanager_file(self) -> Path:
        """What each start makes Alertmanager's configuration of."""
        return self._layout.root / "monitoring" / "alertmanager.yml"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return f"http://127.0.0.1:{self._settings.port('PROMETHEUS_PORT')}"

    def answers(self) -> dict[str, str]:
        """Ask each part how it is."""
        stack = parts.plan(self._settings)
        return health.ask(health.checks(stack, targets=False))

    def data_free_bytes(self) -> int:
        """Return the room where PostgreSQL's data lies."""
        return shutil.disk_usage(self._layout.postgres_home).free

    @property
    def secrets(self) -> Collection[str]:
        """What must not be written anywhere."""
        return self._settings.secrets

    def wanted_secrets(self) -> dict[str, str]:
        """Return the secrets this stack needs; the two tokens guard only production."""
        settings = self._settings
        tokens = ("API_TOKEN", "METRICS_TOKEN") if settings.get("ENVIRONMENT") == "production" else ()
        return {name: settings.get(name) for name in (*secret_store.GENERATED, *tokens)}

    @property
    def secret_key(self) -> str:
        """What the service signs with."""
        return self._settings["SECRET_KEY"]

    def api(self) -> Api:
        """Return a client of the REST API."""
        return Api()

    def _exclusive(self) -> AbstractContextManager[None]:
        """Keep `up` and `down` away."""
        return lock.held(self._layout.lock)

    # --- versions

    def resolve(self, ref: str) -> str:
        """Return the commit that a branch, tag or commit names."""
        return version.resolve(self._layout.root, ref)

    def running(self) -> dict[str, Any]:
        """Return what is deployed now."""
        return self._settings.deployment.as_json()

    def kept(self) -> dict[str, Any]:
        """Return what runs now, laid ready.

        A stack that runs the checkout itself runs what it was when it came up: a `git pull` since then changed only
        the files.
        """
        deployed = self._settings.deployment
        commit = self._started_commit()
        if deployed.is_release or not commit:
            return deployed.as_json()
        return self.prepare(commit)

    def _started_commit(self) -> str:
        """Return the commit that the API was started from; empty where nobody can tell."""
        state = Supervisor(self._layout).states().get("api")
        try:
            commit = psutil.Process(state.pid).environ().get("BUILD_COMMIT", "") if state and state.pid else ""
            return version.resolve(self._layout.root, commit) if commit else ""
        except (psutil.Error, StackError):
            return ""

    def is_prepared(self, commit: str) -> bool:
        """Whether a version's code lies ready."""
        return (self._versions / commit).is_dir()

    def prepare(self, commit: str) -> dict[str, Any]:
        """Lay a version's code and dependencies ready."""
        made = version.prepare(self._layout, commit, self._versions)
        return Deployment(made.commit, made.backend, made.python).as_json()

    def deploy(self, wanted: Mapping[str, Any]) -> None:
        """Run this from now on, and wait until all is healthy."""
        found = Deployment.of(wanted)
        with self._exclusive():
            if found.is_release:
                deployment.save(self._layout, found)
            else:
                deployment.forget(self._layout)
            bring_up(parts.plan(self._settings), self._console, for_release=True)

    def halt(self) -> None:
        """Stop API, worker, beat and the exporter."""
        with self._exclusive():
            Supervisor(self._layout).stop((*reversed(OWN), _EXPORTER))

    def without_layer(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same with the layer off and the exporter stopped."""
        found = Deployment.of(self.without_exporter(wanted))
        return replace(found, switches={**found.switches, _LAYER: "false"}).as_json()

    def without_exporter(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same without the exporter."""
        found = Deployment.of(wanted)
        stopped = found.stopped if _EXPORTER in found.stopped else (*found.stopped, _EXPORTER)
        return replace(found, stopped=stopped, is_release=True).as_json()

    # --- schema and data

    def revisions(self, commit: str) -> list[str]:
        """Return the schema revisions that a version knows, newest first."""
        return version.revisions(version.prepare(self._layout, commit, self._versions))

    def schema_sql(self, commit: str, start: str, end: str) -> str:
        """Return the SQL that leads from one revision to another."""
        return self._alembic(commit, "upgrade", f"{start}:{end}", "--sql").stdout

    def migrate(self, commit: str, command: str, revision: str) -> None:
        """Run `alembic upgrade` or `downgrade` with the code of a version; locks are waited for a second."""
        self._alembic(commit, command, revision)

    def _alembic(self, commit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        made, settings = version.prepare(self._layout, commit, self._versions), self._settings
        environment = from_shell() | settings.for_app()
        environment |= {"PYTHONPATH": str(made.backend), "PGOPTIONS": lock_timeout.OPTION}
        try:
            done = subprocess.run(
                [str(made.python), "-m", "alembic", *arguments],
                cwd=made.backend,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_MIGRATION_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"alembic did not end within {_MIGRATION_TIMEOUT_S} s.", "See postgres.log.") from error
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            if lock_timeout.has_passed(said):
                raise LockedOutError(lock_timeout.IN_VAIN)
            raise StackError(f"alembic {arguments[0]} failed:\n{said[-3000:]}", "Nothing was changed by it.")
        return done

    def connect(self, database_name: str = "commandcenter") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser."""
        try:
            return database.connect(self._settings, database_name)
        except psycopg.OperationalError as error:
            raise StackError(f"PostgreSQL can't be reached: {error}", "commandcenter status") from error

    def postgres_tool(
        self, tool: str, *arguments: str, source: IO[bytes] | None = None, target: IO[bytes] | None = None
    ) -> None:
        """Run a tool of PostgreSQL as the superuser; its password comes from a private file."""
        settings = self._settings
        password_file = self._layout.run / "pgpass"
        password = settings["POSTGRES_PASSWORD"].replace("\\", "\\\\").replace(":", "\\:")
        write_private(password_file, f"127.0.0.1:*:*:{SUPERUSER}:{password}\n")
        program = self._layout.postgres_install() / "bin" / tool
        server = ["--host=127.0.0.1", f"--port={settings['POSTGRES_PORT']}", f"--username={SUPERUSER}", "--no-password"]
        # Else the copied data would be written to the log, statement by statement.
        environment = {**from_shell(), "PGPASSFILE": str(password_file), "PGOPTIONS": roles.UNLOGGED}
        done = subprocess.run(
            [str(program), *server, *arguments],
            env=environment,
            stdin=source or subprocess.DEVNULL,
            stdout=target or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise StackError(f"{tool} failed:\n{said[-2000:]}")

    def set_exporter_password(self) -> None:
        """Give the exporter's role its password."""
        database.let_exporter_in(self._settings)
