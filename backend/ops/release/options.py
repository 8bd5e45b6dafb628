"""Options that several commands of `commandcenter release` have."""

from typing import Annotated

import typer

ReleaseOption = Annotated[
    str | None,
    typer.Option("--release", help="ID; the one at stake unless given: see `release status`.", show_default=False),
]
NewReleaseOption = Annotated[
    str | None,
    typer.Option("--release", help="ID; the one begun last unless given, or a new one.", show_default=False),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For a script to read.")]
