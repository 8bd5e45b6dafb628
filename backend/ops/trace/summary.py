"""Draws whole answers: stories, the table of errors, where a command looked and what to try next."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.trace import text as say
from ops.trace.model import Errors, Searched, Trace
from ops.trace.render import story_tree


def show_trace(found: Trace, console: Console, *, full: bool = False) -> None:
    """Draw the stories that a trace found."""
    now = datetime.now(UTC)
    if found.stories and found.id not in {story.request_id for story in found.stories}:
        console.print(Text(f"{found.id} is {_kind_of_id(found)}. It belongs to:", "dim"))
    for story in found.stories:
        console.print(story_tree(story, now, full=full))
    if found.more_request_ids:
        count = len(found.more_request_ids)
        console.print(Text(f"{say.plural(count, 'more request ID')} with it; --json lists them.", "yellow"))
    for warning in warnings(found.searched):
        console.print(Text(warning, "yellow"))


def _kind_of_id(found: Trace) -> str:
    if "trace_id" in found.found_as:
        return "a trace ID"
    if found.found_as == ["client_request_id"]:
        return "an ID that a client sent and we did not accept"
    return "a task ID"


def new_errors(errors: Errors, since: datetime) -> Errors:
    """Return the errors whose like was not seen before `since`."""
    groups = [group for group in errors.groups if group.first_at >= since]
    return replace(errors, count=sum(group.count for group in groups), groups=groups, new_since=since)


def errors_table(errors: Errors, now: datetime) -> Table:
    """Return the errors by fingerprint, most recent first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("last seen", no_wrap=True)
    table.add_column("first seen", no_wrap=True)
    table.add_column("error", ratio=1, overflow="fold")
    table.add_column("trace", overflow="fold")
    for group in errors.groups:
        error = Text.assemble((say.one_line(group.type, 120), "bold red"))
        error.append(f" {say.one_line(', '.join(group.statuses), 60)}", "yellow")
        error.append(f"\n{say.one_line(', '.join(group.where), 200)}", "cyan")
        if group.message:
            error.append(f"\n{say.one_line(group.message, 200)}", "none")
        error.append(f"\nfingerprint {say.one_line(group.fingerprint or 'unknown', 80)}", "dim")
        table.add_row(
            str(group.count),
            f"{say.since(group.last_at, now)} ago",
            f"{say.since(group.first_at, now)} ago",
            error,
            say.one_line(group.request_id or "no ID", 80),
        )
    return table


def where_looked(searched: Searched) -> Iterator[str]:
    """Yield lines that say which files were read and what time they cover, a line a service."""
    services: dict[str, list[int]] = {}
    for index, file in enumerate(searched.files):
        services.setdefault(file.service, []).append(index)
    silent = []
    for service, indices in services.items():
        files = [searched.files[index] for index in indices]
        first = min((file.first_at for file in files if file.first_at), default=None)
        last = max((file.last_at for file in files if file.last_at), default=None)
        if all(file.skipped for file in files):
            period = "nothing since then"
        elif first and last:
            period = f"{say.moment(first)} to {say.moment(last)}"
        else:
            silent.append(service)
            continue
        amount = f"{say.plural(len(files), 'file')}, {say.size(sum(file.size_bytes for file in files))}"
        yield say.one_line(f"{service}: {amount}, {period}")
    if silent:
        yield say.one_line(f"without a line of our schema: {', '.join(silent)}")


def warnings(searched: Searched) -> Iterator[str]:
    """Yield what the reader of an answer must know about the logs behind it."""
    if searched.malformed_lines:
        count = say.plural(searched.malformed_lines, "line")
        yield f"{count} that should count could not be read: cut off, or of another schema."
    for file in searched.files:
        if file.problem:
            yield say.one_line(f"{file.path}: {file.problem}.")


def not_found(trace: Trace) -> Iterator[str]:
    """Yield lines that say where the ID is not, and what to try next."""
    searched = trace.searched
    yield f"No line about {trace.id} in {say.one_line(searched.folder)}."
    if not searched.files:
        yield "There is no log file. Start the stack (`make up`), or name the folder with --logs."
        yield "Does it run in containers? Then ask their engine: --target compose. Older lines are in Loki alone."
        return
    if searched.since is not None:
        yield f"Looked at lines since {say.moment(searched.since)} only; leave --since out to look further back."
    for line in where_looked(searched):
        yield f"  {line}"
    yield "Next: is the ID whole? (A log, a mail or a chat may have cut it.)"
    yield "Did it happen outside these times? Then the files are rotated away; older ones go with --logs DIR."
    yield "Was it another host or stack? Then name its log folder with --logs DIR."
    yield "Which errors there were: `commandcenter errors`."
