"""What the guides tell people to type can be typed, and where they lead there is something."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.attribution import make_pool
from tests.pages import blocks
from tests.system import BACKEND, migrate

DOCS = BACKEND.parent / "docs"
PAGES = [DOCS / f"{name}.md" for name in ("adopting", "debugging-with-correlation-ids", "growing")]
DEBUGGING = PAGES[1]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shell_lines_can_be_typed(page: Path) -> None:
    """By the shell's own word."""
    typed = blocks(page, "sh")
    for session in blocks(page, "console"):
        # What is typed goes on in lines that are indented as far as no answer is.
        typed += re.findall(r"^\$ (.+(?:\n {9}[|\[].+)*)", session, re.MULTILINE)
    for command in typed:
        checked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{command}\n{checked.stderr}"


def test_there_are_the_commands_to_debug_with() -> None:
    program = str(Path(sys.executable).with_name("commandcenter"))
    commands = set(re.findall(r"commandcenter ([a-z-]+) ", DEBUGGING.read_text()))
    assert {"trace", "errors", "trail-token"} <= commands
    for command in commands:
        subprocess.run([program, command, "--help"], capture_output=True, check=True)


def test_each_statement_runs(new_database: Callable[[], str]) -> None:
    url = new_database()
    assert migrate(url).returncode == 0
    statements = [statement for page in PAGES for statement in blocks(page, "sql")]
    assert statements
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_statistics_of_statements_have_no_leading_comment(new_database: Callable[[], str]) -> None:
    """Where this fails, PostgreSQL keeps the route there again: tell it in the guide and in SlowDatabaseQueries."""
    pool = make_pool(new_database(), "psycopg", "transaction")
    texts = text("SELECT query FROM pg_stat_statements WHERE query LIKE '%AS leading%' AND query NOT LIKE '%pg_stat%'")

    def work(connection: Connection) -> list[str]:
        connection.execute(text("SELECT 1 AS leading"))
        return [str(query) for query in connection.scalars(texts)]

    try:
        assert await pool.run(work, "req-leading") == ["SELECT $1 AS leading"]
    finally:
        await pool.dispose()


def test_queues_are_counted_once_however_many_hosts_tell_of_them() -> None:
    """Each worker's parent reads the same queues: a bare sum would count a task once a host."""
    folder = BACKEND.parent / "monitoring" / "grafana" / "dashboards"
    panels = "".join(file.read_text() for file in folder.glob("*.json"))
    asked = re.findall(r'"expr": "(.*celery_queue_depth.*)"', panels)
    assert len(asked) == 3
    assert [query for query in asked if "max by (queue) (celery_queue_depth" not in query] == []
