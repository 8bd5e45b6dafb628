"""The engine against real repositories on this machine."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.repositories import git
from app.repositories.git import GitError, GitLimits, RepositoryState
from app.repositories.url import UrlNotAllowedError, UrlPolicy, parse_url
from tests.repositories.conftest import LOCAL
from tests.repositories.source import Source, Sync


def test_a_first_sync_says_what_is_in_the_repository(source: Source, sync_source: Sync) -> None:
    """Every field, once, from a repository that a person would recognize."""
    now = int(datetime.now(UTC).timestamp())
    source.commit(b"First\n\nBody", author=b"Ada <ADA@example.com>", when=b"1600000000 +0200")
    source.commit(b"Second", author=b"Ada <ada@example.com>", files={b"a.py": b"x = 1\n", b"b.ts": b"let b = 1\n"})
    sha = source.commit(
        b"Third: the subject\nsecond line",
        author=b"Grace <grace@example.com>",
        when=b"%d +0000" % now,
        files={b"a.py": b"x = 1\n", b"b.ts": b"let b = 1\n", b"README.md": b"# x\n"},
    )
    state = sync_source()
    assert state == RepositoryState(
        url=source.url,
        changed=True,
        default_branch="main",
        last_commit_sha=sha,
        last_commit_message="Third: the subject",
        last_commit_author="Grace",
        last_commit_at=datetime.fromtimestamp(now, UTC),
        commits=3,
        contributors=2,
        activity=[0] * 51 + [1],
        languages={"TypeScript": 10, "Python": 6},
        size_bytes=state.size_bytes,
    )
    assert state.size_bytes > 0


def test_an_unchanged_repository_gives_the_same_state_again(source: Source, sync_source: Sync, clone: Path) -> None:
    source.commit()
    first = sync_source()
    before = {path: path.stat().st_mtime_ns for path in clone.rglob("*")}
    second = sync_source()
    assert (first.changed, second.changed) == (True, False)
    assert second.last_commit_sha == first.last_commit_sha
    assert (second.commits, second.languages, second.activity) == (first.commits, first.languages, first.activity)
    assert {path: path.stat().st_mtime_ns for path in clone.rglob("*")} == before


def test_new_commits_are_fetched(source: Source, sync_source: Sync) -> None:
    source.commit()
    sync_source()
    sha = source.commit(b"New")
    state = sync_source()
    assert (state.changed, state.last_commit_sha, state.commits) == (True, sha, 2)


def test_a_rewritten_history_replaces_the_old_one(source: Source, sync_source: Sync) -> None:
    source.commit(b"One")
    source.commit(b"Secret, to be removed")
    sync_source()
    sha = source.commit(b"Another one", parents=[])
    state = sync_source()
    assert (state.last_commit_sha, state.commits) == (sha, 1)


def test_a_renamed_default_branch_is_followed(source: Source, sync_source: Sync) -> None:
    """Also where the old name is a folder of the new one, which one repository cannot hold at once."""
    source.commit()
    sync_source()
    source.git("update-ref", "-d", "refs/heads/main", "refs/heads/main")
    sha = source.commit(branch="main/x")
    source.git("symbolic-ref", "HEAD", "refs/heads/main/x")
    state = sync_source()
    assert (state.changed, state.default_branch, state.last_commit_sha) == (True, "main/x", sha)


def test_another_default_branch_at_the_same_commit_is_a_change(source: Source, sync_source: Sync) -> None:
    sha = source.commit()
    sync_source()
    source.git("update-ref", "refs/heads/trunk", sha)
    source.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    assert sync_source().default_branch == "trunk"
    assert not sync_source().changed


@pytest.mark.parametrize(("branches", "expected"), [(["dev"], "dev"), (["a", "master"], "master"), (["a", "b"], None)])
def test_a_deleted_default_branch_is_replaced_where_that_is_plain(
    source: Source, sync_source: Sync, branches: list[str], expected: str | None
) -> None:
    for branch in branches:
        source.commit(branch=branch)
    state = sync_source()
    assert state.default_branch == expected
    assert state.commits == (0 if expected is None else 1)


def test_a_repository_without_commits_is_empty(source: Source, sync_source: Sync) -> None:
    assert sync_source() == RepositoryState(url=source.url, changed=False)


def test_an_emptied_repository_is_empty_again(source: Source, sync_source: Sync, clone: Path) -> None:
    source.commit()
    sync_source()
    source.git("update-ref", "-d", "refs/heads/main")
    assert sync_source() == RepositoryState(url=source.url, changed=True)
    assert not clone.exists()
    source.commit()
    assert sync_source().commits == 1


def test_tags_alone_are_no_branch(source: Source, sync_source: Sync) -> None:
    sha = source.commit()
    source.git("update-ref", "refs/tags/v1", sha)
    source.git("update-ref", "-d", "refs/heads/main")
    assert sync_source() == RepositoryState(url=source.url, changed=False)


def test_a_detached_head_is_read_and_named_where_one_branch_fits(source: Source, sync_source: Sync) -> None:
    first = source.commit()
    source.commit()
    source.git("update-ref", "--no-deref", "HEAD", first)
    state = sync_source()
    assert (state.default_branch, state.last_commit_sha, state.commits) == (None, first, 1)
    source.git("update-ref", "refs/heads/release", first)
    assert sync_source().default_branch == "release"


def test_a_repository_that_is_gone_is_said_to_be(source: Source, sync_source: Sync, clone: Path) -> None:
    """And what was known of it stays."""
    source.commit()
    sync_source()
    shutil.rmtree(source.path)
    with pytest.raises(GitError, match="not found, or no access") as caught:
        sync_source()
    assert not caught.value.retryable
    assert str(clone.parent) not in "".join([str(caught.value), *caught.value.__notes__])
    assert clone.is_dir()


def test_no_clone_is_left_of_a_first_sync_that_failed(sync_source: Sync, clone: Path) -> None:
    with pytest.raises(GitError):
        sync_source("file:///nowhere/at/all")
    assert [path.name for path in clone.parent.iterdir()] == ["1.git.lock"]


def test_bytes_that_are_no_utf8_are_read_all_the_same(source: Source, sync_source: Sync) -> None:
    """Names, messages and paths are whatever bytes somebody's editor wrote."""
    sha = source.commit(
        b"Fix \xff\xfe it\x1b[31m\nmore",
        author=b"J\xf6rg <j\xf6rg@example.com>",
        files={b"\xff\xfe\n.py": b"x", b"-rf.py": b"y", b'"quo\tted".py': b"z", b" .py": b"w"},
    )
    state = sync_source()
    assert state.last_commit_sha == sha
    assert state.last_commit_message == "Fix \ufffd\ufffd it [31m"
    assert state.last_commit_author == "J\ufffdrg"
    assert state.languages == {"Python": 4}
    json.dumps(state.last_commit_message).encode()


