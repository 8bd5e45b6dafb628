"""The tour: register, sync, look, fail once on purpose, and tell the story of each request."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ops.demo.api import Answer, Api
from ops.demo.portrait import portrait
from ops.stack.errors import StackError
from ops.stack.layout import checkout
from ops.trace import text as say
from ops.trace.model import Trace
from ops.trace.query import Archive
from ops.trace.records import is_valid_id
from ops.trace.summary import show_trace

# A large repository is cloned over a network; a small one takes a second.
_SYNC_PATIENCE_S: Final = 600.0
_FLUSH_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.2
# This machine's clock and the service's may differ a little.
_CLOCK_SLACK: Final = timedelta(minutes=1)
_MISSING_REPOSITORY: Final = "file:///nonexistent/team/lost-repository"


class Tour:
    """One tour.

    Args:
        console: where it is shown.
        api: the service.
        logs: folder of the service's logs.
    """

    def __init__(self, console: Console, api: Api, logs: Path) -> None:
        self._console = console
        self._api = api
        self._logs = logs
        self._since = datetime.now(UTC) - _CLOCK_SLACK

    def run(self, urls: Sequence[str]) -> None:
        """Do it all, with the repositories at these URLs.

        Raises:
            StackError: the API is down or refuses, or a story can't be found.
        """
        health = self._api.expect("GET", "/health")
        self._api.check_ready()
        self._say(f"The system at {self._api.base_url} is up, version {health.get('version')}.")
        stories = []
        repositories = []
        for url in urls:
            repository, job = self._watch(url)
            stories.append(job["request_id"])
            if job["status"] == "failed":
                self._say(f"The sync failed: {job.get('reason')}", "yellow")
                continue
            repositories.append(repository["id"])
            self._console.print(portrait(self._api.expect("GET", f"/repositories/{repository['id']}")))
        answers = self._traffic(repositories[0] if repositories else None)
        failed = self._fail_once()
        self._tell([*(answer.request_id for answer in answers), *stories, failed])

    # --- what it does

    def _watch(self, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Register a repository and sync it, showing how far it is; return it and its finished job."""
        self._title(f"Register and sync {url}")
        repository, answer = self._api.register(url)
        known = "was registered already" if answer.status >= 400 else "is registered now"  # noqa: PLR2004 - 4xx
        self._say(f"Repository {repository['id']} {known} (request {answer.request_id}).")
        job = self._api.sync(repository["id"])
        job_id = str(job.get("job_id") or job["id"])
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            row = bar.add_task("queued", total=100)

            def show(state: dict[str, Any]) -> None:
                stage = say.one_line(str(state.get("stage") or state["status"]), 40)
                bar.update(row, completed=float(state.get("progress") or 0), description=stage)

            finished = self._api.finished_job(job_id, show, patience_s=_SYNC_PATIENCE_S)
        self._say(f"Job {job_id} {finished['status']}, asked for by request {finished['request_id']}.")
        return repository, finished

    def _traffic(self, repository_id: int | None) -> list[Answer]:
        """Make a few ordinary calls, some of them wrong."""
        self._title("Some traffic")
        answers = [
            self._api.call("GET", "/repositories", params={"limit": 5}),
            self._api.call("HEAD", "/repositories"),
            self._api.call("GET", "/repositories/999999999"),
            self._api.call("POST", "/repositories", json={"url": 1}),
        ]
        if repository_id is not None:
            answers.insert(1, self._api.call("GET", f"/repositories/{repository_id}"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("call", "status", "took", "request ID"):
            table.add_column(column, no_wrap=True)
        for answer in answers:
            call = say.one_line(f"{answer.method} {answer.path}", 100)
            table.add_row(call, str(answer.status), say.duration(answer.took_ms), say.one_line(answer.request_id))
        self._console.print(table)
        return answers

    def _fail_once(self) -> str:
        """Sync a repository that is not there, forget it again, and return the ID of the request that failed."""
        self._title(f"An error on purpose: sync {_MISSING_REPOSITORY}, which does not exist")
        created = self._api.call("POST", "/repositories", json={"url": _MISSING_REPOSITORY})
        if created.status == 422:  # noqa: PLR2004 - refused at the door
            self._say(f"Refused: {created.detail} (request {created.request_id})", "yellow")
            return created.request_id
        repository, _ = self._api.register(_MISSING_REPOSITORY)
        try:
            job = self._api.sync(repository["id"])
            finished = self._api.finished_job(
                str(job.get("job_id") or job["id"]), lambda _: None, patience_s=_SYNC_PATIENCE_S
            )
        finally:
            self._api.call("DELETE", f"/repositories/{repository['id']}")
        reason = finished.get("reason") or "no reason given"
        self._say(f"Job {finished['id']} {finished['status']}: {reason} (request {finished['request_id']})", "yellow")
        return str(finished["request_id"])

    # --- what it tells

    def _tell(self, request_ids: Sequence[str]) -> None:
        """Draw each ID's story, as `commandcenter trace` does, once its last line is in the logs."""
        if Archive(self._logs).is_empty:
            raise StackError(
                f"There are no log files in {self._logs}, so no story can be told here.",
                "Name the folder with --logs.",
            )
        missing = []
        for request_id in dict.fromkeys(request_ids):
            if not is_valid_id(request_id):
                missing.append("an answer without X-Request-ID")
                continue
            self._title(f"commandcenter trace {request_id}")
            found = self._whole_story(request_id)
            show_trace(found, self._console)
            if not found.stories:
                missing.append(request_id)
        if missing:
            raise StackError(
                f"No line in {self._logs} about {', '.join(missing)}.",
                "Is that the log folder of the API at " + self._api.base_url + "? Name the right one with --logs.",
            )
        self._console.print()
        self._say("Any of these again: commandcenter trace <request ID>. What failed lately: commandcenter errors.")

    def _whole_story(self, request_id: str) -> Trace:
        """Return the story once it has ended; what there is of it after a while."""
        deadline = time.monotonic() + _FLUSH_PATIENCE_S
        while True:
            found = Archive(self._logs, self._since).trace(request_id)
            is_whole = bool(found.stories) and all(story.ended_at is not None for story in found.stories)
            if is_whole or time.monotonic() > deadline:
                return found
            time.sleep(_POLL_S)

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(Text(say.one_line(text), "bold"), align="left", style="dim")

    def _say(self, text: str, style: str = "none") -> None:
        self._console.print(Text(say.safe(text), style))


def with_own_repository(urls: Sequence[str]) -> list[str]:
    """Return these URLs, after that of the checkout this runs from, if it is one.

    Raises:
        StackError: it is none, and no other was named.
    """
    root = checkout()
    if (root / ".git").exists() and (root / "backend").is_dir():
        return [root.as_uri(), *urls]
    if not urls:
        raise StackError(
            "This does not run from a Git checkout, so there is no repository to show.",
            "Give a URL: commandcenter demo https://github.com/pallets/click",
        )
    return list(urls)
