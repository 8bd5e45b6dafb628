"""The engine against a real HTTPS server: tokens, redirects, refusals."""

import base64
import logging
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog.testing

from app.repositories import git_remote
from app.repositories.git import GitError, GitLimits, RepositoryState, sync
from app.repositories.git_process import keeps_to_addresses
from app.repositories.git_remote import Remote, SshFiles
from app.repositories.url import UrlNotAllowedError, UrlPolicy, parse_url
from tests.repositories.git_server import GitServer, git_server, make_certificate
from tests.repositories.source import Source

NEAR = UrlPolicy(allow_private_addresses=True)
TOKEN = "ghp_OnlyOnceIn4Lifetime"
FORMS = (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())

Sync = Callable[..., RepositoryState]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(source: Source, certificate: Path) -> Iterator[GitServer]:
    with git_server(source.path.parents[1], certificate) as running:
        yield running


@pytest.fixture
def sync_https(server: GitServer, clone: Path, certificate: Path) -> Sync:
    def run(
        path: str = "owner/name.git", token: str | None = None, host: str = "localhost", **kwargs: Any
    ) -> RepositoryState:
        return sync(
            parse_url(server.url(path, host), NEAR), clone, token=token, policy=NEAR,
            **{"limits": GitLimits(timeout_s=30), "ca_file": certificate, **kwargs},
        )  # fmt: skip

    return run


def test_a_public_repository_is_read(source: Source, sync_https: Sync) -> None:
    sha = source.commit()
    assert sync_https().last_commit_sha == sha
    sha = source.commit(b"New")
    assert sync_https().last_commit_sha == sha
    assert not sync_https().changed


@pytest.mark.parametrize("shown", [TOKEN, f"somebody:{TOKEN}"])
def test_a_token_opens_a_private_repository(source: Source, server: GitServer, sync_https: Sync, shown: str) -> None:
    server.token = TOKEN
    source.commit()
    assert sync_https(token=shown).commits == 1


@pytest.mark.parametrize(("token", "words"), [(None, "give an access token"), ("wrong", "refuses the access token")])
def test_without_the_right_token_nothing_is_retried(
    server: GitServer, sync_https: Sync, token: str | None, words: str
) -> None:
    """The tenth try with a wrong token gets an account locked."""
    server.token = TOKEN
    with pytest.raises(GitError, match=words) as caught:
        sync_https(token=token)
    assert not caught.value.retryable
    assert len(server.seen) == 1


@pytest.mark.parametrize("token", ["a b", "a\nX: y", "", "ü", " a"])
def test_a_token_that_is_none_is_never_sent(server: GitServer, sync_https: Sync, token: str) -> None:
    """A line break in it would begin another header."""
    with pytest.raises(GitError, match="access token holds"):
        sync_https(token=token)
    assert not server.seen


