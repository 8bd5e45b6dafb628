"""The command line: one name, one function each. The work is in the packages beside this file."""

import typer

from ops import dashboards
from ops.alerting import commands as alerting
from ops.release import commands as release
from ops.stack import commands as stack
from ops.trace import commands as trace

cli = typer.Typer(
    name="commandcenter",
    help="Watch over a team's Git repositories, and over this system: one ID tells the whole story.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # Locals may hold secrets.
)

cli.command("up")(stack.up)
cli.command("down")(stack.down)
cli.command("status")(stack.status)
cli.command("demo")(trace.demo)
cli.command("trace")(trace.trace)
cli.command("errors")(trace.errors)
cli.command("trail-token")(trace.trail_token)
cli.add_typer(dashboards.cli, name="dashboards")
cli.add_typer(alerting.cli, name="alerts")
cli.add_typer(release.cli, name="release")


def main() -> None:
    """Run the command line."""
    cli()
