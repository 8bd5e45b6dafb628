"""The whole of a recorded story, as a person sees it. `data/logs` is the recording, `data/story*.txt` the trees."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from ops.trace.query import Archive
from ops.trace.render import story_tree

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 11, 24, 8, 10, tzinfo=UTC)


def drawn(*, full: bool) -> str:
    (story,) = Archive(DATA / "logs").trace("req-1").stories
    out = io.StringIO()
    Console(file=out, width=150, markup=False, highlight=False, emoji=False).print(story_tree(story, NOW, full=full))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize(("golden", "full"), [("story.txt", False), ("story_full.txt", True)])
def test_the_tree_is_the_golden_one(golden, full):
    """A request that was retried, sent a task that was retried, that sent one that failed."""
    assert drawn(full=full) == (DATA / golden).read_text()


def test_colours_tell_good_from_bad():
    """And one part's colour does not run into the next."""
    (story,) = Archive(DATA / "logs").trace("req-1").stories
    out = io.StringIO()
    Console(file=out, width=150, force_terminal=True, color_system="standard", no_color=False).print(
        story_tree(story, NOW)
    )
    assert "\x1b[32m → 202\x1b[0m in 21 ms\x1b[2m" in out.getvalue()
    assert "\x1b[1;31mFAILURE\x1b[0m in 191 ms" in out.getvalue()


@pytest.mark.parametrize("full", [False, True])
def test_parameters_are_never_shown(full):
    """They are people's data; PostgreSQL's log holds them in DETAIL, in plans and in row values."""
    assert "hidden-parameter" in (DATA / "logs" / "postgres.log").read_text()
    assert "hidden-parameter" not in drawn(full=full)
