"""The git engine: brings a clone up to date with its remote, and says what is in it.

Synchronous, and touches nothing but the clone: no database, no settings. Not for URLs that `parse_url` has not allowed.
What it keeps is one bare clone with the default branch alone: no tags, no other branches, no working tree, so nothing
of a repository is ever checked out or run. Objects are not run through fsck: real, old repositories fail it, and what
it guards against are checkouts; hashes are always verified.
"""

import contextlib
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from app.repositories import git_clone
from app.repositories.git_clone import BRANCH, Summary, remove
from app.repositories.git_error import GitError
from app.repositories.git_explanations import describe, explain
from app.repositories.git_process import Git, GitExitError, GitLimits, Progress, environment, size_bytes, too_large
from app.repositories.git_remote import NO_SSH_FILES, Remote, RemoteHead, SshFiles, locate, read_head
from app.repositories.git_statistics import WEEKS, collect, parse_datetime
from app.repositories.url import RepositoryUrl, UrlNotAllowedError, UrlPolicy

__all__ = ["GitError", "GitLimits", "Progress", "RepositoryState", "remove", "sync"]

_SHA256_DIGITS: Final = 64
# Git's own thresholds are for people's repositories; here every fetch leaves objects, and nobody wants old ones back.
_GC: Final = (
    "-c",
    "gc.auto=2000",
    "-c",
    "gc.autoPackLimit=20",
    "-c",
    "gc.autoDetach=false",
    "-c",
    "gc.pruneExpire=now",
)


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """A repository as its remote had it at the sync.

    Args:
        url: where it was read; differs from what was asked for where the host redirected (a renamed repository).
        changed: whether branch or commit differ from those at this clone's last sync.
        default_branch: None where there is no commit, or HEAD is on no branch.
        last_commit_sha: the default branch's newest commit; like all of `last_…` None where there is no commit.
        last_commit_message: its first line, at most 500 characters.
        last_commit_author: the author's name.
        last_commit_at: committer date, UTC; None for a date that no calendar has.
        commits: reachable from it, merges included.
        contributors: different author addresses (with the repository's mailmap), regardless of case.
        activity: commits in each of 52 weeks (Monday to Sunday, UTC; committer date), the oldest first, the last one
            the current week.
        languages: bytes by language, the largest first.
        size_bytes: of the clone on disk after its last change.
    """

    url: str
    changed: bool
    default_branch: str | None = None
    last_commit_sha: str | None = None
    last_commit_message: str | None = None
    last_commit_author: str | None = None
    last_commit_at: datetime | None = None
    commits: int = 0
    contributors: int = 0
    activity: list[int] = field(default_factory=lambda: [0] * WEEKS)
    languages: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0


def sync(
    url: RepositoryUrl,
    directory: Path,
    *,
    token: str | None,
    policy: UrlPolicy,
    limits: GitLimits,
    ca_file: Path | None = None,
    ssh: SshFiles = NO_SSH_FILES,
    on_progress: Progress = lambda _stage, _percent: None,
) -> RepositoryState:
    """Bring the clone in `directory` up to date, and return what is in it.

    The first time it is cloned, later only what is new is fetched, and nothing where nothing is new. A damaged clone
    is made anew, once. Whatever ends the sync, an exception raised into this thread among it, ends git too and leaves
    no half-made clone.

    Args:
        url: from `parse_url`.
        directory: of the clone; it and its siblings `.lock` and `.partial` are made as needed.
        token: an access token, or `user:password`, for https.
        policy: applies to the host's addresses and to every redirect.
        limits: for this sync.
        ca_file: certificates (PEM) to trust instead of the system's.
        ssh: files for ssh.
        on_progress: called with a stage (`counting`, `compressing`, `receiving`, `resolving`, `reading`) and its
            percentage; what it raises ends the sync.

    Raises:
        GitError: the reason is for people to read.
        UrlNotAllowedError: the host's addresses or a redirect's target are not allowed.
    """
    directory = directory.absolute()
    deadline = time.monotonic() + limits.timeout_s
    _refuse_own_clones(url, directory)
    with git_clone.locked(directory) as lock, tempfile.TemporaryDirectory(prefix="git-") as scratch:
        git_clone.sweep(directory)
        try:
            remote = locate(url, policy, token, deadline, ca_file=ca_file, ssh=ssh)
            local = Git(environment("none"), Path(scratch), deadline, limits, lock, on_progress)
            connected = replace(local, variables=remote.environment(Path(scratch)))
            return _Sync(remote, directory, local, connected).run()
        except GitExitError as error:
            failure = explain(error) or GitError("Git could not read this repository; the log has its words.")
            failure.add_note(describe(error, [token or "", scratch, str(directory.parent)]))
            raise failure from None
        finally:
            git_clone.sweep(directory)