def test_a_declared_encoding_is_respected(source: Source, sync_source: Sync) -> None:
    source.commit("Größe".encode("latin-1"), author="Jörg <j@x>".encode("latin-1"), headers=b"encoding ISO-8859-1\n")
    state = sync_source()
    assert (state.last_commit_message, state.last_commit_author) == ("Größe", "Jörg")


def test_a_huge_message_is_cut(source: Source, sync_source: Sync) -> None:
    source.commit(b"\n\n" + b"x" * 5_000_000, author=b"y" * 10_000 + b" <a@b>")
    state = sync_source()
    assert state.last_commit_message == "x" * 500
    assert state.last_commit_author == "y" * 255


@pytest.mark.parametrize("when", [b"-1 +0000", b"99999999999999 +0000", b"99999999999999999999999 +0000", b"x", b""])
def test_a_date_that_no_calendar_has_is_unknown(source: Source, sync_source: Sync, when: bytes) -> None:
    source.commit(when=when)
    state = sync_source()
    assert (state.last_commit_at, state.commits, state.activity) == (None, 1, [0] * 52)


def test_a_commit_from_the_future_counts_when_its_week_comes(
    source: Source, sync_source: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weeks pass without a commit, so they are counted from the clock, not from the last change."""
    now = datetime.now(UTC).timestamp()
    source.commit(when=b"%d +0000" % now)
    source.commit(when=b"%d +0000" % (now + 14 * 24 * 3600))
    assert sync_source().activity == [0] * 51 + [1]
    monkeypatch.setattr("time.time", lambda: now + 14 * 24 * 3600)
    state = sync_source()
    assert not state.changed
    assert state.activity == [0] * 49 + [1, 0, 1]


def test_merges_count_and_the_mailmap_says_who_is_who(source: Source, sync_source: Sync) -> None:
    base = source.commit(author=b"Ada <ada@old.example>")
    side = source.commit(author=b"Grace <grace@example.com>", parents=[base], branch="side")
    mailmap = {b".mailmap": b"Ada Lovelace <ada@new.example> <ada@old.example>\n"}
    source.commit(author=b"Ada <ada@new.example>", parents=[base, side], files=mailmap)
    state = sync_source()
    assert (state.commits, state.contributors, state.last_commit_author) == (3, 2, "Ada")


def test_submodules_and_links_count_nothing_and_are_not_followed(source: Source, sync_source: Sync) -> None:
    modules = b'[submodule "x"]\n\tpath = x\n\turl = ext::touch /tmp/never\n\tupdate = !touch /tmp/never\n'
    source.commit(
        files={b".gitmodules": modules, b"a.py": b"1", b"link.py": b"/etc/passwd", b"x.py": b"1" * 40},
        modes={b"link.py": b"120000", b"x.py": b"160000"},
    )
    assert sync_source().languages == {"Python": 1}


def test_hooks_filters_and_settings_of_a_repository_never_run(
    source: Source, sync_source: Sync, tmp_path: Path
) -> None:
    """Nor do they where somebody could write into the clone."""
    trap, victim = tmp_path / "trap", tmp_path / "victim"
    trap.write_text(f"#!/bin/sh\ntouch {victim}\n")
    trap.chmod(0o755)
    attributes = b"* filter=x diff=x merge=x text eol=crlf\n"
    source.commit(
        files={b".gitattributes": attributes, b".lfsconfig": b"[lfs]\n\turl = http://127.0.0.1:1/\n", b"a.py": b"1"}
    )
    for hook in (
        "post-update",
        "reference-transaction",
        "post-checkout",
        "pre-auto-gc",
        "post-rewrite",
        "fsmonitor-watchman",
    ):
        shutil.copy(trap, source.path / "hooks" / hook)
    for key in (
        "filter.x.smudge",
        "diff.x.textconv",
        "core.fsmonitor",
        "core.sshCommand",
        "uploadpack.packObjectsHook",
    ):
        source.git("config", key, str(trap))
    sync_source()
    assert not victim.exists()


def test_a_source_with_borrowed_objects_is_read(source: Source, sync_source: Sync, tmp_path: Path) -> None:
    lender = Source.create(tmp_path / "lender.git")
    sha = lender.commit()
    (source.path / "objects/info/alternates").write_text(f"{lender.path}/objects\n")
    source.git("update-ref", "refs/heads/main", sha)
    assert sync_source().last_commit_sha == sha


def test_a_shallow_source_is_read_as_far_as_it_goes(source: Source, sync_source: Sync) -> None:
    source.commit(b"Cut off")
    parent = source.commit(b"Oldest there is")
    source.commit(b"Newest")
    (source.path / "shallow").write_text(f"{parent}\n")
    assert sync_source().commits == 2


def test_objects_that_fsck_refuses_are_read(source: Source, sync_source: Sync) -> None:
    """Zero-padded modes and missing zones stand in old repositories of good repute."""
    blob = bytes.fromhex(source.git("hash-object", "-w", "--stdin", data=b"1"))
    tree = source.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=b"0100644 a.py\0" + blob)
    raw = f"tree {tree}\nauthor A <a@b> 1\ncommitter A <a@b> 1\n\nm".encode()
    source.git(
        "update-ref",
        "refs/heads/main",
        source.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", data=raw),
    )
    assert sync_source().languages == {"Python": 1}


def test_a_sha256_repository_is_read(tmp_path: Path, sync_source: Sync) -> None:
    source = Source.create(tmp_path / "sha256.git", "--object-format=sha256")
    sha = source.commit()
    assert sync_source(source.url).last_commit_sha == sha
    assert len(sha) == 64


def test_odd_branch_and_folder_names_are_names(tmp_path: Path, sync_source: Sync) -> None:
    source = Source.create(tmp_path / "a b'$(touch x)" / "-o%20.git")
    source.git("symbolic-ref", "HEAD", "refs/heads/-ü'$(x)")
    sha = source.commit(branch="-ü'$(x)")
    quoted = str(source.path).replace("%", "%25").replace(" ", "%20")
    state = sync_source(f"file://{quoted}")
    assert (state.default_branch, state.last_commit_sha) == ("-ü'$(x)", sha)


def test_another_users_local_repository_is_read(
    source: Source, sync_source: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That an operator allowed local repositories says that they are trusted; git alone refuses."""
    source.commit()
    # Only root can give files away. Git's own tests have this word for it, which our environment would not let through.
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "git"
    program.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    refused = subprocess.run(["git", "-C", source.path, "log"], capture_output=True, text=True, check=False)
    assert "dubious ownership" in refused.stderr
    if os.geteuid() == 0:
        for path in [source.path, *source.path.rglob("*")]:
            os.chown(path, 65534, 65534)
    assert sync_source().commits == 1


def test_a_folder_of_clones_cannot_be_registered(source: Source, sync_source: Sync, clone: Path) -> None:
    """Somebody's token paid for what is in there."""
    source.commit()
    sync_source()
    with pytest.raises(UrlNotAllowedError, match="clones of other repositories"):
        sync_source(f"file://{clone}")


def test_progress_is_told_in_stages(source: Source, clone: Path) -> None:
    source.commit()
    told: list[tuple[str, int]] = []
    git.sync(
        parse_url(source.url, LOCAL), clone, token=None, policy=LOCAL, limits=GitLimits(),
        on_progress=lambda stage, percent: told.append((stage, percent)),
    )  # fmt: skip
    assert {"counting", "reading"} <= {stage for stage, _ in told}
    assert told[-1] == ("reading", 100)
    assert all(0 <= percent <= 100 for _, percent in told)


def test_a_local_repository_needs_no_network_policy(source: Source, clone: Path) -> None:
    source.commit()
    policy = UrlPolicy(allow_local=True)
    assert git.sync(parse_url(source.url, policy), clone, token=None, policy=policy, limits=GitLimits()).commits == 1
