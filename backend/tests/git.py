"""Real Git repositories for tests."""

import os
import subprocess
from pathlib import Path
from typing import Final

IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(directory: Path, *arguments: str, **environment: str) -> str:
    """Run git in `directory` and return what it printed."""
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env={"PATH": os.environ["PATH"], **IDENTITY, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def make_repository(directory: Path, commits: int = 1) -> Path:
    """Make a repository with `commits` commits on `main` and return its path."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--initial-branch=main")
    for number in range(commits):
        add_commit(directory, f"file_{number}.py", f"print({number})\n", f"Commit {number}")
    return directory


def add_commit(directory: Path, name: str, content: str, message: str) -> str:
    """Commit one file and return the commit's hash."""
    (directory / name).write_text(content)
    git(directory, "add", name)
    git(directory, "commit", "--quiet", "--message", message)
    return git(directory, "rev-parse", "HEAD")
