"""`python -m app.serve api|worker|beat`: starts one service.

Nothing of the metrics may be imported before the shared folder is made: the client library looks at it while it is
imported, and counters of a former run would be counted on.
"""

import os
import sys
from pathlib import Path
from typing import Final

from app.config import ConfigurationError, Settings, get_settings

_SERVICES: Final = ("api", "worker", "beat")
_GRACE_S: Final = 10


def main(arguments: list[str]) -> int:
    """Start what `arguments` names and return its exit code."""
    if len(arguments) != 1 or arguments[0] not in _SERVICES:
        print(f"usage: python -m app.serve {'|'.join(_SERVICES)}", file=sys.stderr)  # noqa: T201
        return 2
    service = arguments[0]
    try:
        settings = get_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is set up by what could not be read
        return 1
    os.environ["COMMANDCENTER_SERVICE"] = service
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if shared:
        _empty(Path(shared))
    from app.telemetry.logs import configure_logging  # noqa: PLC0415 - see the module's docstring

    configure_logging(service, settings.log_level)
    {"api": _api, "worker": _worker, "beat": _beat}[service](settings)
    return 0


def _empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)


def _api(settings: Settings) -> None:
    import uvicorn  # noqa: PLC0415 - see the module's docstring

    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers if settings.api_workers > 1 else None,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _worker(settings: Settings) -> None:
    from app.worker import celery  # noqa: PLC0415

    # --quiet: no banner; each line of ours is JSON.
    celery.start(
        [
            "--quiet",
            "worker",
            f"--concurrency={settings.worker_concurrency}",
            "--without-mingle",
            "--without-gossip",
            "-Ofair",
        ]
    )


def _beat(settings: Settings) -> None:
    from app.worker import celery  # noqa: PLC0415

    # It sends tasks by their names; what they are made of, the worker has to load.
    celery.conf.include = []
    settings.beat_schedule_file.parent.mkdir(parents=True, exist_ok=True)
    celery.start(["--quiet", "beat", "--pidfile="])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
