"""`commandcenter release …`: which commands there are, and what they work on."""

from typing import Annotated, Final, Literal

import typer

from ops.on_demand import on_demand
from ops.release.choice import chosen

COMMANDS: Final = {
    "apply": "ops.release.changes:apply",
    "rollback": "ops.release.changes:rollback",
    "plan": "ops.release.checks:plan",
    "preflight": "ops.release.checks:preflight",
    "verify": "ops.release.checks:verify",
    "baseline": "ops.release.judgements:baseline",
    "watch": "ops.release.judgements:watch",
    "signoff": "ops.release.judgements:signoff",
    "status": "ops.release.status:status",
}
cli: Final = typer.Typer(
    cls=on_demand(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # Locals may hold secrets.
)


@cli.callback()
def release(
    target: Annotated[
        Literal["native", "compose"],
        typer.Option(envvar="RELEASE_TARGET", help="native: the stack of `make up`. compose: production."),
    ] = "native",
) -> None:
    """A release: each step checked, done, verified and written down, and the way back."""
    chosen.set(target)
