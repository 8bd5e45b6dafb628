"""How git is run: what it may see, and that it never outlives its sync."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from app.repositories.git import GitError, GitLimits, RepositoryState, sync
from app.repositories.git_process import Git, GitExitError, environment, keeps_to_addresses
from app.repositories.url import parse_url
from tests.repositories.conftest import LOCAL
from tests.repositories.source import Source
from tests.system import eventually

Sync = Callable[..., RepositoryState]


@pytest.fixture
def lock(tmp_path: Path) -> int:
    return os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)


def make_git(directory: Path, lock: int, *, timeout_s: float = 20, limits: GitLimits | None = None) -> Git:
    deadline = time.monotonic() + timeout_s
    limits = limits or GitLimits(timeout_s=timeout_s)
    return Git(environment("none"), directory, deadline, limits, lock, lambda _stage, _percent: None)


def put_in_path(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """Put a program before all others."""
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return file


def is_running(pid_file: Path) -> bool:
    try:
        return bool(psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_ended(pid_file: Path) -> bool:
    """Whether a process that was killed is gone; the kernel needs a moment."""
    patience = time.monotonic() + 30
    while is_running(pid_file) and time.monotonic() < patience:
        time.sleep(0.01)
    return not is_running(pid_file)


NOT_INSTALLED = "Git is not installed on the worker's machine"
STUBBORN = "trap '' TERM; (trap '' TERM; sh -c 'echo $$ >{pid}; exec sleep 60') & wait; wait"


def test_git_sees_nothing_of_this_process(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's environment holds the keys to everything."""
    monkeypatch.setenv("SECRET_KEY", "do-not-leak")
    monkeypatch.setenv("GIT_SSH_COMMAND", "do-not-leak")
    monkeypatch.setenv("https_proxy", "http://do-not-leak")
    put_in_path(tmp_path / "bin", monkeypatch, "git", "env")
    assert b"do-not-leak" not in make_git(tmp_path, lock).output("x")


