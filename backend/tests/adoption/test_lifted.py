"""The layer works in another team's service, by what docs/adopting.md says and nothing else."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.adoption.lifted import PAGE, SHOP, Shop, lift, listed, python, running_shop
from tests.pages import blocks
from tests.system import eventually

_IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil
name = sys.argv[1]
package = importlib.import_module(name)
found = [each.name for each in pkgutil.walk_packages(package.__path__, name + ".")]
for each in found:
    importlib.import_module(each)
others = [each for each in ("app", "ops", "dashboards", "tests") if each != name and importlib.util.find_spec(each)]
print(json.dumps({"modules": found, "others": others}))
"""


@pytest.fixture(scope="module", params=[False, True], ids=["as-app", "renamed"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], str],
    redis_url: str,
    postgres_log: Path,
) -> Iterator[Shop]:
    """The shop as API and worker: the layer under its own name in one process, and under another one in two."""
    folder = tmp_path_factory.mktemp("shop")
    lift(folder, renamed=request.param)
    # Redis numbers its databases: each shop has one of its own.
    redis = f"{redis_url[:-1]}{8 + request.param}"
    with running_shop(folder, new_database(), redis, postgres_log, api_processes=1 + request.param) as running:
        yield running


def test_one_id_is_found_everywhere(shop: Shop, postgres_log: Path) -> None:
    """Header, body's task, lines of both processes, PostgreSQL's log from both drivers, metrics of both."""
    request_id = f"order-{shop.system.directory.name}"
    with shop.client as client:
        answer = client.post("/orders/saddle", headers={"X-Request-ID": request_id})
    assert answer.status_code == 202
    assert answer.headers.get_list("x-request-id") == [request_id]

    shop.system.wait_for_line("worker", event="task.finished", request_id=request_id, state="SUCCESS")
    # Another process's line, written when the answer was out: it may be later than all of the worker's.
    shop.system.wait_for_line("api", event="request.finished", request_id=request_id)
    told = {
        service: [line["event"] for line in shop.system.log_lines(service, request_id=request_id)]
        for service in ("api", "worker")
    }
    assert told == {
        "api": ["order.taken", "task.sent", "request.finished"],
        "worker": ["task.started", "order.packed", "task.finished"],
    }

    lines = [line for line in postgres_log.read_text().splitlines() if f" app={request_id} " in line]
    assert [line for line in lines if "INSERT INTO orders" in line and "/*application='shop-api'," in line]
    assert [line for line in lines if "UPDATE orders" in line and "task='shop.pack'*/" in line]

    counted = {
        'http_requests_total{handler="/orders/{article}",method="POST",status="202"}',
        'celery_tasks_total{queue="orders",state="SUCCESS",task="shop.pack"}',
        'commandcenter_db_query_duration_seconds_count{operation="INSERT"}',
        'commandcenter_db_query_duration_seconds_count{operation="UPDATE"}',
    }
    # Most are there at 0 from the start, and what another process has timed comes a second later.
    eventually(lambda: counted <= moved(shop.metrics()), what="all that was counted of the order")
    assert "commandcenter_observability_failures_total{" not in shop.metrics()


def moved(metrics: str) -> set[str]:
    """Return the series that are above 0."""
    samples = (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
    return {series for series, _, value in samples if float(value) > 0}


def test_a_failure_has_one_id_and_a_fingerprint_of_its_own(shop: Shop) -> None:
    """The shop's functions make the fingerprint: else two places that raise the same type would be one error."""
    with shop.client as client:
        answers = {name: client.get(f"/reports/{name}") for name in ("daily", "weekly")}
    fingerprints = set()
    for answer in answers.values():
        request_id = answer.headers["x-request-id"]
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == request_id
        line = shop.system.wait_for_line("api", event="request.failed", request_id=request_id)
        assert (line["route"], line["error_type"]) == ("/reports/{name}", "ZeroDivisionError")
        fingerprints.add(line["fingerprint"])
    assert len(fingerprints) == 2
    expected = 'commandcenter_errors_total{endpoint="/reports/{name}",error_type="ZeroDivisionError",status_code="500"}'
    assert expected in moved(shop.metrics())


def test_an_error_raised_on_purpose_is_a_problem_with_the_id(shop: Shop) -> None:
    with shop.client as client:
        answer = client.post("/orders/dragon")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "Dragons are not for sale."
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_failed_task_is_found_by_its_request(shop: Shop) -> None:
    """With the trail that led to it, and told by `commandcenter trace`, which needs no more than the shop's logs."""
    with shop.client as client:
        request_id = client.post("/orders/unicorn").headers["x-request-id"]
    line = shop.system.wait_for_line("worker", event="task.failed", request_id=request_id)
    assert line["error_type"] == "OutOfStockError"
    # Before it, perhaps, a wait for the connection.
    assert line["trail"][-1]["kind"] == "sql"
    assert 'celery_task_failures_total{exception="OutOfStockError",task="shop.pack"}' in moved(shop.metrics())

    def story() -> dict[str, Any] | None:
        command = [str(Path(sys.executable).with_name("commandcenter")), "trace", request_id, "--json", "--logs"]
        command.append(str(shop.system.log_path("api").parent))
        told = subprocess.run(command, capture_output=True, check=True)
        found: dict[str, Any] = json.loads(told.stdout)["stories"][0]
        tasks = [task for request in found["requests"] for task in request["tasks"]]
        return found if [task["state"] for task in tasks] == ["FAILURE"] else None

    database = eventually(story, what="the story of the failed order")["database"]
    assert "UPDATE orders" in json.dumps(database)


@pytest.mark.parametrize("renamed", [False, True], ids=["as-app", "renamed"])
def test_the_listed_files_need_nothing_else_of_ours(tmp_path: Path, renamed: bool) -> None:
    """Each module is imported, and there is nothing else to import from but installed packages."""
    name = lift(tmp_path, renamed=renamed)
    said = subprocess.run(python(tmp_path, _IMPORT_ALL, name), cwd="/", capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    imported = json.loads(said.stdout)
    assert imported["others"] == []
    assert {f"{name}.correlation", f"{name}.telemetry.sql", f"{name}.utils.metrics"} <= set(imported["modules"])


def test_what_may_stay_away_is_not_missed(tmp_path: Path) -> None:
    lift(tmp_path, renamed=False)
    for entry in listed("optional"):
        (tmp_path / entry).unlink()
    said = subprocess.run(python(tmp_path, _IMPORT_ALL, "app"), cwd="/", capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_the_packages_it_needs_are_the_listed_ones(tmp_path: Path) -> None:
    lift(tmp_path, renamed=False)
    names = {name for file in (tmp_path / "app").rglob("*.py") for name in _imports_of(file)}
    known = packages_distributions()
    # OpenTelemetry is asked for only where it is there.
    foreign = names - set(sys.stdlib_module_names) - {"app", "opentelemetry"}
    assert {known[name][0].lower() for name in foreign} == set(listed("packages"))


def test_the_pages_code_is_the_shops() -> None:
    """Each example stands in the shop as it stands in the page: what is read there was run here."""
    sources = [file.read_text() for file in SHOP.glob("*.py")]
    examples = blocks(PAGE, "python")
    assert len(examples) >= 5
    assert [example for example in examples if not any(example in source for source in sources)] == []


def _imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
