"""A repository in a few lines."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ops.demo.portrait import portrait, shares, sparkline


def test_the_tallest_bar_is_the_busiest_week():
    assert sparkline([0, 1, 4, 8]) == "·▂▅█"


def test_no_activity_is_a_row_of_dots():
    assert sparkline([0, 0, 0]) == "···"


@given(st.lists(st.integers(-5, 10**9)))
def test_every_week_has_its_bar(weeks):
    assert len(sparkline(weeks)) == len(weeks)


def test_languages_are_told_by_share():
    assert shares({"Shell": 10, "Python": 90}) == "Python 90 %, Shell 10 %"
    assert shares({"Python": 999, "Roff": 1}) == "Python 100 % and 1 more"
    assert shares({}) == "none found"
    assert shares(dict.fromkeys("abcdefg", 1)).endswith("and 2 more")


def test_a_repository_that_was_never_synced_has_a_portrait():
    out = io.StringIO()
    Console(file=out, width=100).print(portrait({"full_name": "a/b", "url": "https://example.com/a/b"}))
    assert "none yet" in out.getvalue()