def test_git_asks_nobody_and_reads_no_settings(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Somebody\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    listed = make_git(tmp_path, lock).output("config", "--list", "--show-scope").decode().splitlines()
    assert {line.split("\t")[0] for line in listed} == {"command"}
    assert "command\tcore.hookspath=/dev/null" in listed


def test_a_machine_without_git_is_not_taken_for_a_missing_repository(
    source: Source, sync_source: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's "git: not found" sent people to look at their URL; and it is no fault that the repository keeps."""
    source.commit()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(GitError, match=NOT_INSTALLED) as caught:
            sync_source()
    assert caught.value.retryable
    assert sync_source().commits == 1


def test_a_git_that_may_not_be_run_is_none(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(tmp_path / "bin", monkeypatch, "git", "exit 0").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(GitError, match=NOT_INSTALLED):
        make_git(tmp_path, lock).output("x")


def test_what_git_ends_with_is_its_own_where_there_is_a_git(
    tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that git runs may be missing too; then git is not what is to be installed."""
    put_in_path(tmp_path / "bin", monkeypatch, "git", "echo 'helper: not found' >&2; exit 127")
    with pytest.raises(GitExitError) as caught:
        make_git(tmp_path, lock).output("x")
    assert caught.value.code == 127


def test_a_machine_without_git_is_told_before_a_host_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's age is the first question of a sync over https; the answer is asked for anew once git is there."""
    keeps_to_addresses.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(GitError, match=NOT_INSTALLED):
            keeps_to_addresses()
    assert keeps_to_addresses()


def test_a_protocol_that_was_not_allowed_is_refused_by_git_too(tmp_path: Path, lock: int, source: Source) -> None:
    with pytest.raises(GitExitError) as caught:
        make_git(tmp_path, lock).output("ls-remote", "--", source.url)
    assert b"not allowed" in caught.value.stderr


def test_a_time_limit_ends_git_and_its_children(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that do not want to."""
    pid = tmp_path / "pid"
    put_in_path(tmp_path / "bin", monkeypatch, "git", STUBBORN.format(pid=pid))
    with pytest.raises(GitError, match="took longer than 3 seconds") as caught:
        make_git(tmp_path, lock, timeout_s=3).output("x")
    assert not caught.value.retryable
    assert has_ended(pid)


def test_a_program_that_closes_its_output_is_timed_all_the_same(
    tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_path(tmp_path / "bin", monkeypatch, "git", "exec >&- 2>&-; sleep 60")
    with pytest.raises(GitError, match="took longer"):
        make_git(tmp_path, lock, timeout_s=0.3).output("x")


def test_an_exception_in_the_thread_ends_git(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's soft time limit comes as one, out of a signal handler."""
    pid = tmp_path / "pid"
    put_in_path(tmp_path / "bin", monkeypatch, "git", STUBBORN.format(pid=pid))

    class SoftLimitError(Exception):
        pass

    def interrupt(_number: int, _frame: object) -> None:
        raise SoftLimitError

    def interrupt_it() -> None:
        eventually(lambda: pid.exists() and pid.read_text().strip(), what="the program's child")
        os.kill(os.getpid(), signal.SIGALRM)

    previous = signal.signal(signal.SIGALRM, interrupt)
    thread = threading.Thread(target=interrupt_it)
    thread.start()
    try:
        with pytest.raises(SoftLimitError):
            make_git(tmp_path, lock, timeout_s=60).output("x")
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, previous)
    assert has_ended(pid)


def test_a_callback_that_raises_ends_the_sync_without_a_trace(source: Source, clone: Path) -> None:
    source.commit()

    def fail(_stage: str, _percent: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sync(parse_url(source.url, LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits(), on_progress=fail)
    assert [path.name for path in clone.parent.iterdir()] == ["1.git.lock"]
    assert sync(parse_url(source.url, LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits()).commits == 1


def test_a_host_that_goes_to_and_fro_is_not_followed(
    tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage that is told is a line and a write to the database; what a host says between them costs it nothing."""
    words = "remote: Compressing objects: {n}%\\rremote: Counting objects: {n}%\\rReceiving objects: {n}%\\r"
    flood = "".join(words.format(n=f"{number % 100}%") for number in range(1000))  # For printf: %% is one.
    put_in_path(tmp_path / "bin", monkeypatch, "git", f"printf '{flood}' >&2")
    told: list[str] = []
    git = replace(make_git(tmp_path, lock), on_progress=lambda stage, _: told.append(stage))
    started = time.monotonic()
    git.run("fetch")
    # Once for each stage, and once a second.
    assert len(told) <= 2 + time.monotonic() - started
    assert told[:2] == ["compressing", "receiving"]


def test_a_worker_that_is_killed_leaves_the_lock_to_git(tmp_path: Path, source: Source) -> None:
    """While its git still runs, no other may touch the clone; once that has ended, the next one may."""
    source.commit()
    (tmp_path / "bin").mkdir()
    pid = tmp_path / "pid"
    stub = tmp_path / "bin/git"
    stub.write_text(f"#!/bin/sh\necho $$ >{pid}\nexec sleep 60\n")
    stub.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from app.repositories.git import *; from app.repositories.url import *\n"
        "p = UrlPolicy(allow_local=True)\n"
        "sync(parse_url(sys.argv[1], p), Path(sys.argv[2]), token=None, policy=p, limits=GitLimits())"
    )
    clone = tmp_path / "clones/1.git"
    environment_ = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with subprocess.Popen([sys.executable, "-c", program, source.url, str(clone)], env=environment_) as worker:
        while not pid.exists() or not pid.read_text().strip():
            time.sleep(0.01)
        worker.kill()
    with pytest.raises(GitError, match="Another sync"):
        sync(parse_url(source.url, LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits())
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert has_ended(pid)
    assert sync(parse_url(source.url, LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits()).commits == 1


def test_a_large_repository_is_stopped_and_removed(source: Source, sync_source: Sync, clone: Path) -> None:
    source.commit(files={b"a.bin": os.urandom(3 * 1024**2)})
    with pytest.raises(GitError, match="larger than 1 MB") as caught:
        sync_source(limits=GitLimits(max_size_bytes=1024**2))
    assert not caught.value.retryable
    assert [path.name for path in clone.parent.iterdir()] == ["1.git.lock"]


def test_one_large_file_is_stopped_as_it_is_written(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system, also between two looks at the folder."""
    put_in_path(tmp_path / "bin", monkeypatch, "git", f"exec dd if=/dev/zero of={tmp_path}/large bs=1M count=3")
    with pytest.raises(GitError, match="larger than 1 MB"):
        make_git(tmp_path, lock, limits=GitLimits(max_size_bytes=1024**2)).run("x")
    assert (tmp_path / "large").stat().st_size <= 1024**2


def test_many_small_files_are_stopped_too(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No single file is too large."""
    folder = tmp_path / "clone"
    folder.mkdir()
    script = f"i=0; while :; do i=$((i+1)); head -c 100000 /dev/zero >{folder}/$i; done"
    put_in_path(tmp_path / "bin", monkeypatch, "git", script)
    with pytest.raises(GitError, match="larger than"):
        make_git(tmp_path, lock, limits=GitLimits(max_size_bytes=1024**2)).run("x", writes_to=folder)


def test_a_clone_that_grew_too_large_keeps_what_it_has(source: Source, sync_source: Sync) -> None:
    first = source.commit()
    sync_source()
    source.commit(files={b"a.bin": os.urandom(3 * 1024**2)})
    with pytest.raises(GitError, match="larger than"):
        sync_source(limits=GitLimits(max_size_bytes=1024**2))
    source.git("update-ref", "refs/heads/main", first)
    assert sync_source().last_commit_sha == first


def test_memory_is_limited(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(
        tmp_path / "bin",
        monkeypatch,
        "git",
        f"exec {sys.executable} -c 'import time; time.sleep(.2); bytearray(2**28)'",
    )
    with pytest.raises(GitExitError) as caught:
        make_git(tmp_path, lock, limits=GitLimits(max_memory_bytes=64 * 1024**2)).output("x")
    assert b"MemoryError" in caught.value.stderr


def test_endless_words_of_a_remote_are_not_kept(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(
        tmp_path / "bin",
        monkeypatch,
        "git",
        "head -c 20000000 /dev/zero | tr '\\0' x >&2; echo fatal: last >&2; exit 7",
    )
    with pytest.raises(GitExitError) as caught:
        make_git(tmp_path, lock).output("x")
    assert caught.value.code == 7
    assert caught.value.stderr.endswith(b"fatal: last\n")
    assert len(caught.value.stderr) <= 4096


def test_output_is_read_only_as_far_as_wanted(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(tmp_path / "bin", monkeypatch, "git", "exec yes")
    assert make_git(tmp_path, lock).output("x", max_bytes=10) == b"y\n" * 5


def test_ssh_goes_to_the_checked_address_and_asks_nothing(
    source: Source, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh notes what it is told, and runs what the host would."""
    source.commit()
    told = tmp_path / "told"
    run = """for last; do :; done; exec sh -c "$(echo "$last" | sed "s#'/#'#")\""""
    script = f'echo "$@" >>{told}; cd {tmp_path}/host; {run}'
    put_in_path(tmp_path / "bin", monkeypatch, "ssh", script)
    state = sync(
        parse_url("git@localhost:owner/name.git", LOCAL), clone, token="unused", policy=LOCAL, limits=GitLimits()
    )
    assert state.commits == 1
    line = told.read_text().splitlines()[0]
    for option in (
        "-F none",
        "HostKeyAlias=localhost",
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "ProxyCommand=none",
    ):
        assert option in line
    assert "HostName=127.0.0.1" in line or "HostName=::1" in line
    assert "unused" not in told.read_text()


@pytest.mark.parametrize(
    ("words", "reason", "retryable"),
    [
        ("git@host: Permission denied (publickey).", "refuses access", False),
        ("Host key verification failed.", "host key", False),
        ("ssh: connect to host x port 22: Connection refused", "cannot be reached", True),
        ("kex_exchange_identification: Connection closed by remote host", "cannot be reached", True),
        ("ERROR: Repository not found.", "not found", False),
    ],
)
def test_what_ssh_says_is_put_plainly(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, reason: str, retryable: bool
) -> None:
    put_in_path(tmp_path / "bin", monkeypatch, "ssh", f"echo '{words}' >&2; exit 255")
    with pytest.raises(GitError, match=reason) as caught:
        sync(parse_url("git@localhost:owner/name.git", LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits())
    assert caught.value.retryable == retryable
    assert words in caught.value.__notes__[0]
