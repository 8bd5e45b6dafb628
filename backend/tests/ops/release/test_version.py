"""A commit laid out in a folder of its own, on each Python that we run on."""

import io
import sys
import tarfile
from pathlib import Path

import pytest

from ops.release import version
from ops.release.version import Version
from ops.stack.errors import StackError
from tests.git import git

PYTHONS = [pytest.param(True, id="with a filter"), pytest.param(False, id="Python before 3.11.4")]


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a Python with tarfile's filters, or one without."""
    if not request.param:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        # It would be refused there as an argument that nobody knows.
        monkeypatch.delattr(tarfile.TarFile, "extractall")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    for name in ("backend/app/main.py", "backend/requirements.lock", "monitoring/alerts.yml"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / "backend" / "app" / "main.py").chmod(0o755)
    git(made, "init", "--quiet", "--initial-branch=main")
    return made


def _commit(repository: Path) -> str:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=any")
    return git(repository, "rev-parse", "HEAD")


@pytest.mark.usefixtures("python")
def test_a_commit_is_laid_out(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    version.extract(repository, _commit(repository), target)
    main = target / "backend" / "app" / "main.py"
    assert main.read_text() == "backend/app/main.py"
    assert main.stat().st_mode & 0o111
    assert (target / "monitoring" / "alerts.yml").exists()


@pytest.mark.usefixtures("python")
def test_a_link_out_of_the_commit_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "backend" / "app" / "out").symlink_to("/etc")
    with pytest.raises(StackError, match=r"can't be laid out: .*out"):
        version.extract(repository, _commit(repository), tmp_path / "out")


@pytest.mark.usefixtures("python")
def test_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../stray"), io.BytesIO())
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(StackError, match="stray"):
        version._unpack(written.getvalue(), target)
    assert not (tmp_path / "stray").exists()


def test_revisions_are_asked_for_once(tmp_path: Path) -> None:
    """What was laid out never changes, and to ask takes most of a second."""
    backend = tmp_path / "backend"
    backend.mkdir()
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho asked >> ../asked\necho 'aaaaaaaaaaaa -> bbbbbbbbbbbb (head), b'\n"
        "echo '<base> -> aaaaaaaaaaaa, a'\n"
    )
    python.chmod(0o755)
    made = Version("123456789abc", backend, python)
    # Of a machine that lost its power.
    (tmp_path / "revisions").touch()
    assert [version.revisions(made) for _ in range(2)] == [["bbbbbbbbbbbb", "aaaaaaaaaaaa"]] * 2
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked", "backend", "python", "revisions"]


def test_what_is_no_version_is_asked_again(tmp_path: Path) -> None:
    """Nothing is kept of an answer that was none."""
    made = Version("123456789abc", tmp_path / "backend", Path(sys.executable))
    made.backend.mkdir()
    for _ in range(2):
        with pytest.raises(StackError, match="can't be listed"):
            version.revisions(made)
    assert not (tmp_path / "revisions").exists()
