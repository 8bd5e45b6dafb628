"""One PostgreSQL cluster on disk: made whole or not at all, configured afresh at each start.

Used by the stack and by the tests, so both log alike.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.stack import accounts
from ops.stack.accounts import Account
from ops.stack.errors import StackError

SUPERUSER: Final = "postgres"
_LONGEST_SOCKET_PATH: Final = 107
# `app=%a` is the request ID inside a transaction of ours: docs/log-schema.md.
LOG_LINE_PREFIX: Final = "%m [%p] app=%a user=%u db=%d "


@dataclass(frozen=True)
class Cluster:
    """A cluster: `home` holds `data`, and nothing that isn't ours."""

    install: Path
    home: Path
    port: int
    account: Account | None = None
    log_min_duration_ms: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    @property
    def _socket_fits(self) -> bool:
        """A socket's path may have 107 bytes; everything of ours comes over the loopback anyway."""
        return len(str(self.home / ".s.PGSQL.65535").encode()) <= _LONGEST_SOCKET_PATH

    def command(self) -> list[str]:
        """Return the command line that runs this cluster in the foreground."""
        return [str(self.install / "bin" / "postgres"), "-D", str(self.data)]

    def initialise(self, superuser_password: str) -> None:
        """Make the cluster if it isn't there.

        It is made beside its place and then moved there, so one that broke off half-way is never mistaken for a whole
        one.

        Raises:
            StackError: initdb failed; with what it said.
        """
        if (self.data / "PG_VERSION").exists():
            return
        accounts.give(self.home, self.account, 0o700)
        unfinished = self.home / "data.new"
        for rest in (unfinished, self.data):
            shutil.rmtree(rest, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.home, prefix="pw-") as secret:
            if self.account is not None:
                os.chown(secret.name, self.account.uid, self.account.gid)
            secret.write(superuser_password)
            secret.flush()
            self._initdb(unfinished, Path(secret.name))
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'commandcenter.conf'\n")
        unfinished.rename(self.data)

    def _initdb(self, target: Path, password_file: Path) -> None:
        command = [str(self.install / "bin" / "initdb"), "--pgdata", str(target), "--username", SUPERUSER]
        command += ["--pwfile", str(password_file), "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"]
        command += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
        account = self.account
        made = subprocess.run(
            command,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            shutil.rmtree(target, ignore_errors=True)
            said = (made.stderr or made.stdout).strip()
            raise StackError(f"PostgreSQL could not make its data folder {self.data}:\n{said}")

    def write_config(self) -> None:
        """Write the settings that are ours."""
        text = "".join("{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in self.settings().items())
        path = self.data / "commandcenter.conf"
        if path.exists() and path.read_text() == text:
            return
        path.write_text(text)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def settings(self) -> dict[str, str]:
        """Return PostgreSQL's settings, as text."""
        return {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            # In the private folder: a socket among other users' files could be another's.
            "unix_socket_directories": str(self.home) if self._socket_fits else "",
            "password_encryption": "scram-sha-256",
            "shared_preload_libraries": "pg_stat_statements,auto_explain",
            "compute_query_id": "on",
            "track_io_timing": "on",
            "track_activity_query_size": "4096",
            "log_destination": "stderr",
            "logging_collector": "off",
            "log_line_prefix": LOG_LINE_PREFIX,
            # Who waited for whom, when it took over a second (deadlock_timeout).
            "log_lock_waits": "on",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "log_min_duration_statement": str(self.log_min_duration_ms),
            # What a statement was called with is people's data.
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
            "auto_explain.log_min_duration": "250ms",
            "auto_explain.log_format": "text",
            "auto_explain.log_parameter_max_length": "0",
            **self.extra,
        }
