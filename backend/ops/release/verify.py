"""`verify`: where trust starts. One request is made, and its ID is found everywhere it must be; no answer is assumed.

Read-only but for that traffic: a few requests, one asked-for error, and one sync where a repository is registered.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import uuid4

from ops.demo.api import Answer as Response
from ops.demo.api import Api
from ops.release import panels, rules
from ops.release.findings import Finding, judged
from ops.release.prometheus import Answer, Failed, Prometheus, Value, said
from ops.release.target import Target
from ops.stack.errors import StackError, in_plain_words
from ops.trace.model import Story
from ops.trace.query import Archive
from ops.trace.token import HEADER, trail_token

JOBS: Final = ("alertmanager", "backend", "celery-worker", "node", "postgres", "prometheus")
DASHBOARDS: Final = 5
_ROUTE: Final = "/api/v1/repositories"
_LOG_PATIENCE_S: Final = 15.0
_SYNC_PATIENCE_S: Final = 120.0
# Two scrapes, and some slack.
_SCRAPE_PATIENCE_S: Final = 40.0
_POLL_S: Final = 0.25
_CLOCK_SLACK: Final = timedelta(minutes=1)
_MANY_NAMES: Final = 6
_RAN: Final = frozenset({"succeeded", "failed"})
# Answers from here on are problem+json, and bear the ID too.
_FIRST_ERROR: Final = 400

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ground:
    """What all checks ask."""

    target: Target
    api: Api
    prometheus: Prometheus
    secret_key: str


def verify(ground: Ground) -> Iterator[Finding]:
    """Yield what each check found, as it is found. A check that can't be made is a finding, too."""
    for check in _CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            with in_plain_words(f"The check of {name}"):
                yield from check(ground)
        except StackError as error:
            yield Finding(name, "failed", error.problem, "an answer", error.way_out)


def _health(ground: Ground) -> Iterator[Finding]:
    alive = ground.api.call("GET", "/health")
    version = alive.body.get("version") if isinstance(alive.body, dict) else None
    yield judged(
        "the API lives",
        well=alive.status == 200,  # noqa: PLR2004
        value=f"{alive.status}, version {version}",
        bound="200",
        advice="commandcenter status; its log says why.",
    )
    ready = ground.api.call("GET", "/health/ready")
    parts = ready.body.get("components", {}) if isinstance(ready.body, dict) else {}
    yield judged(
        "all it needs is there",
        well=ready.status == 200,  # noqa: PLR2004
        value=", ".join(f"{name} {state['status']}" for name, state in parts.items()) or str(ready.status),
        bound="database, redis, worker up",
        advice="commandcenter status; start what is down.",
    )
    problems = {name: problem for name, problem in ground.target.answers().items() if problem}
    yield judged(
        "every part is healthy",
        well=not problems,
        value="; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "all",
        bound="no complaint",
        advice="commandcenter status",
    )


def _ids(ground: Ground) -> Iterator[Finding]:
    token = {HEADER: trail_token(ground.secret_key, int(time.time()) + 60)}
    asked: tuple[tuple[int, str, Mapping[str, str]], ...] = (
        (200, "/repositories", {}),
        (404, "/repositories/999999999", {}),
        (500, "/health/failure", token),
    )
    for status, path, headers in asked:
        wanted = f"verify-{uuid4().hex}"
        answer = ground.api.call("GET", path, headers={"X-Request-ID": wanted, **headers})
        in_body = answer.body.get("request_id") if isinstance(answer.body, dict) else None
        is_one = len(answer.request_ids) == 1 and (status < _FIRST_ERROR or in_body == answer.request_id)
        yield judged(
            f"X-Request-ID on {status}",
            well=answer.status == status and is_one,
            value=f"{answer.status}, {len(answer.request_ids)} header" + _whose(answer, wanted),
            bound=f"{status}, 1 header, the same in the body",
            advice="Is CORRELATION_ENABLED false, or a proxy in between that drops the header?",
        )


