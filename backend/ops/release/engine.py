"""The container engine of this host, and Compose on it: how they are called, and what they say of a project.

Their own words are used: COMPOSE (`docker compose`) and ENGINE (`docker`) name other programs of the same command line.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ops.release import containers
from ops.stack.errors import StackError

COMPOSE_FILE: Final = "docker-compose.prod.yml"
_TIMEOUT_S: Final = 900


class Engine:
    """Engine and Compose, for one project.

    Args:
        root: folder of the compose file; all is run there.
        settings: of `.env` and the environment.
    """

    def __init__(self, root: Path, settings: Mapping[str, str]) -> None:
        self._root = root
        self._words = shlex.split(os.environ.get("ENGINE", "docker"))
        self._compose = shlex.split(os.environ.get("COMPOSE", "docker compose"))
        self._project = settings.get("COMPOSE_PROJECT_NAME", "commandcenter")

    def run(self, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run the engine; raises StackError where that fails, unless it may."""
        return self._run([*self._words, *arguments], None, may_fail=may_fail)

    def compose(
        self, *arguments: str, environment: Mapping[str, str], may_fail: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run Compose; raises StackError where that fails, unless it may."""
        return self._run(self.compose_words(*arguments), environment, may_fail=may_fail)

    def compose_words(self, *arguments: str) -> list[str]:
        """Return the command line of Compose."""
        return [*self._compose, *arguments]

    def held(self) -> dict[str, list[containers.Container]]:
        """Return the project's containers, by service."""
        listed = self._listed()
        return containers.read(self.run("inspect", *listed, may_fail=True).stdout) if listed else {}

    def log(self, service: str, file: Path, since: str | None) -> None:
        """Write into a file what the engine has of a service's log; `since` as it takes that: `10m`, a time."""
        listed = self._listed("--filter", f"label={containers.LABEL}.service={service}")
        with file.open("wb") as out:
            for container in listed:
                # PostgreSQL writes to standard error; both are its log.
                command = [*self._words, "logs", *(["--since", since] if since else []), container]
                subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)

    def _listed(self, *filters: str) -> list[str]:
        project = ("--filter", f"label={containers.LABEL}.project={self._project}")
        return self.run("ps", "--all", "--quiet", *project, *filters).stdout.decode().split()

    def _run(
        self, command: list[str], environment: Mapping[str, str] | None, *, may_fail: bool
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                command,
                cwd=self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(
                f"{command[0]} can't be run: {error}", "COMPOSE and ENGINE name other programs."
            ) from error
        if done.returncode and not may_fail:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            raise StackError(f"{shlex.join(command[:4])} … failed:\n{said[-3000:]}", "docker compose ps")
        return done
