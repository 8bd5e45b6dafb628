"""What the tests of the git engine share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.repositories.git import GitLimits, RepositoryState, sync
from app.repositories.url import UrlPolicy, parse_url
from tests.repositories.source import Source

LOCAL = UrlPolicy(allow_local=True, allow_private_addresses=True)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty repository."""
    return Source.create(tmp_path / "host" / "owner" / "name.git")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Where the clone lies, or will."""
    return tmp_path / "clones" / "1.git"


@pytest.fixture
def sync_source(source: Source, clone: Path) -> Callable[..., RepositoryState]:
    """Syncs `source` into `clone`."""

    def run(url: str = source.url, limits: GitLimits | None = None, token: str | None = None) -> RepositoryState:
        return sync(parse_url(url, LOCAL), clone, token=token, policy=LOCAL, limits=limits or GitLimits(timeout_s=30))

    return run
