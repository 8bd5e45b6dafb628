"""`commandcenter release …`: arguments in, text and exit codes out."""

from typing import Final

import typer

from ops.release import changes, checks, judgements, status

cli: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)  # Locals may hold secrets.


@cli.callback()
def release() -> None:
    """A release: each step checked, done, verified and written down, and the way back."""


cli.command("apply")(changes.apply)
cli.command("rollback")(changes.rollback)
cli.command("plan")(checks.plan)
cli.command("preflight")(checks.preflight)
cli.command("verify")(checks.verify)
cli.command("baseline")(judgements.baseline)
cli.command("watch")(judgements.watch)
cli.command("signoff")(judgements.signoff)
cli.command("status")(status.status)
