"""OpenAPI is true: whatever is asked, the answer stands in the description, status, media type and form."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from app.config import Settings
from app.main import create_app
from ops.stack import loopback
from tests.system import System

CALLS = {
    *("GET /api/v1/repositories", "POST /api/v1/repositories", "GET /api/v1/repositories/{id}"),
    *("PATCH /api/v1/repositories/{id}", "DELETE /api/v1/repositories/{id}", "POST /api/v1/repositories/{id}/sync"),
    *("GET /api/v1/jobs", "GET /api/v1/jobs/{id}", "POST /api/v1/alerts/webhook"),
    *("GET /api/v1/health", "GET /api/v1/health/ready", "GET /api/v1/metrics"),
}
# Here no token is set, so none is wrong; and no schema can say which URLs name a repository.
NOT_HERE = {"ignored_auth", "positive_data_acceptance"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """The description, as it is served."""
    values: dict[str, Any] = {"database_url": "postgresql://u:p@h/db", "redis_url": "redis://h", "secret_key": "x"}
    return create_app(Settings(**values)).openapi()


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all operations by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def test_the_contracts_calls_are_described_and_no_other(description: dict[str, Any]) -> None:
    """A call that nobody knows of is nobody's to keep."""
    assert operations(description).keys() == CALLS


def test_errors_are_described_as_they_are(description: dict[str, Any]) -> None:
    """FastAPI would describe a 422 of its own, which we never send."""
    assert not {"HTTPValidationError", "ValidationError"} & description["components"]["schemas"].keys()
    for call, operation in operations(description).items():
        for status, response in operation["responses"].items():
            if status >= "400" and call != "GET /api/v1/health/ready":
                assert list(response["content"]) == ["application/problem+json"], (call, status)
        is_guarded = "/health" not in call
        assert ("401" in operation["responses"]) == is_guarded, call
        assert ("413" in operation["responses"]) == ("requestBody" in operation), call
    assert {"404", "409", "503"} <= operations(description)["POST /api/v1/repositories/{id}/sync"]["responses"].keys()


@pytest.mark.parametrize("call", sorted(CALLS))
def test_each_answer_is_one_that_is_described(system: System, call: str) -> None:
    """Right and wrong requests of every kind: status, media type and body fit the description; never a 500."""
    schema = schemathesis.openapi.from_dict(loopback.get(f"{system.url}/openapi.json").json())
    results = schema.get_all_operations()
    [operation] = [found for result in results if isinstance(result, Ok) and (found := result.ok()).label == call]
    excluded: list[Any] = [check for check in CHECKS.get_all() if check.__name__ in NOT_HERE]
    assert len(excluded) == len(NOT_HERE)

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def walk(case: Case[Any]) -> None:
        case.call_and_validate(base_url=system.url, excluded_checks=excluded)

    walk()
