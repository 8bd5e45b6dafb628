"""The rules that Prometheus evaluates, held against the files it should have them from.

By group, name, expression, `for` and labels. Annotations and intervals are not compared: they decide neither when an
alert fires nor who is told.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from ops.release import ruleset
from ops.release.findings import Finding, judged
from ops.release.prometheus import TIMEOUT_S
from ops.release.ruleset import Rule
from ops.stack import loopback
from ops.stack.errors import StackError

_CHECK: Final = "Prometheus has the rules of this version"
_MANY: Final = 6
_NOT_FOUND: Final = 404


def check(folder: Path, url: str, advice: str) -> Finding:
    """Return whether Prometheus evaluates what the files say, and nothing else in their groups.

    Args:
        folder: of the files, and of the prometheus.yml that names them.
        url: where Prometheus answers.
        advice: what to do where it does not.

    Raises:
        StackError: the files can't be read, or Prometheus gives no answer.
    """
    wanted = ruleset.read(folder)
    with loopback.client(TIMEOUT_S, base_url=url) as client:
        found = _loaded(client)
        expressions = _Expressions(client)
        problems = differences(wanted, found, expressions.differ)
    problems += [f"{rule.name} fails" for rule in found if rule.is_failing]
    if not problems and expressions.is_mute:
        return Finding(
            _CHECK, "inconclusive", "names, `for` and labels as in the files; expressions can't be compared",
            "Prometheus 2.38 or newer", f"Look at {url}/rules.",
        )  # fmt: skip
    more = f" and {len(problems) - _MANY} more" if len(problems) > _MANY else ""
    return judged(
        _CHECK,
        well=not problems,
        value="; ".join(problems[:_MANY]) + more if problems else f"all {len(wanted)}",
        bound="each as in its file, none failing",
        advice=f"{url}/rules. {advice}",
    )


def _loaded(client: httpx.Client) -> list[Rule]:
    try:
        groups = client.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        return [_of_answer(group["name"], rule) for group in groups for rule in group["rules"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StackError(f"Prometheus does not tell its rules: {error}", "commandcenter status") from error


def _of_answer(group: str, rule: Mapping[str, Any]) -> Rule:
    kind: Literal["alert", "record"] = "alert" if rule["type"] == "alerting" else "record"
    for_s, is_failing = float(rule.get("duration", 0)), rule.get("health") == "err"
    labels = rule.get("labels") or {}
    return Rule(group, kind, rule["name"], rule["query"], for_s, labels, is_failing=is_failing)


def differences(wanted: Sequence[Rule], found: Iterable[Rule], differ: Callable[[str, str], bool]) -> list[str]:
    """Return in words where Prometheus evaluates something else than the files say.

    Args:
        wanted: the files' rules.
        found: Prometheus's. A group that is in no file is somebody's own, and none of ours.
        differ: whether two expressions do.
    """
    groups = {rule.group for rule in wanted}
    ours, its = _by_name(wanted), _by_name(rule for rule in found if rule.group in groups)
    told = []
    for key in {**ours, **its}:
        # One name may stand for several, in the same order.
        for ours_one, its_one in zip_longest(ours.get(key, ()), its.get(key, ())):
            if its_one is None:
                told.append(f"{key[-1]} is not loaded")
            elif ours_one is None:
                told.append(f"{key[-1]} is loaded and in no file")
            elif what := _changed(ours_one, its_one, differ):
                told.append(f"{key[-1]} is loaded with another {' and '.join(what)}")
    return told


def _by_name(rules: Iterable[Rule]) -> dict[tuple[str, str, str], list[Rule]]:
    found: dict[tuple[str, str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        found[rule.group, rule.kind, rule.name].append(rule)
    return found


def _changed(one: Rule, other: Rule, differ: Callable[[str, str], bool]) -> list[str]:
    same = {
        "expr": not differ(one.expr, other.expr),
        "for": one.for_s == other.for_s,
        "labels": one.labels == other.labels,
    }
    return [name for name, is_same in same.items() if not is_same]


class _Expressions:
    """Compares PromQL by Prometheus's own form of it: what it tells is not what was written, `1m30s` for `90s`."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.is_mute = False

    def differ(self, one: str, other: str) -> bool:
        """Whether two expressions do; not as far as is known, where Prometheus has no form to tell: `is_mute`."""
        if one.strip() == other.strip():
            return False
        forms = [self._form(text) for text in (one, other)]
        return not self.is_mute and forms[0] != forms[1]

    def _form(self, expression: str) -> str:
        try:
            answer = self._client.post("/api/v1/format_query", data={"query": expression})
            self.is_mute = self.is_mute or answer.status_code == _NOT_FOUND
            # It refuses what it does not understand: as good as another expression.
            return str(answer.json()["data"]) if answer.is_success else expression
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise StackError(
                f"Prometheus does not put a rule into its form: {error}", "commandcenter status"
            ) from error
