"""What `verify` makes of answers; on a real system it is run by test_rehearsal.py."""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from ops.demo.api import Answer
from ops.release import verify
from ops.release.findings import Finding


@dataclass
class Service:
    """Answers as it should, but for what is `left_out` or `added`."""

    left_out: str = ""
    added: tuple[str, ...] = ()

    def call(self, method: str, path: str, *, headers: Mapping[str, str]) -> Answer:
        """Answer with the ID that was asked with."""
        status = {"/repositories": 200, "/health/failure": 500}.get(path, 404)
        wanted = headers["X-Request-ID"]
        body: dict[str, Any] = {"items": []} if status == 200 else {"status": status, "request_id": wanted}
        body.pop(self.left_out, None)
        ids = () if self.left_out == "header" else (wanted, *self.added)
        return Answer(method, path, status, ids[0] if ids else "", 1.0, body, ids)


def verdicts(service: Service) -> list[str]:
    """Return what is said of the IDs on 200, 404 and 500."""
    ground = verify.Ground(None, service, None, "a secret key of the service")  # type: ignore[arg-type] # not asked
    return [finding.verdict for finding in verify._ids(ground)]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (Service(), ["ok", "ok", "ok"]),
        (Service(left_out="request_id"), ["ok", "failed", "failed"]),
        (Service(left_out="header"), ["failed", "failed", "failed"]),
        (Service(added=("another",)), ["failed", "failed", "failed"]),
    ],
    ids=["as it should be", "none in the body", "no header", "two headers"],
)
def test_the_id_is_wanted_in_the_header_once_and_in_the_body_of_errors(service: Service, expected: list[str]) -> None:
    """A user reports what the page shows: that is the body's."""
    assert verdicts(service) == expected


@dataclass
class Queue:
    """A service whose jobs stand at `job`."""

    job: dict[str, Any]

    def expect(self, method: str, path: str, **_: object) -> Any:
        """Answer with the one repository, or the job."""
        assert method == "GET"
        return {"items": [{"id": 1}]} if path == "/repositories" else self.job

    def sync(self, repository_id: int) -> dict[str, Any]:
        """Queue the job."""
        assert repository_id == 1
        return {"job_id": "j"}


@pytest.mark.parametrize(
    ("job", "runs", "expected"),
    [
        ({"status": "queued", "reason": "The host was not found. It will be tried again in 105 s."}, 3, "ok"),
        ({"status": "failed", "reason": "The host was not found."}, 3, "ok"),
        ({"status": "succeeded", "reason": None}, 0, "failed"),
    ],
)
def test_a_task_is_wanted_in_the_logs_whatever_its_host_says(
    monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], runs: int, expected: str
) -> None:
    """A host that is away is no fault of a release, and its sync is tried again for minutes."""
    work = SimpleNamespace(sql=SimpleNamespace(count=runs))
    story = SimpleNamespace(tasks=[SimpleNamespace(runs=[work])], requests=[])
    monkeypatch.setattr(verify, "_story", lambda *_: story)
    service = Queue({**job, "request_id": "r"})
    ground = verify.Ground(None, service, None, "")  # type: ignore[arg-type] # not asked
    [finding] = verify._traced_task(ground, datetime.now(UTC))
    assert finding.verdict == expected
    assert f"job {job['status']}" in finding.value


def test_a_check_that_cannot_be_made_is_a_finding_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is when a person most wants to know what else is wrong."""

    def _logs(_: verify.Ground) -> Iterator[Finding]:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/log")

    def _others(_: verify.Ground) -> Iterator[Finding]:
        yield Finding("others", "ok", "1", "1")

    monkeypatch.setattr(verify, "_CHECKS", (_logs, _others))
    ground = verify.Ground(None, None, None, "")  # type: ignore[arg-type] # not asked
    first, second = verify.verify(ground)
    assert (first.check, first.verdict, second.check) == ("logs", "failed", "others")
    assert "No space left on device (/data/log)" in first.value