@dataclass(frozen=True, slots=True)
class _Sync:
    """One sync. `local` is git without the network and the token, `connected` with them."""

    remote: Remote
    directory: Path
    local: Git
    connected: Git

    def run(self) -> RepositoryState:
        known = git_clone.load(self.directory)
        head = read_head(self.connected, self.remote.url)
        if head is None:
            git_clone.delete(self.directory)
            return self._state(Summary(None, None, 0), changed=known is not None)
        if known is not None and known.sha == head.sha and self._has(head.sha):
            summary = replace(known, branch=head.branch)
            if summary != known:
                git_clone.save(self.directory, summary)
        else:
            summary = self._read(head)
        return self._state(summary, changed=known is None or (known.sha, known.branch) != (summary.sha, summary.branch))

    def _has(self, sha: str) -> bool:
        try:
            found = self.local.at(self.directory).output("rev-parse", BRANCH, f"{BRANCH}^{{tree}}")
        except GitExitError:
            return False
        return found.startswith(sha.encode())

    def _read(self, head: RemoteHead) -> Summary:
        if self.directory.exists():
            try:
                return self._update(self.directory, head)
            except GitExitError as error:
                # A network that fails now says nothing about the clone. Everything else may: make it anew.
                explained = explain(error)
                if explained is not None and explained.retryable:
                    raise
        partial = git_clone.create(self.local, self.directory, sha256=len(head.sha) == _SHA256_DIGITS)
        summary = self._update(partial, head)
        git_clone.install(partial, self.directory)
        return summary

    def _update(self, clone: Path, head: RemoteHead) -> Summary:
        # --update-shallow: a source that is itself a shallow clone has only part of its history.
        self.connected.at(clone).run(
            "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--no-auto-maintenance", "--update-shallow", "--", self.remote.url.url, f"+{head.ref}:{BRANCH}",
            writes_to=clone,
        )  # fmt: skip
        git = self.local.at(clone)
        with contextlib.suppress(GitExitError):  # Untidy is slower, not wrong.
            git.run(*_GC, "gc", "--auto", "--quiet")
        size = size_bytes(clone)
        if size > git.limits.max_size_bytes:
            raise too_large(git.limits)
        summary = Summary(head.branch, collect(git, BRANCH), size)
        git_clone.save(clone, summary)
        return summary

    def _state(self, summary: Summary, *, changed: bool) -> RepositoryState:
        statistics = summary.statistics
        if statistics is None:
            return RepositoryState(url=self.remote.url.url, changed=changed)
        return RepositoryState(
            url=self.remote.url.url,
            changed=changed,
            default_branch=summary.branch,
            last_commit_sha=statistics.commit_sha,
            last_commit_message=statistics.message,
            last_commit_author=statistics.author,
            last_commit_at=parse_datetime(statistics.committed_at),
            commits=statistics.commits,
            contributors=statistics.contributors,
            activity=statistics.activity(time.time()),
            languages=dict(statistics.languages),
            size_bytes=summary.size_bytes,
        )


def _refuse_own_clones(url: RepositoryUrl, directory: Path) -> None:
    """Refuse a local URL that names another repository's clone: its owner gave a token for it, this one did not."""
    if url.scheme == "file":
        source = Path(unquote(url.url.removeprefix("file://"), errors="surrogateescape")).resolve()
        if source.is_relative_to(directory.parent.resolve()):
            raise UrlNotAllowedError("This folder holds the clones of other repositories, which cannot be registered.")
