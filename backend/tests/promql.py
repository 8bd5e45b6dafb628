"""What a PromQL expression asks for: its series, and the labels it expects of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, StringLiteral, VectorSelector

Labels = Mapping[str, Collection[str]]
# The functions whose range is a choice: what Grafana calls $__rate_interval.
RATES: Final = frozenset({"rate", "irate", "increase"})


@dataclass
class Wants:
    """The series that an expression reads, and the labels it expects of each."""

    labels: dict[str, set[str]] = field(default_factory=dict)

    def missing(self, there: Labels) -> list[str]:
        """Return what is wanted and isn't there.

        Args:
            there: by series, the labels that any of its samples has.
        """
        found = []
        for name, labels in self.labels.items():
            if name not in there:
                found.append(name)
            else:
                found += [f"{name}{{{label}}}" for label in sorted(labels - set(there[name]))]
        return found


def parse(expression: str) -> Expr:
    """Return the expression's tree."""
    tree: Expr = promql_parser.parse(expression)
    return tree


def nodes(tree: Expr) -> list[Expr]:
    """Return all nodes of a tree."""
    found: list[Expr] = []

    def visit(node: Expr) -> bool:
        found.append(node)
        return True

    promql_parser.walk(tree, visit)
    return found


def selectors(tree: Expr) -> list[VectorSelector]:
    """Return every selector, those under a range included."""
    found = []
    for node in nodes(tree):
        if isinstance(node, VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
    # A range may be visited with and without its selector.
    return list({id(each): each for each in found}.values())


def wants(expression: str) -> Wants:
    """Return what an expression reads."""
    found = Wants()
    tree = parse(expression)
    for node in nodes(tree):
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            _want(found, node.expr, node.modifier.labels)
        elif isinstance(node, BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            _want(found, node.lhs, node.modifier.matching.labels)
            _want(found, node.rhs, [*node.modifier.matching.labels, *(node.modifier.group_labels or ())])
        elif isinstance(node, Call) and node.func.name == "label_replace":
            # With an empty source label it writes a constant and reads nothing.
            _want(found, node.args[0], [source] if (source := _text(node.args[3])) else [])
    for selector in selectors(tree):
        assert selector.name, f"a selector without a name: {expression}"
        labels = found.labels.setdefault(selector.name, set())
        labels |= {matcher.name for matcher in selector.matchers.matchers}
    return found


def _want(found: Wants, tree: Expr, labels: Collection[str]) -> None:
    """Expect these labels of every series below, but for those that are made there."""
    made = {_text(node.args[1]) for node in nodes(tree) if isinstance(node, Call) and node.func.name == "label_replace"}
    for selector in selectors(tree):
        found.labels.setdefault(str(selector.name), set()).update(set(labels) - made)


def _text(node: object) -> str:
    assert isinstance(node, StringLiteral)
    return node.val


def ranges(expression: str, where: Callable[[str], bool]) -> list[float]:
    """Return the seconds of every range that is the argument of a function `where` accepts."""
    return [
        argument.range.total_seconds()
        for node in nodes(parse(expression))
        if isinstance(node, Call) and where(node.func.name)
        for argument in node.args
        if isinstance(argument, promql_parser.MatrixSelector)
    ]