def test_the_token_is_nowhere_but_in_memory(
    source: Source, server: GitServer, sync_https: Sync, clone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not on a command line while git runs, not on the disk after it, not in logs."""
    server.token = TOKEN
    server.pause_s = 0.2
    source.commit()
    caplog.set_level(logging.DEBUG)
    command_lines: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for process in psutil.process_iter():
                try:
                    command_lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with structlog.testing.capture_logs() as logs:
            state = sync_https(token=TOKEN)
    finally:
        done.set()
        watcher.join()
    assert any("remote-https" in line or "fetch" in line for line in command_lines)
    seen = ["\n".join(command_lines), caplog.text, repr(logs), repr(state)]
    seen += [path.read_bytes().decode("latin-1") for path in clone.parent.rglob("*") if path.is_file()]
    assert not any(form in text for form in FORMS for text in seen)


def test_the_token_is_in_no_error(
    source: Source, server: GitServer, sync_https: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where git itself or the server says it again."""
    source.commit()
    monkeypatch.setattr(git_remote, "_probe", lambda *_args: None)
    server.redirects["/owner/name.git/info/refs"] = f"https://{TOKEN}@localhost:{server.port}/elsewhere"
    with pytest.raises(GitError) as caught:
        sync_https(token=TOKEN)
    error: BaseException | None = caught.value
    while error is not None:
        text = repr(error) + str(error) + "".join(getattr(error, "__notes__", []))
        assert not any(form in text for form in FORMS)
        error = error.__cause__
    assert caught.value.__suppress_context__


def test_a_renamed_repository_is_followed(source: Source, server: GitServer, sync_https: Sync) -> None:
    """Hosts redirect for it; and it is the same host, so it gets the token."""
    server.token = TOKEN
    source.commit()
    server.redirects["/old/name/info/refs"] = "/owner/name.git/info/refs?service=git-upload-pack"
    state = sync_https("old/name", token=TOKEN)
    assert state.url == server.url("owner/name.git")
    assert state.commits == 1


def test_the_token_is_not_sent_to_another_host(
    source: Source, server: GitServer, sync_https: Sync, certificate: Path
) -> None:
    source.commit()
    with git_server(source.path.parents[1], certificate) as other:
        target = other.url("owner/name.git", "127.0.0.1")
        server.redirects["/owner/name.git/info/refs"] = f"{target}/info/refs?service=git-upload-pack"
        assert sync_https(token=TOKEN).url == target
        assert all(authorization is None for _, authorization in other.seen)
    assert server.seen[0][1] is not None


def test_git_itself_follows_no_redirect(
    source: Source, server: GitServer, sync_https: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host may answer the check in one way and git, a moment later, in another."""
    source.commit()
    monkeypatch.setattr(git_remote, "_probe", lambda *_args: None)
    server.redirects["/old/name/info/refs"] = server.url("owner/name.git/info/refs?service=git-upload-pack")
    with pytest.raises(GitError, match="redirects elsewhere"):
        sync_https("old/name")
    assert {path for path, _ in server.seen} == {"/old/name/info/refs"}


def test_redirects_end(server: GitServer, sync_https: Sync) -> None:
    server.redirects["/owner/name.git/info/refs"] = server.url("owner/name.git/info/refs?service=git-upload-pack")
    with pytest.raises(GitError, match="in circles"):
        sync_https()
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://localhost/a/b", "not allowed"),
        ("file:///etc/x", "not allowed"),
        ("https://user:secret@localhost/a/b", "not allowed"),
        ("ssh://git@localhost/a/b", "no(t|n)"),
    ],
)
def test_a_redirect_is_checked_like_the_url_itself(
    server: GitServer, sync_https: Sync, target: str, words: str
) -> None:
    server.redirects["/owner/name.git/info/refs"] = f"{target}/info/refs?service=git-upload-pack"
    with pytest.raises(UrlNotAllowedError, match=words):
        sync_https()


def test_a_redirect_into_the_private_network_is_refused(
    server: GitServer, clone: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public host that sends us to the metadata service."""
    target = f"https://169.254.169.254:{server.port}/a/b/info/refs?service=git-upload-pack"
    server.redirects["/owner/name.git/info/refs"] = target
    strict = UrlPolicy()
    monkeypatch.setattr("app.repositories.url.is_public", lambda address: address in {"127.0.0.1", "::1"})
    with pytest.raises(UrlNotAllowedError, match="private"):
        sync(
            parse_url(server.url("owner/name.git"), strict),
            clone,
            token=None,
            policy=strict,
            limits=GitLimits(),
            ca_file=certificate,
        )


def test_a_login_page_is_no_repository(server: GitServer, sync_https: Sync) -> None:
    server.redirects["/owner/name.git/info/refs"] = server.url("login?next=x")
    with pytest.raises(GitError, match="login page"):
        sync_https()
    server.redirects.clear()
    server.dumb = True
    with pytest.raises(GitError, match="no Git repository at this URL"):
        sync_https()


@pytest.mark.parametrize(
    ("status", "retryable"), [(403, False), (404, False), (410, False), (429, True), (500, True), (503, True)]
)
def test_a_refusal_is_retried_where_that_may_help(
    server: GitServer, sync_https: Sync, status: int, retryable: bool
) -> None:
    server.status = status
    with pytest.raises(GitError) as caught:
        sync_https(token=TOKEN)
    assert caught.value.retryable == retryable


def test_the_address_that_was_checked_is_the_one_that_is_used(
    source: Source, server: GitServer, sync_https: Sync, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer of a resolver may be another: `git.invalid` resolves nowhere but in this test's first look."""
    source.commit()
    real = socket.getaddrinfo

    def once(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "git.invalid" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    # Reached, both times; but the certificate is for another name.
    url = parse_url(server.url("owner/name.git", "git.invalid"), NEAR)
    with pytest.raises(GitError, match="certificate"):
        git_remote.locate(url, NEAR, None, time.monotonic() + 10, ca_file=certificate)
    monkeypatch.setattr(git_remote, "_probe", lambda *_args: None)
    with pytest.raises(GitError, match="certificate"):
        sync_https(host="git.invalid")


def test_a_git_that_would_look_the_name_up_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.37 it ignores what it is told, without a word."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\necho git version 2.34.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(git_remote, "resolve", lambda *_: ("93.184.216.34",))
    keeps_to_addresses.cache_clear()
    try:
        far = UrlPolicy()
        with pytest.raises(GitError, match=r"older than 2\.37") as caught:
            git_remote.locate(parse_url("https://example.com/a/b", far), far, None, time.monotonic() + 10)
        assert not caught.value.retryable
    finally:
        keeps_to_addresses.cache_clear()


def test_ssh_shows_the_key_and_knows_the_hosts_that_it_is_given(tmp_path: Path) -> None:
    """In a container there is no home to keep them in."""
    url = parse_url("ssh://git@example.com/a/b", UrlPolicy())
    files = SshFiles(tmp_path / "a key", tmp_path / "known hosts")
    command = shlex.split(Remote(url, ("93.184.216.34",), None, ssh=files).environment(tmp_path)["GIT_SSH_COMMAND"])
    # As ssh reads them itself.
    asked = subprocess.run([*command, "-G", "example.com"], capture_output=True, text=True, check=True).stdout
    settings = asked.splitlines()
    assert f"identityfile {tmp_path / 'a key'}" in settings
    assert "identitiesonly yes" in settings
    [known] = [line for line in settings if line.startswith("userknownhostsfile ")]
    assert known == f"userknownhostsfile {tmp_path / 'known hosts'}"
    assert "hostname 93.184.216.34" in settings


def test_an_unknown_authority_is_not_trusted(sync_https: Sync) -> None:
    with pytest.raises(GitError, match="certificate") as caught:
        sync_https(ca_file=None)
    assert not caught.value.retryable


def test_a_missing_authority_file_is_said(sync_https: Sync, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="CA file cannot be read"):
        sync_https(ca_file=tmp_path / "none.pem")


def test_a_host_that_does_not_answer_may_later(clone: Path, certificate: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = parse_url(f"https://localhost:{unused.getsockname()[1]}/a/b", NEAR)
    with pytest.raises(GitError, match="cannot be reached") as caught:
        sync(url, clone, token=None, policy=NEAR, limits=GitLimits(), ca_file=certificate)
    assert caught.value.retryable


def test_a_slow_host_is_left_in_time(source: Source, server: GitServer, sync_https: Sync) -> None:
    source.commit()
    server.pause_s = 60
    started = time.monotonic()
    with pytest.raises(GitError, match=r"took longer than 0\.5 seconds"):
        sync_https(limits=GitLimits(timeout_s=0.5))
    assert time.monotonic() - started < 30
