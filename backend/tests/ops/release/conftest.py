"""A real stack that a release can be made on, started once; and a checkout on compose whose engine only listens."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ops.containers import secret_files
from ops.release import compose
from ops.release.compose import ComposeTarget
from ops.stack import layout
from tests.git import git
from tests.native_stack import BACKEND, NativeStack, running_stack
from tests.ops.release.engine import Programs
from tests.ops.release.rehearsed import NEW_SCHEMA


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository of this working copy, with the commits `old` and `new`."""
    root = BACKEND.parent
    copy = tmp_path_factory.mktemp("checkout")
    copy.chmod(0o755)
    listed = git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    [migration] = (copy / "backend" / "alembic" / "versions").glob(f"{NEW_SCHEMA}_*.py")
    content = migration.read_text()
    git(copy, "init", "--quiet", "--initial-branch=main")
    migration.unlink()
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message=old")
    git(copy, "tag", "old")
    migration.write_text(content)
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message=new")
    git(copy, "tag", "new")
    return copy


@pytest.fixture(scope="session")
def stack(checkout: Path) -> Iterator[NativeStack]:
    with running_stack(checkout / "backend") as made:
        yield made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, with secrets of its own and settings of an operator."""
    root = tmp_path / "root"
    (root / "backend" / "app").mkdir(parents=True)
    (root / "monitoring").mkdir()
    for name in ("LICENSE", ".dockerignore", "backend/requirements.lock", "backend/Dockerfile"):
        shutil.copy(layout.checkout() / name, root / name)
    (root / "backend" / "app" / "main.py").touch()
    (root / "monitoring" / "alerts.yml").touch()
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    (root / "backend" / "app" / "unfinished.py").touch()
    (root / ".env").write_text("API_PORT=28000\nCOMMANDCENTER_VERSION=0.1.0\n# by hand")
    secret_files.ensure(root / "secrets")
    monkeypatch.setattr(compose, "checkout", lambda: root)
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMMANDCENTER_DATA", "COMMANDCENTER_VERSION", "SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CORRELATION_ENABLED", raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ENGINE", "engine")
    monkeypatch.setenv("COMPOSE", "composer --ansi never")
    monkeypatch.setenv("BUILD_OPTIONS", "--network host")
    return Programs(folder)


@pytest.fixture
def compose_target(root: Path, programs: Programs) -> Iterator[ComposeTarget]:
    made = ComposeTarget(Console())
    yield made
    # Whoever may list processes reads arguments: in none of all these calls may a secret stand.
    told = json.dumps(programs.calls())
    assert not [name for name, secret in made.wanted_secrets().items() if secret in told]
    assert root.is_dir()


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all parts answer well."""
    monkeypatch.setattr(ComposeTarget, "_answers", lambda *_: {})
