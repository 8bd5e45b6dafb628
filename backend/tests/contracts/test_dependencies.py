"""`docs/dependencies.md` says of each library why it is there."""

import re
import tomllib
from typing import Any, Final

import pytest

from tests.grafana import BACKEND

PROJECT: Final[dict[str, Any]] = tomllib.loads((BACKEND / "pyproject.toml").read_text())
WANTED: Final[list[str]] = [
    *PROJECT["project"]["dependencies"],
    *(each for group in PROJECT["project"]["optional-dependencies"].values() for each in group),
    *(each for group in PROJECT["dependency-groups"].values() for each in group),
]
ROWS: Final = [line.split("|") for line in (BACKEND.parent / "docs" / "dependencies.md").read_text().splitlines()]
# The first cell of a row names one or several.
NAMED: Final = {name for row in ROWS if len(row) > 3 for name in re.findall(r"[a-z0-9][a-z0-9-]+", row[1])}


@pytest.mark.parametrize("name", sorted({re.split(r"[^A-Za-z0-9._-]", wanted)[0] for wanted in WANTED}))
def test_each_dependency_has_its_reason(name: str) -> None:
    """One that nobody knows the reason of is never taken away."""
    assert name in NAMED
