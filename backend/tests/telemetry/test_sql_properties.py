"""Whatever SQL, route, task name or ID comes along: PostgreSQL's own parser reads the statement that was meant."""

import string
from types import SimpleNamespace
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from pglast import ast, parse_sql
from pglast.enums import TransactionStmtKind, VariableSetKind
from pglast.parser import ParseError

from app.correlation import Correlation, bind, is_valid_id
from app.telemetry.sql import Mode, SqlAttribution, set_application_name
from tests.attribution import DRIVERS, MODES, Driver
from tests.fuzzing import fuzzed

# What closes a comment, a string, a statement; and what a driver may take for its own.
SIGNS: Final = ("*/", "/*", "'", '"', ";", "--", "\n", "%s", "%(x)s", "%%", "%", "$1", "$$", "\\", "DROP TABLE t")
# Characters that nobody uses, each for a sign until a text is drawn: a text is one draw, however long, where a list of
# signs would be two and more for each of them.
STAND_INS: Final = {0xE000 + number: SIGNS[number % len(SIGNS)] for number in range(8 * len(SIGNS))}
ASCII: Final = "".join(map(chr, range(1, 128)))
# What some take for a space, a line's end, a letter, a quote; of one byte to four.
FOREIGN: Final = "\x85\xa0é\u02bc\u2019\u2028\ufeff\uff07😀"
SIGNED: Final = st.text([*ASCII, *FOREIGN, *map(chr, STAND_INS)], max_size=20).map(lambda it: it.translate(STAND_INS))
ANY: Final = st.text(st.characters(exclude_characters="\0"), max_size=80) | SIGNED
NAMES: Final = st.none() | ANY
# IDs, and what is only just none.
NEARLY_IDS: Final = st.builds(
    "{0}{1}{2}".format,
    st.sampled_from(["", "a" * 57]),
    st.text(string.ascii_letters + string.digits + "._-", max_size=10),
    st.sampled_from(["", *SIGNS, "é", "٣"]),
)
# A driver refuses what is no UTF-8.
SQL_TEXT: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15) | SIGNED


def quoted(text: str, quote: str) -> str:
    """Return text as a literal or an identifier."""
    return quote + text.replace(quote, quote * 2) + quote


LITERALS: Final = SQL_TEXT.map(lambda text: quoted(text, "'"))
IDENTIFIERS: Final = SQL_TEXT.filter(bool).map(lambda text: quoted(text[:15], '"'))
SPACES: Final = st.sampled_from([" ", "\n", "\t", " -- it's a line's; rest\n", " /* a 'block; comment */ "])
STATEMENTS: Final = st.one_of(
    st.builds("SELECT{0}{1} AS {2}".format, SPACES, LITERALS, IDENTIFIERS),
    st.builds("SELECT{0}* FROM{0}{1} WHERE {2} = {3} OR a % 2 = 1".format, SPACES, IDENTIFIERS, IDENTIFIERS, LITERALS),
    st.builds("INSERT INTO {0} VALUES{1}({2}, {3})".format, IDENTIFIERS, SPACES, LITERALS, LITERALS),
    st.builds("{0}UPDATE {1} SET {2} = {3}{0}".format, SPACES, IDENTIFIERS, IDENTIFIERS, LITERALS),
    st.builds("DECLARE {0} CURSOR FOR{1}SELECT {2}".format, IDENTIFIERS, SPACES, LITERALS),
    st.builds("{0}; DELETE FROM {1}".format, LITERALS.map("SELECT {}".format), IDENTIFIERS),
    st.builds("COPY {0} FROM STDIN".format, IDENTIFIERS),
    st.builds("SELECT $tag${0}$tag$".format, SQL_TEXT.filter(lambda text: "$" not in text)),
)


def trees(sql: str) -> list[Any] | None:
    """Return the parse trees of `sql`, which don't know where they stood; None where PostgreSQL refuses it."""
    try:
        return [raw.stmt for raw in parse_sql(sql)]
    except ParseError:
        return None


def as_postgresql_gets_it(driver: Driver, statement: str) -> str:
    """Return what the driver sends: psycopg takes the doubling of percent signs away again."""
    return statement.replace("%%", "%") if driver == "psycopg" else statement


def sent(driver: Driver, mode: Mode, correlation: Correlation, statement: str, *, autocommit: bool = False) -> str:
    """Return what our hook makes of a statement."""
    context: Any = SimpleNamespace(execution_options={"isolation_level": "AUTOCOMMIT"} if autocommit else {})
    attribution = SqlAttribution(mode=mode, application="test", driver=driver)
    return attribution.attributed(statement, correlation, context, doubled=driver == "psycopg")


def at_work(request_id: str, name: str | None, kind: str) -> Correlation:
    """Return a correlation as no middleware would let it in."""
    correlation = Correlation(request_id, "0" * 32, "0" * 16)
    correlation.kind, correlation.name = kind, name
    return correlation


@fuzzed(500)
@given(
    STATEMENTS,
    NAMES,
    ANY,
    st.sampled_from(["http", "task"]),
    st.sampled_from(DRIVERS),
    st.sampled_from(MODES),
    st.booleans(),
)
def test_a_commented_statement_is_the_statement(
    statement: str, name: str | None, request_id: str, kind: str, driver: Driver, mode: Mode, autocommit: bool
) -> None:
    """An attacker who names a route, a task or an ID must not get a word in: the tree is the bare statement's."""
    bare = trees(statement)
    assert bare is not None
    # As SQLAlchemy hands it to a driver whose placeholders begin with a percent sign.
    given_text = statement.replace("%", "%%") if driver == "psycopg" else statement
    text = sent(driver, mode, at_work(request_id, name, kind), given_text, autocommit=autocommit)
    assert trees(as_postgresql_gets_it(driver, text)) == bare
    assert text.endswith(given_text)


@fuzzed(300)
@given(SQL_TEXT, NAMES, ANY, st.sampled_from(DRIVERS), st.sampled_from(MODES))
def test_what_is_no_statement_does_not_become_one(
    statement: str, name: str | None, request_id: str, driver: Driver, mode: Mode
) -> None:
    """A comment in front repairs nothing and breaks nothing."""
    text = sent(driver, mode, at_work(request_id, name, "http"), statement)
    assert text.endswith(statement)
    prefix = text.removesuffix(statement)
    assert trees(prefix) == []
    if "%%" not in statement:
        assert trees(as_postgresql_gets_it(driver, text)) == trees(statement)


@fuzzed(300)
@given(
    ANY | NEARLY_IDS,
    st.sampled_from(
        ["BEGIN;", "BEGIN ISOLATION LEVEL SERIALIZABLE;", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"]
    ),
)
def test_a_begin_takes_along_one_name_and_nothing_else(request_id: str, begin: str) -> None:
    """The one place where an ID stands outside a comment."""
    with bind(at_work(request_id, None, "http")):
        found = trees(begin + set_application_name(separator=""))
    assert found is not None
    started, *rest = found
    assert isinstance(started, ast.TransactionStmt)
    assert started.kind == TransactionStmtKind.TRANS_STMT_BEGIN
    assert len(rest) == int(is_valid_id(request_id))
    for setting in rest:
        assert isinstance(setting, ast.VariableSetStmt)
        assert (setting.kind, setting.name) == (VariableSetKind.VAR_SET_VALUE, "application_name")
        assert setting.is_local
        [value] = setting.args or ()
        assert value.val.sval == request_id
