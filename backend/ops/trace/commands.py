"""`commandcenter trace`, `errors`, `trail-token` and `demo`: arguments in, text and exit codes out."""

import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
import typer
from rich.console import Console
from rich.text import Text

from ops.release.place import Releases
from ops.release.state import START
from ops.stack.errors import FAILED, StackError
from ops.stack.layout import Layout
from ops.stack.plainly import plainly
from ops.stack.service import find
from ops.trace import summary
from ops.trace import text as say
from ops.trace.model import Errors, Trace
from ops.trace.query import Archive, parse_since
from ops.trace.records import is_valid_id
from ops.trace.token import HEADER, MAX_MINUTES, secret_of
from ops.trace.token import trail_token as sign

# Text in a pipe or a file has no width of its own; rich would take 80.
_PIPED_WIDTH: Final = 160

LogsOption = Annotated[
    Path | None,
    typer.Option("--logs", help="Folder of log files; the target's unless given.", show_default=False),
]
TargetOption = Annotated[
    Literal["native", "compose"],
    typer.Option(envvar="RELEASE_TARGET", help="native: the stack of `make up`. compose: production."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document (docs/trace.md) instead of text.")]


def terminal() -> Console:
    """Return a console for log values: no markup, no highlighting, no emoji codes."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


@plainly
def trace(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A request ID, task (job) ID or trace ID.")],
    *,
    json: JsonOption = False,
    logs: LogsOption = None,
    target: TargetOption = "native",
    since: Annotated[str | None, typer.Option(help="Look no further back: 15m, 2h, 3d, or a time (UTC).")] = None,
    full: Annotated[bool, typer.Option("--full", help="Shorten nothing: SQL, tracebacks, plans.")] = False,
) -> None:
    """Tell the whole story of one ID: request, SQL, log lines, tasks, errors."""
    if not is_valid_id(wanted):
        raise typer.BadParameter(
            f"{say.one_line(wanted, 80)!r} is no ID: 1 to 63 characters out of A-Z a-z 0-9 . _ -", param_hint="ID"
        )
    archive = _archive(logs, target, since)
    found = archive.trace(wanted)
    if json:
        _print_json(found)
    elif found.stories:
        summary.show_trace(found, terminal(), full=full)
    else:
        _complain(summary.not_found(found))
    if not found.stories:
        raise typer.Exit(FAILED)


@plainly
def errors(
    *,
    since: Annotated[str, typer.Option(help="How far back: 15m, 2h, 3d, or a time (UTC).")] = "24h",
    new: Annotated[
        bool, typer.Option("--new", help="Only what was not seen before the latest release; looks at all logs.")
    ] = False,
    json: JsonOption = False,
    logs: LogsOption = None,
    target: TargetOption = "native",
) -> None:
    """List what failed, by fingerprint, most recent first."""
    released = _released_at() if new else None
    archive = _archive(logs, target, None if new else since)
    found = archive.errors()
    if released is not None:
        found = summary.new_errors(found, released)
    if json:
        _print_json(found)
    elif archive.is_empty:
        _complain(
            [
                f"There is no log file in {say.one_line(str(archive.folder))}.",
                "Start the stack (`make up`), name the folder with --logs, or ask containers with --target compose.",
            ]
        )
    else:
        _show_errors(found, terminal())
    if archive.is_empty:
        raise typer.Exit(FAILED)


def _released_at() -> datetime:
    """Return when the latest release began to start its version."""
    places = Releases(Layout.from_environment().data)
    journal = places.journal(places.at_stake())
    for entry in journal.entries:
        if (entry.kind, entry.step) == ("intent", START):
            return entry.moment.astimezone(UTC)
    raise StackError(f"Release {journal.release} was never started.", "commandcenter release apply")


def _show_errors(found: Errors, console: Console) -> None:
    since = say.moment(found.searched.since) if found.searched.since else "the start of the logs"
    if found.new_since is not None:
        since = f"the release of {say.moment(found.new_since)} that was not there before"
    if found.groups:
        console.print(summary.errors_table(found, datetime.now(UTC)))
        console.print(Text(f"\n{say.plural(found.count, 'error')} since {since}. Go on with:", "dim"))
        last = next(
            (group.request_id for group in found.groups if group.request_id and is_valid_id(group.request_id)), None
        )
        console.print(Text(f"  commandcenter trace {last or '<id>'}"))
    else:
        console.print(Text(f"No error since {since}. Looked at:"))
        for line in summary.where_looked(found.searched):
            console.print(Text(f"  {line}", "dim"))
    for warning in summary.warnings(found.searched):
        console.print(Text(warning, "yellow"))


@plainly
def trail_token(
    *,
    minutes: Annotated[int, typer.Option(min=1, max=MAX_MINUTES, help="How long it holds.")] = 10,
    json: JsonOption = False,
) -> None:
    """Print a header that makes a request leave its trail in the log, also where nothing fails."""
    service = find()
    secret = secret_of(service)
    expires_at = int(time.time()) + minutes * 60
    until = datetime.fromtimestamp(expires_at, UTC)
    token = sign(secret, expires_at)
    url = f"{service.url}/api/v1/repositories"
    if json:
        answer = {"header": HEADER, "token": token, "expires_at": until, "url": url}
        typer.echo(orjson.dumps(answer, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2))
        return
    is_guarded = service.values.get("API_TOKEN") or service.values.get("API_TOKEN_FILE")
    guard = ' -H "Authorization: Bearer $API_TOKEN"' if is_guarded else ""
    typer.echo(f'curl -H "{HEADER}: {token}"{guard} {say.one_line(url)}')
    typer.echo(f"Holds until {until:%Y-%m-%d %H:%M:%S} UTC, for any request; what it did: commandcenter trace ID")


@plainly
def demo(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]…", help="Repositories to watch besides this checkout.")
    ] = None,
    *,
    api: Annotated[
        str | None,
        typer.Option(help="Base URL of the API; from API_HOST and API_PORT unless given.", show_default=False),
    ] = None,
    logs: LogsOption = None,
) -> None:
    """Sync real repositories through the API, make one request fail, and show the story of each."""
    # An HTTP client is slow to load, and only this command needs one.
    from ops.demo.api import Api  # noqa: PLC0415
    from ops.demo.tour import Tour, with_own_repository  # noqa: PLC0415

    with closing(Api(api)) as client:
        Tour(terminal(), client, logs or Layout.from_environment().logs).run(with_own_repository(urls or []))


def _archive(logs: Path | None, target: str, since: str | None) -> Archive:
    try:
        moment = parse_since(since, datetime.now(UTC)) if since is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"{say.one_line(since or '', 80)!r} is not {error}", param_hint="--since") from None
    if logs is not None and not logs.is_dir():
        raise typer.BadParameter(f"{say.one_line(str(logs))} is no folder", param_hint="--logs")
    return Archive(logs or _logs_of(target, moment), moment)


def _logs_of(target: str, moment: datetime | None) -> Path:
    if target == "native":
        return Layout.from_environment().logs
    # Slow to load, and of no use where logs are files.
    from ops.release.compose import ComposeTarget  # noqa: PLC0415

    return ComposeTarget(Console(stderr=True)).logs_since(moment)


def _print_json(answer: Trace | Errors) -> None:
    document = orjson.dumps(answer, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2).decode()
    typer.echo(say.escaped_json(document))


def _complain(lines: Iterable[str]) -> None:
    for line in filter(None, lines):
        typer.echo(line, err=True)
