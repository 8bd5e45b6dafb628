"""Clones that were damaged, left half done, or are used twice: mended, and nobody has to look."""

import fcntl
import hashlib
import shutil
import zlib
from pathlib import Path

import pytest

from app.repositories.git import GitError, remove
from app.repositories.git_clone import locked
from tests.repositories.source import Source, Sync


@pytest.mark.parametrize("damage", ["objects", "HEAD", "packs", "config", "summary", "ref", "commit"])
def test_a_damaged_clone_is_made_anew(source: Source, sync_source: Sync, clone: Path, damage: str) -> None:
    source.commit()
    sync_source()
    sha = source.commit(b"New")
    match damage:
        case "objects":
            shutil.rmtree(clone / "objects")
        case "HEAD" | "config":
            (clone / damage).write_bytes(b"\0\xff")
        case "packs" | "commit":
            for path in (clone / "objects").rglob("*"):
                if path.is_file():
                    path.chmod(0o600)
                    path.write_bytes(b"" if damage == "packs" else b"damaged")
        case "summary":
            (clone / "commandcenter.json").write_text('{"version": 1, "statistics": {"commits": []}}')
        case "ref":
            (clone / "refs/heads/synced").write_text("damaged")
    state = sync_source()
    assert (state.last_commit_sha, state.commits) == (sha, 2)
    assert not sync_source().changed


def test_damage_is_found_where_nothing_is_new(source: Source, sync_source: Sync, clone: Path) -> None:
    source.commit()
    first = sync_source()
    shutil.rmtree(clone / "objects")
    assert sync_source().last_commit_sha == first.last_commit_sha
    assert list((clone / "objects").rglob("*"))


def test_what_a_killed_git_left_does_no_harm(source: Source, sync_source: Sync, clone: Path) -> None:
    """A lock file of a dead process would stop every later sync."""
    source.commit()
    sync_source()
    sha = source.commit(b"New")
    before = clone.stat().st_ino
    (clone.parent / "1.git.partial").mkdir()
    for name in ("HEAD.lock", "refs/heads/synced.lock", "packed-refs.lock", "shallow.lock", "objects/pack/tmp_pack_x"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).touch()
    assert sync_source().last_commit_sha == sha
    assert clone.stat().st_ino == before, "cloned anew"
    assert not list(clone.rglob("*.lock"))
    assert not list(clone.rglob("tmp_*"))
    assert sorted(path.name for path in clone.parent.iterdir()) == ["1.git", "1.git.lock"]


def test_a_clone_stays_tidy(source: Source, sync_source: Sync, clone: Path) -> None:
    """Each fetch leaves a pack or loose objects, for years."""
    source.commit()
    sync_source()
    for number in range(5000):
        content = b"blob 4\0%04d" % number
        name = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        (clone / "objects" / name[:2]).mkdir(exist_ok=True)
        (clone / "objects" / name[:2] / name[2:]).write_bytes(zlib.compress(content))
    source.commit(b"New")
    sync_source()
    assert len([path for path in (clone / "objects").rglob("*") if path.is_file()]) < 20


def test_two_syncs_of_one_clone_do_not_meet(source: Source, sync_source: Sync, clone: Path) -> None:
    source.commit()
    sync_source()
    with (clone.parent / "1.git.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(GitError, match="Another sync") as caught:
            sync_source()
        assert caught.value.retryable
        with pytest.raises(GitError, match="Another sync"):
            remove(clone)
    remove(clone)
    assert not list(clone.parent.iterdir())
    remove(clone)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no usable temporary directory"), BlockingIOError("the pipe is full")]
)
def test_what_fails_while_the_lock_is_held_is_told_as_it_is(clone: Path, error: OSError) -> None:
    """The lock's own errors are of the same kinds; taken for these, a full disk would read as somebody else's sync."""
    with pytest.raises(type(error)) as caught, locked(clone):
        raise error
    assert caught.value is error
    with locked(clone):
        pass
