"""What differs between two versions beside code: monitoring, the compose file, settings, thresholds of alerts."""

import re
from pathlib import Path
from typing import Any, Final

from ops.release import version

_LOOKED_AT: Final = ("monitoring", "docker-compose.prod.yml", ".env.example")
_SETTING: Final = re.compile(r"^([+-])([A-Z][A-Z0-9_]*)=", re.MULTILINE)
# What decides when an alert fires; its texts are in the files.
_RULE: Final = re.compile(r"^[+-]\s+(?:- )?(?:alert|expr|for):.*$", re.MULTILINE)


def config_diff(root: Path, before: str, after: str) -> dict[str, Any] | None:
    """Return what differs, or None where the checkout doesn't have the version that runs.

    `files`: as `git diff --stat` tells; `settings`: names by `added`, `removed`, `changed`; `alerts`: lines of rules.
    """
    stat = version.diff(root, before, after, "--stat=100", "--", *_LOOKED_AT)
    if stat is None:
        return None
    lines = _SETTING.findall(version.diff(root, before, after, "-U0", "--", ".env.example") or "")
    gone, new = ({name for sign, name in lines if sign == wanted} for wanted in "-+")
    rules = version.diff(root, before, after, "-U0", "--", "monitoring/alerts.yml") or ""
    return {
        "files": stat.splitlines(),
        "settings": {"added": sorted(new - gone), "removed": sorted(gone - new), "changed": sorted(new & gone)},
        "alerts": _RULE.findall(rules),
    }
