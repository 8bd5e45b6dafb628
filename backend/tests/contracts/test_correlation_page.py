"""docs/correlation.md names tests that exist, and no row is without one."""

import ast
import re

import pytest

from tests.system import BACKEND

PAGE = BACKEND.parent / "docs" / "correlation.md"
_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def functions_in(path: str) -> set[str]:
    """Return the names of the tests in a file below `tests`; none where there is no such file."""
    file = BACKEND / "tests" / path
    if not file.is_file():
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions)}


def rows() -> list[str]:
    """Return the rows of all tables, without their heads."""
    lines = PAGE.read_text().splitlines()
    return [
        line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not after.startswith("|---")
    ]


@pytest.mark.parametrize("page", sorted((BACKEND.parent / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_each_test_that_a_page_names_exists(page) -> None:
    """A proof that was renamed away is none; in this page or any other."""
    named = _NAMED.findall(page.read_text())
    assert [f"{path}::{name}" for path, name in named if name not in functions_in(path)] == []


def test_each_row_names_a_test(summary: list[str]) -> None:
    """A promise without a proof belongs under "Not shown"."""
    assert [row for row in rows() if not _NAMED.search(row)] == []
    named = set(_NAMED.findall(PAGE.read_text()))
    assert len(rows()) > 50
    summary.append(f"paths on which the ID was seen: {len(rows())}, by {len(named)} tests")


def test_a_test_that_is_not_there_is_found() -> None:
    """A contract that can't be broken proves nothing."""
    assert "test_a_test_that_is_not_there_is_found" in functions_in("contracts/test_correlation_page.py")
    assert functions_in("contracts/test_nothing.py") == set()
