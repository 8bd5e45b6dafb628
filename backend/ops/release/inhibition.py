"""Alertmanager's inhibit rules: which alert mutes which, as far as their labels are known before they fire."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_MATCHER: Final = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*(?:"([^"]*)"|([^",{}]*?))\s*')

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One of `name="value"`, `!=`, `=~`, `!~`."""

    name: str
    operator: str
    value: str

    def fits(self, labels: Labels) -> bool:
        """Whether these labels fit. One that isn't there may come from a series, and is unknown: that fits nothing."""
        if self.name not in labels:
            return False
        held = labels[self.name]
        equal = re.fullmatch(self.value, held) is not None if self.operator.endswith("~") else held == self.value
        return equal != self.operator.startswith("!")


@dataclass(frozen=True, slots=True)
class Inhibition:
    """One inhibit rule. None for matchers that are not understood here; they match nothing."""

    source: tuple[Matcher, ...] | None
    target: tuple[Matcher, ...] | None
    equal: tuple[str, ...]

    def mutes(self, source: Labels, target: Labels) -> bool:
        """Whether an alert with the labels `source` mutes one with those of `target`."""
        same = all(name in source and source[name] == target.get(name) for name in self.equal)
        return same and _fit(self.source, source) and _fit(self.target, target)


def read(manager: Mapping[str, Any]) -> list[Inhibition]:
    """Return the inhibit rules of a configuration; of the form before Alertmanager 0.22, none that matches."""
    return [
        Inhibition(
            _matchers(rule.get("source_matchers")),
            _matchers(rule.get("target_matchers")),
            tuple(rule.get("equal") or ()),
        )
        for rule in manager.get("inhibit_rules") or ()
    ]


def _fit(matchers: tuple[Matcher, ...] | None, labels: Labels) -> bool:
    return matchers is not None and all(each.fits(labels) for each in matchers)


def _matchers(texts: Sequence[str] | None) -> tuple[Matcher, ...] | None:
    found = []
    for text in texts or ():
        parts = _MATCHER.fullmatch(text)
        if parts is None:
            return None
        name, operator, quoted, bare = parts.groups()
        matcher = Matcher(name, operator, bare if quoted is None else quoted)
        if operator.endswith("~") and not _compiles(matcher.value):
            return None
        found.append(matcher)
    return tuple(found) or None


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
