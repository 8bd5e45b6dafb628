"""The parsers, fed with anything."""

import itertools
import pickle

from hypothesis import given
from hypothesis import strategies as st

from app.repositories.git_error import GitError
from app.repositories.git_remote import parse_refs
from app.repositories.git_statistics import LogParser, TreeParser, first_line, parse_timestamp, week_of

NOW_S = 1_800_000_000
FIELD = st.binary(max_size=20).map(lambda value: value.replace(b"\0", b""))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.tuples(FIELD, FIELD, FIELD)), st.lists(st.integers(min_value=0)))
def test_a_log_is_read_the_same_in_pieces_of_any_size(
    commits: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    data = b"".join(field + b"\0" for commit in commits for field in commit)
    parser = LogParser(NOW_S)
    for piece in pieces(data, cuts):
        parser.feed(piece)
    parser.finish()
    assert parser.commits == len(commits)
    people = {email.strip().lower() or name.strip() for _, email, name in commits}
    assert len(parser.authors) == len(people)
    assert sum(parser.weeks.values()) <= len(commits)


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_upset_the_parsers(chunks: list[bytes]) -> None:
    log, tree = LogParser(NOW_S), TreeParser()
    for chunk in chunks:
        log.feed(chunk)
        tree.feed(chunk)
    log.finish()
    assert all(abs(week - week_of(NOW_S)) <= 52 for week in log.weeks)
    assert all(size > 0 for size in tree.languages.result().values())
    parse_refs(b"".join(chunks))
    first_line(b"".join(chunks), 10).encode()


@given(st.lists(st.tuples(FIELD, st.integers(min_value=0, max_value=2**40))), st.lists(st.integers(min_value=0)))
def test_a_tree_is_read_the_same_in_pieces_of_any_size(files: list[tuple[bytes, int]], cuts: list[int]) -> None:
    """Paths hold any byte but NUL, tabs and newlines among them."""
    data = b"".join(b"100644 blob %s %7d\t%s.py\0" % (b"a" * 40, size, path) for path, size in files)
    parser = TreeParser()
    for piece in pieces(data, cuts):
        parser.feed(piece)
    total = sum(size for _, size in files)
    assert parser.languages.result() == ({"Python": total} if total else {})


def test_one_record_without_an_end_takes_no_memory() -> None:
    parser = LogParser(NOW_S)
    for _ in range(100):
        parser.feed(b"x" * 1_000_000)
    assert len(pickle.dumps(parser._records._rest)) < 100_000


def test_weeks_begin_on_monday() -> None:
    monday_s = 1_767_571_200  # 2026-01-05T00:00:00Z
    assert week_of(monday_s) == week_of(monday_s + 7 * 24 * 3600 - 1)
    assert week_of(monday_s - 1) == week_of(monday_s) - 1


@given(st.binary(max_size=30))
def test_a_timestamp_is_a_moment_or_nothing(value: bytes) -> None:
    moment = parse_timestamp(value)
    assert moment is None or 0 <= moment < 253402300800


def test_a_digit_string_of_any_length_is_cheap() -> None:
    """Python refuses to convert more than 4300 digits, with an exception."""
    assert parse_timestamp(b"9" * 10_000) is None


@given(st.text())
def test_no_words_of_git_change_what_the_error_says(words: str) -> None:
    error = pickle.loads(pickle.dumps(GitError(words, retryable=True)))  # noqa: S301 - as a task queue does
    assert (error.reason, str(error), error.retryable) == (words, words, True)
