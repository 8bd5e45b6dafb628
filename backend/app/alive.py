"""`python -m app.alive api|worker|beat`: whether this container's service still does its work; the health check.

Standard library only, and no settings: it runs every few seconds.
"""

import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 4.0
# Beat writes its schedule down every three minutes.
_SCHEDULE_WITHIN_S: Final = 600.0


def main(arguments: list[str]) -> int:
    """Return 0 if the service is alive, 1 if it isn't, 2 for a question that nobody can answer."""
    checks = {"api": _api, "worker": _worker, "beat": _beat}
    if len(arguments) != 1 or arguments[0] not in checks:
        print(f"usage: python -m app.alive {'|'.join(checks)}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        checks[arguments[0]]()
    except OSError as error:
        # The class and its number; a URL could hold more than it should.
        print(f"{arguments[0]} is not alive: {type(error).__name__} {error.errno or ''}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _api() -> None:
    _ask(f"http://127.0.0.1:{os.environ.get('API_PORT', '8000')}/health")


def _worker() -> None:
    """Its parent process serves its metrics; that its children take tasks is told by the canary's age."""
    _ask(f"http://127.0.0.1:{os.environ.get('WORKER_METRICS_PORT', '9808')}/metrics", _metrics_token())


def _beat() -> None:
    schedule = Path(os.environ.get("BEAT_SCHEDULE_FILE", ".commandcenter/run/celerybeat-schedule"))
    # What stands behind the name is the database module's choice.
    newest = max((file.stat().st_mtime for file in schedule.parent.glob(f"{schedule.name}*")), default=0.0)
    if time.time() - newest > _SCHEDULE_WITHIN_S:
        raise TimeoutError


def _ask(url: str, token: str = "") -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # No proxy stands between us and ourselves, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S):  # noqa: S310 - our own http
        pass


def _metrics_token() -> str:
    path = os.environ.get("METRICS_TOKEN_FILE")
    return Path(path).read_text().strip() if path else os.environ.get("METRICS_TOKEN", "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
