"""Repositories to sync from: real ones, made with git."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.repositories.git import RepositoryState

Sync = Callable[..., RepositoryState]


@dataclass(frozen=True)
class Source:
    """A bare repository in `path`."""

    path: Path

    @classmethod
    def create(cls, path: Path, *options: str) -> "Source":
        """Return a fresh, empty repository whose default branch is `main`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", *options, str(path)], check=True)
        return cls(path)

    @property
    def url(self) -> str:
        """Its URL on this machine."""
        return f"file://{self.path}"

    def git(self, *arguments: str, data: bytes = b"") -> str:
        """Run git in it, and return what it prints."""
        variables = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_DIR": str(self.path),
        }
        done = subprocess.run(["git", *arguments], input=data, capture_output=True, env=variables, check=True)
        return done.stdout.decode("utf-8", "replace").strip()

    def commit(
        self,
        message: bytes = b"A commit",
        *,
        files: dict[bytes, bytes] | None = None,
        author: bytes = b"Ada <ada@example.com>",
        when: bytes = b"1700000000 +0000",
        parents: list[str] | None = None,
        branch: str = "main",
        headers: bytes = b"",
        modes: dict[bytes, bytes] | None = None,
    ) -> str:
        """Write one commit with exactly these bytes onto `branch`, and return its ID."""
        tree = b""
        for path, content in (files if files is not None else {b"a.py": b"x = 1\n"}).items():
            mode = (modes or {}).get(path, b"100644")
            if mode == b"160000":  # A submodule: the content is its commit.
                tree += mode + b" commit " + content + b"\t" + path + b"\0"
            else:
                blob = self.git("hash-object", "-w", "--stdin", data=content)
                tree += mode + b" blob " + blob.encode() + b"\t" + path + b"\0"
        tree_id = self.git("mktree", "-z", data=tree)
        if parents is None:
            tip = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
            parents = [tip] if tip else []
        raw = b"tree " + tree_id.encode() + b"\n"
        raw += b"".join(b"parent " + parent.encode() + b"\n" for parent in parents)
        raw += b"author " + author + b" " + when + b"\ncommitter " + author + b" " + when + b"\n" + headers + b"\n"
        commit = self.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", data=raw + message)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit
