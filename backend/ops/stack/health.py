"""Is a part healthy? Each check asks the part itself, as those who depend on it would.

A check returns nothing where all is well, and else what is wrong, in words. It raises what no waiting can heal.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg

from ops.stack import database, loopback, monitoring
from ops.stack.errors import StackError
from ops.stack.exporter import pg_up_problem
from ops.stack.parts import Stack
from ops.stack.settings import Settings

Check = Callable[[], str]
_TIMEOUT_S = 2.5


def checks(stack: Stack, *, targets: bool = True, unknown_is_well: bool = False) -> dict[str, Check]:
    """Return each part's check.

    Args:
        stack: what runs.
        targets: whether to ask Prometheus also if it reaches everything.
        unknown_is_well: whether a target that was not scraped yet, after a start or a reload, counts as reached.
    """
    settings = stack.settings
    available: dict[str, Check] = {
        "postgres": lambda: _postgres(settings),
        "redis": lambda: _redis(settings),
        "api": lambda: _api(settings),
        "worker": lambda: _worker(settings),
        # Beat listens nowhere; that it runs is the supervisor's word.
        "beat": lambda: "",
        "postgres-exporter": lambda: _postgres_exporter(settings),
        "node-exporter": lambda: _answers(settings, "NODE_EXPORTER_PORT", "/metrics"),
        "prometheus": lambda: (
            _prometheus(stack, unknown_is_well) if targets else _answers(settings, "PROMETHEUS_PORT", "/-/ready")
        ),
        "alertmanager": lambda: _answers(settings, "ALERTMANAGER_PORT", "/-/ready"),
    }
    return {name: available[name] for name in stack.names}


def ask(checks: Mapping[str, Check]) -> dict[str, str]:
    """Ask all side by side, and return what is wrong with each, or nothing."""
    with ThreadPoolExecutor(max_workers=len(checks) or 1) as pool:
        return dict(zip(checks, pool.map(_told, checks.values()), strict=True))


def _told(check: Check) -> str:
    try:
        return check()
    except StackError as error:
        return error.problem


def api_url(settings: Settings) -> str:
    """Return where the API is, seen from here."""
    return f"http://{settings.api_host}:{settings['API_PORT']}"


def _get(url: str, token: str = "") -> httpx.Response:
    return loopback.get(url, _TIMEOUT_S, headers={"Authorization": f"Bearer {token}"} if token else {})


def _postgres(settings: Settings) -> str:
    try:
        with database.connect(settings) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        if "password authentication failed" in str(error):
            # Waiting won't make it right.
            raise StackError(
                "PostgreSQL's data was made with another superuser password.",
                f"Put back the former {settings.layout.data / 'secrets.env'}, or start afresh: make down DATA=1",
            ) from error
        return _first_line(error)
    return ""


def _redis(settings: Settings) -> str:
    from redis import Redis  # noqa: PLC0415 - takes longer to load than all else, and not every command asks it
    from redis.exceptions import RedisError  # noqa: PLC0415

    client = Redis.from_url(settings.redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    try:
        client.ping()
    except RedisError as error:
        return _first_line(error)
    finally:
        client.close()
    return ""


def _readiness(settings: Settings) -> dict[str, Any] | str:
    try:
        answer = _get(f"{api_url(settings)}/health/ready")
    except httpx.HTTPError as error:
        return _first_line(error)
    try:
        components: dict[str, Any] = answer.json()["components"]
    except (ValueError, KeyError):
        return f"/health/ready answers {answer.status_code} without components"
    return components


def _api(settings: Settings) -> str:
    components = _readiness(settings)
    if isinstance(components, str):
        return components
    # A worker that is down is the worker's line, not the API's.
    down = [name for name in ("database", "redis") if components[name]["status"] != "up"]
    return f"cannot reach {' and '.join(down)}" if down else ""


def _worker(settings: Settings) -> str:
    problem = _answers(settings, "WORKER_METRICS_PORT", "/metrics", settings.get("METRICS_TOKEN"))
    if problem:
        return problem
    components = _readiness(settings)
    if isinstance(components, str):
        return f"the API can't say: {components}"
    worker = components["worker"]
    return "" if worker["status"] == "up" else str(worker.get("detail") or "the API has no sign of life of it")


def _postgres_exporter(settings: Settings) -> str:
    try:
        text = _get(f"http://127.0.0.1:{settings['POSTGRES_EXPORTER_PORT']}/metrics").text
    except httpx.HTTPError as error:
        return _first_line(error)
    return pg_up_problem(text)


def _answers(settings: Settings, port: str, path: str, token: str = "") -> str:
    host = settings.api_host if port == "WORKER_METRICS_PORT" else "127.0.0.1"
    try:
        answer = _get(f"http://{host}:{settings[port]}{path}", token)
    except httpx.HTTPError as error:
        return _first_line(error)
    return "" if answer.is_success else f"{path} answers {answer.status_code}"


def _prometheus(stack: Stack, unknown_is_well: bool) -> str:
    problem = _answers(stack.settings, "PROMETHEUS_PORT", "/-/ready")
    if problem:
        return problem
    try:
        url = f"http://127.0.0.1:{stack.settings['PROMETHEUS_PORT']}/api/v1/targets?state=active"
        targets = _get(url).json()["data"]["activeTargets"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return _first_line(error)
    health = {each["labels"]["job"]: each["health"] for each in targets}
    well = {"up", "unknown"} if unknown_is_well else {"up"}
    waiting = sorted(job for job in monitoring.job_parts(stack.names) if health.get(job) not in well)
    return f"does not reach {', '.join(waiting)}" if waiting else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