def _whose(answer: Response, wanted: str) -> str:
    if not answer.request_id:
        return ""
    return ", the one we sent" if answer.request_id == wanted else ", one of its own (REQUEST_ID_TRUST)"


def _prometheus(ground: Ground) -> Iterator[Finding]:
    up = _awaited(
        lambda: ground.prometheus.instant("min(pg_up)"), lambda found: found == Value(1.0) or isinstance(found, Failed)
    )
    yield judged(
        "pg_up",
        well=up == Value(1.0),
        value=said(up),
        bound="1",
        advice="Is the exporter's password that of its role? commandcenter release apply sets it; see its log.",
    )
    down = _awaited(lambda: _down(ground), lambda found: not found)
    yield judged(
        "every target is up",
        well=not down,
        value=f"{len(JOBS) - len(down)} of {len(JOBS)}" + (f", not {', '.join(down)}" if down else ""),
        bound="all",
        advice=f"{ground.target.prometheus_url}/targets says why.",
    )
    yield _rules(ground)


def _down(ground: Ground) -> list[str]:
    """Return the jobs of the contract that Prometheus doesn't reach."""
    found = ground.prometheus.vector("min by (job) (up)")
    if isinstance(found, Failed):
        raise StackError(f"Prometheus gives no answer: {found.why}", "commandcenter status")
    states = {each.labels["job"]: each.value == Value(1.0) for each in found}
    return [job for job in JOBS if not states.get(job)]


