"""`commandcenter release …`: arguments in, text and exit codes out."""

from typing import Annotated, Final

import typer

from ops.release import changes, checks, judgements, status
from ops.release.at_work import TARGETS, chosen

cli: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)  # Locals may hold secrets.


@cli.callback()
def release(
    target: Annotated[
        str, typer.Option(envvar="RELEASE_TARGET", help="native: the stack of `make up`. compose: production.")
    ] = "native",
) -> None:
    """A release: each step checked, done, verified and written down, and the way back."""
    if target not in TARGETS:
        raise typer.BadParameter(f"one of {', '.join(TARGETS)}", param_hint="--target")
    chosen.set(target)


cli.command("apply")(changes.apply)
cli.command("rollback")(changes.rollback)
cli.command("plan")(checks.plan)
cli.command("preflight")(checks.preflight)
cli.command("verify")(checks.verify)
cli.command("baseline")(judgements.baseline)
cli.command("watch")(judgements.watch)
cli.command("signoff")(judgements.signoff)
cli.command("status")(status.status)
