"""The rules in the files that a prometheus.yml names, typed; and Prometheus's durations in seconds."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ops.stack.errors import StackError
from ops.stack.monitoring import load, rule_files

_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d|w|y)")
_DURATION: Final = re.compile(rf"0|({_PART.pattern})+")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    `for_s`: how long an alert is pending, 0 for recording rules; `interval`: its group's own, as it is written, or
    nothing; `is_failing`: at its last evaluation.
    """

    group: str
    kind: Literal["alert", "record"]
    name: str
    expr: str
    for_s: float
    labels: Mapping[str, str]
    interval: str = ""
    is_failing: bool = False


def read(folder: Path) -> list[Rule]:
    """Return the rules in the files that prometheus.yml in this folder names.

    Raises:
        StackError: one can't be read, or is not what Prometheus takes.
    """
    found: list[Rule] = []
    for file in rule_files(folder):
        content = load(file)
        try:
            found += _rules(content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StackError(
                f"The rules in {file} are not in order ({type(error).__name__}: {error}).",
                "commandcenter release preflight says what promtool refuses.",
            ) from error
    return found


def _rules(content: Mapping[str, Any]) -> Iterator[Rule]:
    for group in content["groups"]:
        for rule in group["rules"]:
            kind: Literal["alert", "record"] = "alert" if "alert" in rule else "record"
            yield Rule(
                group=group["name"],
                kind=kind,
                name=rule[kind],
                expr=str(rule["expr"]),
                for_s=seconds(str(rule.get("for", "0s"))),
                labels={name: str(value) for name, value in (rule.get("labels") or {}).items()},
                interval=str(group.get("interval", "")),
            )


def seconds(duration: str) -> float:
    """Return a duration (`1m30s`) of Prometheus or Alertmanager in seconds.

    Raises:
        StackError: it is none.
    """
    if not _DURATION.fullmatch(duration):
        raise StackError(f"{duration!r} is no duration.", "Such as 90s, 1m30s, 2h.")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