def _awaited(ask: Callable[[], _T], is_well: Callable[[_T], object], patience_s: float = _SCRAPE_PATIENCE_S) -> _T:
    """Ask until the answer is well; after a while, return what it is. What just started was not scraped yet."""
    deadline = time.monotonic() + patience_s
    while not is_well(answer := ask()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return answer


def _rules(ground: Ground) -> Finding:
    again = {"native": "make up", "compose": "docker compose kill -s HUP prometheus"}[ground.target.name]
    return rules.check(ground.target.rules, ground.target.prometheus_url, f"Let Prometheus read them again: {again}")


def _dashboards(ground: Ground) -> Iterator[Finding]:
    found = panels.read(ground.target.checkout / "monitoring" / "grafana" / "dashboards")
    yield judged(
        "dashboards can be imported",
        well=len(found) == DASHBOARDS,
        value=f"{len(found)}",
        bound=f"{DASHBOARDS}",
        advice="commandcenter dashboards build",
    )
    every = [panel for dashboard in found for panel in panels.panels(dashboard)]
    empty = []
    for panel in every:
        answer = panels.ask(ground.prometheus, panel)
        if isinstance(answer, Failed):
            # One is enough: where Prometheus is slow, eighty of them take a quarter of an hour.
            yield Finding(
                "every panel has data", "failed", f"{panel}: {answer.why}", "no query fails", "Ask it by hand."
            )
            return
        if not answer:
            empty.append(panel)
    unsaid = [panel for panel in empty if not panel.says_when_empty]
    value = f"{len(every) - len(empty)} of {len(every)} panels have data"
    if unsaid:
        names = ", ".join(map(str, unsaid[:_MANY_NAMES])) + (" …" if len(unsaid) > _MANY_NAMES else "")
        yield Finding(
            "every panel has data",
            "inconclusive",
            f"{value}; empty: {names}",
            "data, or a panel that says why not",
            "After a few minutes of traffic, verify again; what is still empty then, look at in Grafana.",
        )
    else:
        yield Finding("every panel has data", "ok", f"{value}, {len(empty)} say why not", "data, or a stated reason")


def _traced_request(ground: Ground) -> Iterator[Finding]:
    query = f'sum(http_requests_total{{handler="{_ROUTE}",method="GET",status="200"}})'
    before = ground.prometheus.instant(query)
    since = datetime.now(UTC) - _CLOCK_SLACK
    answer = ground.api.call("GET", "/repositories", headers={"X-Request-ID": f"verify-{uuid4().hex}"})
    if not answer.request_id:
        raise StackError("The answer has no ID to look for.", "See the check above.")
    story = _story(ground, answer.request_id, since, lambda story: bool(story.requests and story.database.count))
    yield judged(
        "the request is in the logs",
        well=story is not None and bool(story.requests),
        value=answer.request_id if story is not None and story.requests else f"{answer.request_id}: not found",
        bound="its line",
        advice=f"commandcenter trace {answer.request_id}; is {ground.target.logs} where the API logs?",
    )
    statements = story.database.count if story is not None else 0
    yield judged(
        "PostgreSQL's own log has it",
        well=statements > 0,
        value=f"{statements} statements",
        bound="1 or more",
        advice="log_line_prefix must hold app=%a, and SQL_COMMENTS must not be off.",
    )
    yield _counted(ground, query, before)
    yield from _traced_task(ground, since)


def _counted(ground: Ground, query: str, before: Answer) -> Finding:
    first = start = before.number if isinstance(before, Value) else 0.0
    deadline = time.monotonic() + _SCRAPE_PATIENCE_S
    while True:
        now = ground.prometheus.instant(query)
        if isinstance(now, Value) and now.number < start:
            # The last scrape was of a process that is no more, and so is what it counted: ask once more.
            start = now.number
            ground.api.call("GET", "/repositories")
        has_grown = isinstance(now, Value) and now.number > start
        if has_grown or isinstance(now, Failed) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    restarted = f" (began anew at {start:.0f})" if start < first else ""
    return judged(
        "the metrics count it",
        well=has_grown,
        value=f"{first:.0f} → {said(now)}{restarted}",
        bound="more than before",
        advice=f"{ground.target.prometheus_url}/targets: is the job backend scraped?",
    )


def _traced_task(ground: Ground, since: datetime) -> Iterator[Finding]:
    check = "its task is in the logs, with its SQL"
    items = ground.api.expect("GET", "/repositories", params={"limit": 1})["items"]
    if not items:
        yield Finding(
            check, "inconclusive", "no repository is registered", "a task of a traced request",
            "Register one (POST /api/v1/repositories), and verify again.",
        )  # fmt: skip
        return
    asked = ground.api.sync(items[0]["id"])
    job_id = str(asked.get("job_id") or asked["id"])
    # Whether the sync succeeds is its host's and the network's affair: it may be tried again for minutes.
    done = _awaited(lambda: _job(ground, job_id), lambda job: job["status"] in _RAN or job["reason"], _SYNC_PATIENCE_S)
    request_id = str(done["request_id"])
    story = _story(ground, request_id, since, lambda story: _most_statements(story) > 0)
    runs = _runs(story) if story is not None else []
    statements = _most_statements(story)
    yield judged(
        check,
        well=bool(runs) and statements > 0,
        value=f"{request_id}: {len(runs)} runs, {statements} statements, job {done['status']}",
        bound="a run with SQL",
        advice=f"commandcenter trace {request_id}",
    )


def _job(ground: Ground, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = ground.api.expect("GET", f"/jobs/{job_id}")
    return found


def _most_statements(story: Story | None) -> int:
    """Return how many statements the run has that has most; a run tells them when it ends."""
    runs = _runs(story) if story is not None else []
    return max((run.sql.count for run in runs if run.sql), default=0)


def _runs(story: Story) -> list[Any]:
    tasks = [*story.tasks, *(task for request in story.requests for task in request.tasks)]
    return [run for task in tasks for run in task.runs]


def _story(ground: Ground, request_id: str, since: datetime, is_whole: Callable[[Story], bool]) -> Story | None:
    """Return the story of an ID once it is whole; what there is of it after a while."""
    deadline = time.monotonic() + _LOG_PATIENCE_S
    while True:
        stories = Archive(ground.target.logs, since).trace(request_id).stories
        if (stories and is_whole(stories[0])) or time.monotonic() > deadline:
            return stories[0] if stories else None
        time.sleep(_POLL_S)


_CHECKS: Final = (_health, _ids, _prometheus, _traced_request, _dashboards)
