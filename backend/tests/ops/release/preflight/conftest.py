"""A system on which all is well.

The compose target as it is, over an engine that only listens and a database that answers as told; promtool, amtool,
squawk, Git and Prometheus are real.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from rich.console import Console

from ops.release.compose import ComposeTarget
from ops.stack import receivers
from ops.stack.layout import checkout
from tests.backfill import prometheus_with
from tests.git import git
from tests.ops.release.engine import Programs
from tests.ops.release.preflight.asked import NEW, OLD, Database, give_disk


@pytest.fixture(scope="module")
def prometheus_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with prometheus_with({}, tmp_path_factory.mktemp("prometheus")) as url:
        port = urlsplit(url).port
        assert port
        yield port


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(ComposeTarget, "connect", lambda *_: database)
    return database


@pytest.fixture
def monitoring(root: Path) -> Path:
    """The checkout's `monitoring`, as it is shipped; and Alertmanager's file, as `alerts config` makes it."""
    unread = shutil.ignore_patterns("grafana", "tests")
    shutil.copytree(checkout() / "monitoring", root / "monitoring", ignore=unread, dirs_exist_ok=True)
    git(root, "add", "monitoring")
    git(root, "commit", "--quiet", "--message=monitoring")
    folder = root / "secrets" / "alertmanager" / "receivers"
    folder.mkdir(parents=True)
    (folder / "webhook_url").write_text("https://example.org/hook")
    template = yaml.safe_load((root / "monitoring" / "alertmanager.yml").read_text())
    made = receivers.fill_in(template, folder, seen_as=receivers.MOUNTED, url_files=True)
    assert "url_file" in str(made)
    (folder.parent / "alertmanager.yml").write_text(yaml.safe_dump(made))
    return root / "monitoring"


@pytest.fixture
def target(
    monitoring: Path,  # noqa: ARG001 (as the next but one: what the target is made on)
    programs: Programs,
    database: Database,  # noqa: ARG001
    prometheus_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> ComposeTarget:
    """A system on which all is well."""
    monkeypatch.setattr(ComposeTarget, "_answers", lambda *_: {"backend": "", "redis": ""})
    monkeypatch.setenv("PROMETHEUS_PORT", str(prometheus_port))
    programs.answer("history", out=f"{OLD} -> {NEW} (head), x\n<base> -> {OLD}, y\n")
    give_disk(programs, 10**15)
    return ComposeTarget(Console(quiet=True))
