"""The committed dashboards are those that the code builds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dashboards import files, recording

BACKEND = Path(__file__).resolve().parents[2]


def test_the_committed_files_are_fresh() -> None:
    """Grafana loads the files, people read the code: a difference is a lie."""
    assert not files.find_stale(), "run `make dashboards` and commit"


def test_building_twice_gives_the_same() -> None:
    """A diff must show what somebody changed, and nothing else."""
    command = [sys.executable, "-c", "from dashboards import files; print(''.join(files.render().values()))"]
    runs = {
        subprocess.run(
            command, cwd=BACKEND, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_a_file_is_its_uid_and_reads_well() -> None:
    """Links and alerts name the uid; reviewers read the file."""
    for path, text in files.render().items():
        assert text.endswith("}\n" if path.suffix == ".json" else "\n")
        if path.suffix == ".json":
            content = json.loads(text)
            assert content["uid"] == path.stem
            assert json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == text


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of monitoring/ that may be spoilt."""
    shutil.copytree(files.MONITORING, tmp_path / "monitoring")
    monkeypatch.setattr(files, "MONITORING", tmp_path / "monitoring")
    return tmp_path / "monitoring"


def test_a_stale_file_is_named(copy: Path) -> None:
    """Edited by hand, missing, or left over from a dashboard that is no more."""
    folder = copy / files.FOLDER
    (folder / "golden-signals.json").write_text("{}")
    (folder / "old.json").write_text("{}")
    (copy / "recording.yml").unlink()
    stale = [files.FOLDER / "golden-signals.json", files.FOLDER / "old.json", Path("recording.yml")]
    assert files.find_stale() == stale
    assert files.write() == stale
    assert not files.find_stale()
    assert not (folder / "old.json").exists()


def test_the_command_line_tells_of_staleness(tmp_path: Path) -> None:
    """CI goes by the exit code, a person by the name."""
    shutil.copytree(BACKEND / "dashboards", tmp_path / "backend" / "dashboards")
    (tmp_path / "monitoring").mkdir()
    command = [sys.executable, "-m", "dashboards"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path / "backend",
            env={"PYTHONPATH": f"{tmp_path / 'backend'}:{BACKEND}"},
            capture_output=True,
            text=True,
            check=False,
        )

    stale = run("check")
    assert stale.returncode == 1
    assert "monitoring/grafana/dashboards/golden-signals.json" in stale.stderr
    assert run("build").returncode == 0
    fresh = run("check")
    assert (fresh.returncode, fresh.stderr) == (0, "")
    assert run().returncode == 2


def test_commandcenter_dashboards_check_passes() -> None:
    """As CI calls it."""
    command = [str(Path(sys.executable).parent / "commandcenter"), "dashboards", "check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_recording_rules_are_valid_and_loaded() -> None:
    """A rule that Prometheus refuses leaves every quantile empty; so does one that it isn't told of."""
    path = files.MONITORING / "recording.yml"
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    [group] = yaml.safe_load(path.read_text())["groups"]
    assert group["name"] == recording.GROUP
    assert [rule["record"] for rule in group["rules"]] == [rule.name for rule in recording.RULES]
    loaded = yaml.safe_load((files.MONITORING / "prometheus.yml").read_text())["rule_files"]
    assert "recording.yml" in {Path(file).name for file in loaded}
