"""The parts of `docker-compose.prod.yml`, and how each is: by its own answer, or by the engine's."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx

from ops.release import containers
from ops.release.containers import Container
from ops.stack import loopback
from ops.stack.exporter import pg_up_problem

OWN: Final = ("backend", "celery-worker", "celery-beat")
EXPORTER: Final = "postgres-exporter"
OTHERS: Final = ("postgres", "redis", "node-exporter", "prometheus", "alertmanager", "grafana", "loki", "alloy")
LAYER: Final = "CORRELATION_ENABLED"
IMAGE: Final = "commandcenter"
PORTS: Final = {
    "POSTGRES_PORT": "5432",
    "API_PORT": "8000",
    "WORKER_METRICS_PORT": "9808",
    "POSTGRES_EXPORTER_PORT": "9187",
    "NODE_EXPORTER_PORT": "9100",
    "PROMETHEUS_PORT": "9090",
    "ALERTMANAGER_PORT": "9093",
}
_ASK_TIMEOUT_S: Final = 3.0


def answers(
    ports: Mapping[str, str],
    metrics_token: str,
    deployed: Mapping[str, Any],
    held: Mapping[str, Sequence[Container]],
) -> dict[str, str]:
    """Return what is wrong with each part, in words, or nothing.

    Args:
        ports: by their variables.
        metrics_token: with which metrics are asked for.
        deployed: what is to run, as `deploy` takes it.
        held: the project's containers, as the engine tells of them.
    """
    stopped = deployed["stopped"]
    metrics = {"Authorization": f"Bearer {metrics_token}"}
    asked: dict[str, tuple[str, str, dict[str, str]]] = {
        "backend": ("API_PORT", "/health/ready", {}),
        "celery-worker": ("WORKER_METRICS_PORT", "/metrics", metrics),
        EXPORTER: ("POSTGRES_EXPORTER_PORT", "/metrics", {}),
        "node-exporter": ("NODE_EXPORTER_PORT", "/metrics", {}),
        "prometheus": ("PROMETHEUS_PORT", "/-/ready", {}),
        "alertmanager": ("ALERTMANAGER_PORT", "/-/ready", {}),
    }
    asked = {name: each for name, each in asked.items() if name not in stopped}
    urls = {name: f"http://127.0.0.1:{ports[port]}{path}" for name, (port, path, _) in asked.items()}
    judges = {EXPORTER: pg_up_problem}

    def ask(name: str) -> str:
        return _ask(urls[name], asked[name][2], judges.get(name))

    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        found = dict(zip(asked, pool.map(ask, asked), strict=True))
    # Some publish no port, some answer people alone: the engine knows how they are.
    services = {name: containers.health_problem(held.get(name, [])) for name in OTHERS}
    image = f"{IMAGE}:{deployed['commit']}"
    services |= {name: containers.strays(held.get(name, []), image, deployed) for name in OWN}
    services[EXPORTER] = containers.presence_problem(held.get(EXPORTER, []), wanted=EXPORTER not in stopped)
    return {name: found.get(name) or services.get(name, "") for name in {**found, **services}}


def said(deployed: Mapping[str, Any]) -> str:
    """Return what is deployed in a few words."""
    changes = [f"{name}={value}" for name, value in deployed["switches"].items()]
    return ", ".join([deployed["commit"], *changes, *(f"no {name}" for name in deployed["stopped"])])


def _ask(url: str, headers: Mapping[str, str], judge: Callable[[str], str] | None) -> str:
    try:
        answer = loopback.get(url, _ASK_TIMEOUT_S, headers=dict(headers))
    except httpx.HTTPError as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    if not answer.is_success:
        return f"answers {answer.status_code}"
    return judge(answer.text) if judge else ""
