"""The command line and the service agree on the header that asks for a trail, though neither imports the other."""

import subprocess
import sys
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry import trail
from ops.trace import token
from tests.system import BACKEND, System, clean_environment


@given(st.text(), st.integers(0, 9_999_999_999))
def test_both_sign_alike(secret: str, expires_at: int) -> None:
    """Written twice, for `ops` knows nothing of `app`; held together here."""
    try:
        theirs = trail.trail_token(secret, expires_at)
    except UnicodeEncodeError:
        # A lone surrogate: no environment variable holds one that way.
        return
    assert token.trail_token(secret, expires_at) == theirs


def commandcenter(*arguments: str, **environment: str) -> str:
    """Run the command line as a person does and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", "from ops.cli import main; main()", *arguments],
        cwd=BACKEND,
        env={**clean_environment(), **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_request_with_the_header_leaves_its_trail(system: System, tmp_path: Path) -> None:
    """From the command line to the log, and from the log to the command line."""
    settings = {"SECRET_KEY": system.environment["SECRET_KEY"], "COMMANDCENTER_DATA": str(tmp_path / "none")}
    made = orjson.loads(commandcenter("trail-token", "--json", "--minutes=1440", **settings))
    header = {made["header"]: made["token"]}
    with system.client() as client:
        asked = client.get("/api/v1/repositories", headers=header).headers["X-Request-ID"]
        others = client.get("/api/v1/repositories", headers={made["header"]: made["token"] + "0"})
    line = system.wait_for_line("api", event="request.finished", request_id=asked)
    assert {step["kind"] for step in line["trail"]} >= {"sql"}
    assert (line["level"], line["status"]) == ("info", 200)
    plain = system.wait_for_line("api", event="request.finished", request_id=others.headers["X-Request-ID"])
    assert "trail" not in plain
    told = commandcenter("trace", asked, "--logs", str(system.directory / "log"), **settings)
    assert "Trail  " in told
    assert any(" sql " in row and "FROM repositories" in row for row in told.splitlines())


def test_a_failure_is_there_for_who_can_sign(system: System, tmp_path: Path) -> None:
    """A release proves by it that an error has its ID; a stranger must not fill the log with errors."""
    settings = {"SECRET_KEY": system.environment["SECRET_KEY"], "COMMANDCENTER_DATA": str(tmp_path / "none")}
    made = orjson.loads(commandcenter("trail-token", "--json", **settings))
    with system.client() as client:
        failed = client.get("/api/v1/health/failure", headers={made["header"]: made["token"]})
        for headers in ({}, {made["header"]: made["token"] + "0"}):
            assert client.get("/api/v1/health/failure", headers=headers).status_code == 404
    assert failed.status_code == 500
    [shown] = failed.headers.get_list("X-Request-ID")
    assert failed.json()["request_id"] == shown
    line = system.wait_for_line("api", event="request.failed", request_id=shown)
    assert (line["error_type"], line["route"]) == ("ProofError", "/api/v1/health/failure")
