"""Mutants: one rule with one mistake in it each. Tests that let a mutant pass would let that mistake pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    Matcher,
    Matchers,
    MatchOp,
    NumberLiteral,
    VectorSelector,
)

from tests.alerts.rules import Rule
from tests.promql import nodes, parse

_TURNED: Final = {">": "<", "<": ">", ">=": "<", "<=": ">", "==": "!=", "/": "*", "-": "+"}
_LOGICAL: Final = frozenset({"and", "or", "unless"})
_OTHER_SUM: Final = {"sum": "max", "max": "min", "min": "max"}
_OTHER_FUNCTION: Final = {"rate": "increase", "increase": "rate", "min_over_time": "max_over_time"}
_THROUGH: Final = frozenset({"absent", "label_replace"})
_OPPOSITES: Final = (
    (MatchOp.Equal, MatchOp.NotEqual),
    (MatchOp.NotEqual, MatchOp.Equal),
    (MatchOp.Re, MatchOp.NotRe),
    (MatchOp.NotRe, MatchOp.Re),
)


@dataclass(frozen=True)
class Mutant:
    """A rule with one mistake.

    Attributes:
        alert: the rule's name; a recording rule's, too.
        name: that and the mistake; the same at each run, and of one mutant alone.
        rule: what to put in the rule's place.
    """

    alert: str
    name: str
    rule: Rule


def unchanged(rule: Rule) -> Mutant:
    """Return the rule by the way a mutant is made, without a mistake: it must pass."""
    return Mutant(rule["alert"], f"{rule['alert']}: unchanged", {**rule, "expr": str(parse(rule["expr"]))})


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Make every mutant of a rule."""
    alert = rule["alert"]
    for what, part in (*_of_waiting(rule), *_of_texts(rule)):
        yield Mutant(alert, f"{alert}: {what}", part)
    yield from _of_expression(alert, rule)


def mutants_of_recording(rule: Rule) -> Iterator[Mutant]:
    """Make every mutant of a recording rule, which has nothing but its expression."""
    yield from _of_expression(rule["record"], rule)


def _of_expression(name: str, rule: Rule) -> Iterator[Mutant]:
    tree = parse(rule["expr"])
    for place, node in enumerate(nodes(tree)):
        for what, replacement in _mistakes(node):
            expression = str(_replaced(tree, place, replacement))
            yield Mutant(name, f"{name}: #{place} {what}", {**rule, "expr": expression})


def _of_waiting(rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    if "for" in rule:
        thrice = promql_parser.display_duration(3 * promql_parser.parse_duration(rule["for"]))
        yield "for: 0s", {**rule, "for": "0s"}
        yield f"for: {thrice}", {**rule, "for": thrice}


def _of_texts(rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("labels", "annotations"):
        for name in rule[kind]:
            yield f"without {name}", {**rule, kind: {key: text for key, text in rule[kind].items() if key != name}}


def _replaced(tree: Expr, place: int, replacement: str) -> Expr:
    """Return a copy of the tree in which the node at this place, counted as nodes() does, is another."""
    seen = -1

    def visit(_: Expr) -> Expr | None:
        nonlocal seen
        seen += 1
        return parse(replacement) if seen == place else None

    changed: Expr = promql_parser.transform(tree, pre_visit=visit)
    return changed


def _mistakes(node: Expr) -> Iterator[tuple[str, str]]:
    """Give what may be wrong about one node: in words, and in PromQL."""
    for kind, of_kind in _KINDS.items():
        if isinstance(node, kind):
            yield from of_kind(node)


def _of_number(node: NumberLiteral) -> Iterator[tuple[str, str]]:
    for wrong in (node.val * 2, node.val / 2) if node.val else (1.0,):
        yield f"{node.val:g} -> {wrong:g}", f"{wrong:g}"


def _of_operation(node: BinaryExpr) -> Iterator[tuple[str, str]]:
    operator = str(node.op)
    if operator in _LOGICAL:
        yield f"what stands before `{operator}` alone", f"({node.lhs})"
        yield f"what stands after `{operator}` alone", f"({node.rhs})"
    else:
        wrong = _TURNED[operator]
        yield f"{operator} -> {wrong}", f"({node.lhs}) {wrong} ({node.rhs})"


def _of_aggregation(node: AggregateExpr) -> Iterator[tuple[str, str]]:
    operator, labels = str(node.op), list(node.modifier.labels) if node.modifier else []
    yield f"no {operator}", f"({node.expr})"
    by = f"by ({', '.join(labels)}) " if labels else ""
    yield f"{operator} -> {_OTHER_SUM[operator]}", f"{_OTHER_SUM[operator]} {by}({node.expr})"
    for label in labels:
        rest = ", ".join(each for each in labels if each != label)
        yield f"{operator} not by {label}", f"{operator} by ({rest}) ({node.expr})"


def _of_call(node: Call) -> Iterator[tuple[str, str]]:
    name = node.func.name
    if name in _OTHER_FUNCTION:
        yield f"{name} -> {_OTHER_FUNCTION[name]}", f"{_OTHER_FUNCTION[name]}({node.args[0]})"
    elif name in _THROUGH:
        yield f"no {name}", f"({node.args[0]})"


def _of_selector(node: VectorSelector) -> Iterator[tuple[str, str]]:
    yield f"{node.name} -> {node.name}_x", f"{node.name}_x{node.matchers}"
    matchers = node.matchers.matchers
    for number, it in enumerate(matchers):
        for what, wrong in (
            (f"{it.name} -> {it.name}_x", [Matcher(it.op, f"{it.name}_x", it.value)]),
            (f"{it.name}: another value", [Matcher(it.op, it.name, f"{it.value}x")]),
            (f"{it.name}: negated", [Matcher(_opposite(it.op), it.name, it.value)]),
            (f"{it.name}: any", []),
        ):
            changed = Matchers([*matchers[:number], *wrong, *matchers[number + 1 :]])
            yield f"{node.name}: {what}", f"{node.name}{changed}"


def _opposite(operator: MatchOp) -> MatchOp:
    opposite: MatchOp = next(opposite for each, opposite in _OPPOSITES if each == operator)
    return opposite


_KINDS: Final[dict[type[Expr], Callable[[Any], Iterator[tuple[str, str]]]]] = {
    NumberLiteral: _of_number,
    BinaryExpr: _of_operation,
    AggregateExpr: _of_aggregation,
    Call: _of_call,
    VectorSelector: _of_selector,
}
