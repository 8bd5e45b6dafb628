"""The tour, against the service as it runs."""

import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ops.cli import cli
from ops.demo import tour as tours
from ops.demo.api import Api
from ops.demo.tour import Tour, with_own_repository
from ops.stack.errors import StackError
from ops.stack.ports import free_port
from tests.system import System


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """URL of a repository with one commit."""
    folder = tmp_path / "team" / "site"
    folder.mkdir(parents=True)
    (folder / "site.py").write_text("print('hello')\n")
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "-q", "-b", "trunk"],
        ["add", "."],
        [*identity, "commit", "-q", "-m", "Begin [red]here[/]"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)
    return folder.as_uri()


@pytest.fixture
def logs(tmp_path: Path, system: System, postgres_log: Path) -> Path:
    """One folder with all logs, as the native stack has it."""
    folder = tmp_path / "log"
    folder.mkdir()
    for path in (system.log_path("api"), system.log_path("worker"), postgres_log):
        (folder / path.name).symlink_to(path)
    return folder


def take(system: System, logs: Path, *urls: str) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160, markup=False, highlight=False, emoji=False)
    api = Api(system.url)
    try:
        Tour(console, api, logs).run(urls)
    finally:
        api.close()
    return out.getvalue()


def test_the_tour_shows_a_repository_and_the_story_of_each_request(system, logs, repository):
    """A newcomer's first look: every part of the system must be in it, and the error explained."""
    shown = take(system, logs, repository)
    assert "Begin [red]here[/]" in shown
    assert "Python 100 %" in shown
    assert "trunk" in shown
    assert shown.count("commandcenter trace 0") == 7
    assert "Task repositories.sync" in shown
    assert "SUCCESS" in shown
    assert "Error  SyncFailedError: " in shown
    assert "PostgreSQL saw" in shown
    assert "[repositories.sync]" in shown
    assert "→ 404" in shown
    assert "→ 422" in shown


def test_a_second_tour_takes_what_is_known(system, logs, repository):
    """409 for a repository that is registered already is no failure of the tour."""
    take(system, logs, repository)
    assert "was registered already" in take(system, logs, f"{repository}/")


def test_the_failed_repository_is_forgotten_again(system, logs, repository):
    take(system, logs, repository)
    with system.client() as client:
        known = client.get("/api/v1/repositories", params={"limit": 100, "q": "lost-repository"}).json()
    assert known["total"] == 0


def test_no_logs_say_so_and_not_an_empty_story(system, tmp_path):
    with pytest.raises(StackError) as error:
        take(system, tmp_path)
    assert "--logs" in error.value.way_out


def test_logs_of_another_system_say_so(system, tmp_path, monkeypatch):
    monkeypatch.setattr(tours, "_FLUSH_PATIENCE_S", 0.1)
    (tmp_path / "api.log").write_text('{"timestamp":"2026-11-24T08:00:00Z"}\n')
    with pytest.raises(StackError, match="No line in"):
        take(system, tmp_path)


def test_an_api_that_is_down_says_what_to_run():
    result = CliRunner().invoke(cli, ["demo", "--api", f"http://127.0.0.1:{free_port()}"])
    assert result.exit_code == 1
    assert "make up" in result.stderr


def test_an_address_that_is_none_is_refused():
    assert CliRunner().invoke(cli, ["demo", "--api", "localhost"]).exit_code == 1


def test_without_a_checkout_a_url_is_asked_for(tmp_path, monkeypatch):
    """The package may be installed where there is no repository."""
    monkeypatch.setattr(tours, "checkout", lambda: tmp_path)
    with pytest.raises(StackError, match="checkout"):
        with_own_repository([])
    assert with_own_repository(["https://example.com/a/b"]) == ["https://example.com/a/b"]


@contextmanager
def answering(status: int, body: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """An API that answers one thing to everything but /health, and the Authorization headers it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers.get("Authorization", ""))
            is_health = self.path.endswith("/health") and status >= 500
            answer = b"{}" if is_health else body
            self.send_response(200 if is_health else status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", sent
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def guarded_api() -> Iterator[tuple[str, list[str]]]:
    """An API that lets nobody in."""
    with answering(401) as api:
        yield api


def test_a_system_that_is_not_ready_says_what_is_missing():
    """Without a worker, a job would wait for ever."""
    body = b'{"status":"x","components":{"database":{"status":"up"},"worker":{"status":"down"}}}'
    with answering(503, body) as (url, _):
        result = CliRunner().invoke(cli, ["demo", "--api", url])
    assert result.exit_code == 1
    assert "not ready: worker." in result.stderr


def test_the_token_is_sent_and_never_shown(guarded_api, monkeypatch):
    url, sent = guarded_api
    monkeypatch.setenv("API_TOKEN", "a-very-secret-token")
    result = CliRunner().invoke(cli, ["demo", "--api", url])
    assert result.exit_code == 1
    assert sent == ["Bearer a-very-secret-token"]
    assert "API_TOKEN" in result.stderr
    assert "a-very-secret-token" not in result.output


def test_the_stacks_own_token_goes_to_no_other_api(guarded_api, monkeypatch, tmp_path):
    """`--api` may name anybody's server."""
    url, sent = guarded_api
    (tmp_path / ".made-by-commandcenter").touch()
    (tmp_path / "secrets.env").write_text("API_TOKEN=the-stacks-own\n")
    monkeypatch.setenv("COMMANDCENTER_DATA", str(tmp_path))
    monkeypatch.delenv("API_TOKEN", raising=False)
    CliRunner().invoke(cli, ["demo", "--api", url])
    assert sent == [""]


def test_the_stacks_own_token_goes_to_the_stack(guarded_api, monkeypatch, tmp_path):
    url, sent = guarded_api
    (tmp_path / ".made-by-commandcenter").touch()
    (tmp_path / "secrets.env").write_text("API_TOKEN=the-stacks-own\n")
    monkeypatch.setenv("COMMANDCENTER_DATA", str(tmp_path))
    monkeypatch.setenv("API_PORT", url.rpartition(":")[2])
    monkeypatch.delenv("API_TOKEN", raising=False)
    result = CliRunner().invoke(cli, ["demo"])
    assert sent == ["Bearer the-stacks-own"]
    assert "the-stacks-own" not in result.output
