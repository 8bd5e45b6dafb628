"""The stage of each alert, shadow or live, as Prometheus's alert relabelling gives it; one line a promotion.

Text in, text out: comments and everything else in the file stay as they are.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from ops.stack.errors import StackError

Stage = Literal["shadow", "live"]
HEARTBEAT: Final = "Watchdog"
_LINE: Final = "    - {{source_labels: [alertname], regex: {name}, target_label: stage, replacement: live}}\n"
_ANY_LINE: Final = re.compile(_LINE.format(name=r"(\w+)").replace("{", r"\{").replace("[", r"\["), re.MULTILINE)


def severities(rules: Path) -> dict[str, str]:
    """Return the severity of every alert in a file of rules, by name and in its order."""
    groups = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"] if "alert" in rule}


def stages(relabelling: Iterable[Mapping[str, Any]], alerts: Iterable[str]) -> dict[str, str]:
    """Return each alert's stage under these relabelling rules; empty where it gets none.

    Raises:
        StackError: a rule does something with `stage` that isn't understood here.
    """
    found = dict.fromkeys(alerts, "")
    for rule in relabelling:
        if rule.get("target_label") != "stage":
            continue
        sources = rule.get("source_labels") or []
        if rule.get("action", "replace") != "replace" or sources not in ([], ["alertname"]):
            raise StackError("A rule of alert_relabel_configs does more than name alerts.", "Change its list by hand.")
        pattern = re.compile(str(rule.get("regex", "(.*)")))
        for name in found:
            if pattern.fullmatch(name if sources else ""):
                found[name] = str(rule["replacement"])
    return found


def of_config(config: Mapping[str, Any], alerts: Iterable[str]) -> dict[str, str]:
    """Return each alert's stage under a configuration of Prometheus."""
    return stages((config.get("alerting") or {}).get("alert_relabel_configs") or (), alerts)


def of_text(text: str, alerts: Iterable[str]) -> dict[str, str]:
    """Return each alert's stage under the text of a configuration of Prometheus."""
    return of_config(yaml.safe_load(text), alerts)


def changed(text: str, names: Collection[str], stage: Stage, alerts: Collection[str]) -> str:
    """Return the configuration's text with these alerts in another stage; the others stay in theirs.

    Raises:
        StackError: the list isn't in the form that can be edited here.
    """
    wanted = of_text(text, alerts) | dict.fromkeys(names, stage)
    edited = _without(text, names)
    if stage == "live":
        edited = _with(edited, names)
    if of_text(edited, alerts) != wanted:
        raise StackError(
            "alert_relabel_configs in monitoring/prometheus.yml is not in the form of one line an alert.",
            "Change it by hand, or give it that form again; git knows its last good one.",
        )
    return edited


def _without(text: str, names: Collection[str]) -> str:
    return _ANY_LINE.sub(lambda line: "" if line[1] in names else line[0], text)


def _with(text: str, names: Collection[str]) -> str:
    end = max((line.end() for line in _ANY_LINE.finditer(text)), default=0)
    return text[:end] + "".join(_LINE.format(name=name) for name in names) + text[end:] if end else text
