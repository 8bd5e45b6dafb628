"""The watchers' configuration: what containers mount, with this machine's addresses and paths put in.

`monitoring/` stays the one source. Here only targets, files and credentials are exchanged, and parts left out that
don't run here. What belongs to a version's metrics, rules and the exporter's queries, is taken from the release that is
deployed; who is told of what (stages, routes, receivers) and what is scraped is the checkout's, where people change it.
"""

from collections.abc import Collection
from glob import has_magic
from pathlib import Path
from typing import Any, Final

import yaml

from ops.stack import programs, receivers
from ops.stack.errors import StackError
from ops.stack.secret_store import write_private
from ops.stack.settings import Settings

# Where Prometheus's container has the checkout's folder `monitoring`.
_MOUNTED: Final = "/etc/prometheus"
_WAY_OUT: Final = "Put it right; git knows its last good form."
# Scrape job: the part it asks, and the variable of that part's port.
_JOBS: Final = {
    "backend": ("api", "API_PORT"),
    "celery-worker": ("worker", "WORKER_METRICS_PORT"),
    "postgres": ("postgres-exporter", "POSTGRES_EXPORTER_PORT"),
    "node": ("node-exporter", "NODE_EXPORTER_PORT"),
    "prometheus": ("prometheus", "PROMETHEUS_PORT"),
    "alertmanager": ("alertmanager", "ALERTMANAGER_PORT"),
}


def job_parts(parts: Collection[str]) -> set[str]:
    """Return the scrape jobs of the parts that run here."""
    return {job for job, (part, _) in _JOBS.items() if part in parts}


def released_folder(settings: Settings) -> Path:
    """Return `monitoring/` of the version that runs: of its release, or of the checkout where none is deployed."""
    return settings.deployment.backend.parent / "monitoring"


def rule_files(folder: Path) -> list[Path]:
    """Return the files of rules that a prometheus.yml loads, where they lie beside it, be they there or not.

    Raises:
        StackError: prometheus.yml can't be read.
    """
    found: list[Path] = []
    for named in load(folder / "prometheus.yml").get("rule_files") or ():
        path = Path(named)
        inside = path.relative_to(_MOUNTED) if path.is_relative_to(_MOUNTED) else Path(path.name)
        # Prometheus takes patterns, and is silent about one that fits no file.
        found += sorted(folder.glob(str(inside))) or [folder / inside]
    return found


def rules_text(folder: Path) -> list[str]:
    """Return what stands in the files of rules that a prometheus.yml loads.

    Raises:
        StackError: prometheus.yml can't be read.
        OSError: a file that it names can't; a pattern may fit none.
    """
    return [
        file.read_text() for file in rule_files(folder) if file.exists() or not has_magic(str(file.relative_to(folder)))
    ]


def credentials(settings: Settings, name: str) -> Path | None:
    """Write a token to a private file for programs that read theirs from one; None where it isn't set."""
    path = settings.layout.run / name.lower().replace("_", "-")
    if not settings.get(name):
        path.unlink(missing_ok=True)
        return None
    write_private(path, settings[name])
    return path


def exporter_queries(settings: Settings, *, has_collectors: bool) -> Path:
    """Write the queries that postgres_exporter runs beside its own, and return their file.

    Args:
        settings: where to write to.
        has_collectors: whether it has its own for statements and tables: twice, they would fail the whole scrape.
    """
    source = released_folder(settings) / "postgres-exporter"
    names = ["activity.yaml"] if has_collectors else ["activity.yaml", "queries.yaml"]
    path = settings.layout.run / "exporter-queries.yaml"
    # An older release may have fewer of them.
    write_private(path, "\n".join((source / name).read_text() for name in names if (source / name).exists()))
    return path


def prometheus_config(
    settings: Settings, parts: Collection[str], scrape_interval: str | None = None, source: str | None = None
) -> str:
    """Return Prometheus's configuration for this machine.

    Args:
        settings: addresses and tokens.
        parts: what runs here; nothing else is scraped.
        scrape_interval: another interval than the file's; while the stack comes up, a wait for the first scrape of
            every target would take longer than all the rest.
        source: another text than that of monitoring/prometheus.yml, to see what would come of it.
    """
    config = load(settings.layout.root / "monitoring" / "prometheus.yml", source)
    jobs = []
    for job in config["scrape_configs"]:
        part, port = _JOBS[job["job_name"]]
        if part not in parts:
            continue
        host = settings.api_host if part in {"api", "worker"} else "127.0.0.1"
        for group in job["static_configs"]:
            group["targets"] = [f"{host}:{settings.port(port)}"]
        _authorize(job, credentials(settings, "METRICS_TOKEN"))
        jobs.append(job)
    config["scrape_configs"] = jobs
    config["rule_files"] = [str(file) for file in rule_files(released_folder(settings))]
    if "alertmanager" in parts:
        for manager in config["alerting"]["alertmanagers"]:
            for group in manager["static_configs"]:
                group["targets"] = [f"127.0.0.1:{settings.port('ALERTMANAGER_PORT')}"]
    else:
        del config["alerting"]["alertmanagers"]
    if scrape_interval:
        config["global"] |= {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval}
    return _dump(config)


def alertmanager_config(settings: Settings) -> str:
    """Return Alertmanager's configuration for this machine, with those receivers that have their files."""
    config = load(settings.layout.root / "monitoring" / "alertmanager.yml")
    program = programs.find(*programs.ALERTMANAGER)
    folder = receivers_folder(settings)
    url_files = program is None or receivers.knows_url_files(program)
    config = receivers.fill_in(config, folder, seen_as=str(folder), url_files=url_files)
    for receiver in config["receivers"]:
        for hook in receiver.get("webhook_configs", ()):
            if hook.get("url", "").startswith("http://backend:"):
                path = hook["url"].removeprefix("http://").partition("/")[2]
                hook["url"] = f"http://{settings.api_host}:{settings.port('API_PORT')}/{path}"
                _authorize(hook.get("http_config", {}), credentials(settings, "API_TOKEN"))
    return _dump(config)


def container_alertmanager_config(settings: Settings, folder: Path) -> str:
    """Return Alertmanager's configuration for the containers, with those receivers that have their files in `folder`.

    There the folder is mounted under another name, and Alertmanager reads addresses from files.
    """
    config = load(settings.layout.root / "monitoring" / "alertmanager.yml")
    return _dump(receivers.fill_in(config, folder, seen_as=receivers.MOUNTED, url_files=True))


def receivers_folder(settings: Settings) -> Path:
    """Return the folder of the receivers' addresses, made if it isn't there."""
    folder = settings.layout.data / "receivers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _authorize(client: dict[str, Any], token: Path | None) -> None:
    if "authorization" in client and token is None:
        del client["authorization"]
    elif "authorization" in client:
        client["authorization"]["credentials_file"] = str(token)


def load(path: Path, text: str | None = None) -> dict[str, Any]:
    """Return what a file of YAML holds; `text` stands in for it.

    Raises:
        StackError: it can't be read, or holds no mapping.
    """
    try:
        config = yaml.safe_load(path.read_text() if text is None else text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StackError(f"{path} can't be read: {error}", _WAY_OUT) from error
    if not isinstance(config, dict):
        raise StackError(f"{path} holds no settings.", _WAY_OUT)
    return config


def _dump(config: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(config, sort_keys=False)
    return f"# Made from monitoring/ at each `up`; edit that.\n{text}"
