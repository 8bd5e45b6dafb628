"""What a release is made on: the one interface its steps know, be the system processes or containers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import psycopg

from ops.demo.api import Api
from ops.release.place import Releases


class Target(Protocol):
    """A running system that a release changes.

    Every method raises StackError where it can't do what it says; the message is for a person.
    """

    @property
    def name(self) -> str:
        """`native` or `compose`."""

    @property
    def releases(self) -> Releases:
        """Where its releases are written down."""

    @property
    def logs(self) -> Path:
        """Folder of the services' log files, as `commandcenter trace` reads them."""

    @property
    def checkout(self) -> Path:
        """The checkout that releases are made from, with `monitoring/`."""

    @property
    def rules(self) -> Path:
        """Folder of the rules that Prometheus is to evaluate, and of the prometheus.yml that names their files."""

    @property
    def alertmanager_file(self) -> Path:
        """Alertmanager's configuration that a start would take, be it there or not."""

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""

    def answers(self) -> Mapping[str, str]:
        """Ask each part how it is: its name, and what is wrong in words, or nothing."""

    def data_free_bytes(self) -> int:
        """Return the room where PostgreSQL's data lies."""

    @property
    def secrets(self) -> Collection[str]:
        """What must not be written anywhere."""

    def wanted_secrets(self) -> Mapping[str, str]:
        """Return the secrets this system needs, by name; empty where one is missing."""

    @property
    def secret_key(self) -> str:
        """What the service signs with; empty where nobody knows."""

    def api(self) -> Api:
        """Return a client of the REST API."""

    # --- versions

    def resolve(self, ref: str) -> str:
        """Return the commit, 12 digits, that a branch, tag or commit names."""

    def running(self) -> Mapping[str, Any]:
        """Return what runs now, in a form that `deploy` takes: `commit` and whatever else the target needs."""

    def kept(self) -> Mapping[str, Any]:
        """Return what runs now, laid ready, so that it can be deployed again whatever becomes of the checkout."""

    def is_prepared(self, commit: str) -> bool:
        """Whether a version's code and dependencies lie ready."""

    def prepare(self, commit: str) -> Mapping[str, Any]:
        """Lay a version ready to run; return what `deploy` takes."""

    def deploy(self, wanted: Mapping[str, Any]) -> None:
        """Run this from now on: restart what changed and return when all is healthy."""

    def halt(self) -> None:
        """Stop our own services and the exporter, whose role a migration may take away; nothing else."""

    def without_layer(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the same with the layer switched off and the exporter stopped."""

    def without_exporter(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the same without the exporter: its role is gone."""

    # --- schema and data

    def revisions(self, commit: str) -> list[str]:
        """Return the schema revisions that a version knows, newest first."""

    def schema_sql(self, commit: str, start: str, end: str) -> str:
        """Return the SQL that leads from one revision up to another."""

    def migrate(self, commit: str, command: str, revision: str) -> None:
        """Run `alembic upgrade|downgrade` with the code of a version, lock_timeout 1 s.

        Raises:
            LockedOutError: another session holds a lock that the migration needs.
        """

    def connect(self, database: str = "commandcenter") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser; what is sent stays out of the server's log."""

    def postgres_tool(
        self, tool: str, *arguments: str, source: IO[bytes] | None = None, target: IO[bytes] | None = None
    ) -> None:
        """Run `pg_dump` or `pg_restore` of the server's version, as the superuser."""

    def set_exporter_password(self) -> None:
        """Give the exporter's role the password of the settings, as a SCRAM verifier."""
