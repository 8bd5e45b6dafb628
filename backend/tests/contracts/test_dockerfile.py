"""The image: by the linter of Dockerfiles, and by what ours must hold."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml

from tests.system import BACKEND

FILE: Final = BACKEND / "Dockerfile"
TEXT: Final = FILE.read_text().replace("\\\n", "")
STAGES: Final = [f"FROM {stage}" for stage in re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]]


def test_the_linter_finds_nothing() -> None:
    """Each rule that is off has its reason beside it."""
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([linter, "--no-color", FILE], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lines = FILE.read_text().splitlines()
    for at, line in enumerate(lines):
        if "hadolint ignore" in line:
            assert lines[at - 1].startswith("# "), f"no reason before line {at + 1}"


def test_both_stages_stand_on_one_pinned_image() -> None:
    """What was built for one Python may not run on another."""
    bases = {stage.split()[1] for stage in STAGES}
    assert len(STAGES) == 2
    assert len(bases) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", bases.pop())


def test_dependencies_come_from_the_locks_with_hashes() -> None:
    """Another day's build must be the same, and a package that was swapped must not get in."""
    installs = re.findall(r"pip install (.*?)(?:&&|$)", TEXT, flags=re.MULTILINE)
    assert len(installs) == 3
    for options in installs:
        assert "--require-hashes --only-binary :all:" in options or "--no-deps --no-index" in options
    for lock in ("requirements.lock", "requirements-build.lock"):
        content = (BACKEND / lock).read_text()
        assert lock in TEXT
        for package in re.findall(r"^[\w.-]+(?:\[[\w,]+\])?==.*$", content, flags=re.MULTILINE):
            assert package.endswith("\\"), f"{package} has no hash"


def test_it_runs_as_nobody_in_particular() -> None:
    """By number, so that a host and Kubernetes can see that it isn't root; and it can't write its own code."""
    [user] = re.findall(r"^USER (.*)$", STAGES[1], flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    after_copies = STAGES[1].partition("COPY")[2]
    assert "chown" not in after_copies


def test_signals_arrive() -> None:
    """A shell in between would swallow them, and every stop would be a kill."""
    assert re.findall(r"^ENTRYPOINT (.*)$", STAGES[1], flags=re.MULTILINE) == ['["tini", "--"]']
    assert re.findall(r"^CMD (.*)$", STAGES[1], flags=re.MULTILINE) == ['["python", "-m", "app.serve", "api"]']
    assert re.search(r"install .*\bgit\b.*\btini\b", STAGES[1])


def test_it_tells_what_it_is() -> None:
    """By the labels that every registry shows, and by the metric commandcenter_build_info."""
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in STAGES[1]
    assert "ENV BUILD_COMMIT=$COMMIT" in STAGES[1]
    # Arguments end the cache: what comes behind is made anew for every commit.
    assert "RUN" not in STAGES[1].partition("ARG ")[2]
    compose = yaml.safe_load((BACKEND.parent / "docker-compose.prod.yml").read_text())
    assert set(compose["services"]["migrate"]["build"]["args"]) == set(
        re.findall(r"^ARG (\w+)", STAGES[1], flags=re.MULTILINE)
    )


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    """A list of what may go in: a new file with secrets in it is out by itself."""
    lines = [line for line in (BACKEND.parent / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    copied = {
        source
        for arguments in re.findall(r"^COPY (?!--from)(.*)$", TEXT, flags=re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert allowed == copied
    assert all((BACKEND.parent / path).exists() for path in allowed)
