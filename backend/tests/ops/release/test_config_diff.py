"""What a release changes beside code."""

from pathlib import Path

from ops.release.config_diff import config_diff
from tests.git import git

RULE = """groups:
  - name: g
    rules:
      - alert: HighErrorRate
        expr: errors > {bound}
        for: 5m
        annotations: {{summary: "{bound}"}}
"""


def _commit(root: Path, bound: str, settings: str) -> str:
    (root / "monitoring").mkdir(exist_ok=True)
    (root / "monitoring" / "alerts.yml").write_text(RULE.format(bound=bound))
    (root / ".env.example").write_text(settings)
    (root / "code.py").write_text(bound)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=x")
    return git(root, "rev-parse", "--short=12", "HEAD").strip()


def test_what_an_operator_must_know_is_told(tmp_path: Path) -> None:
    """A threshold that was halved, and a setting that is new, are seen before they are felt."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    old = _commit(tmp_path, "0.05", "KEPT=1\nTURNED=1\nGONE=1\n")
    new = _commit(tmp_path, "0.01", "KEPT=1\nTURNED=2\nBORN=1\n")
    found = config_diff(tmp_path, old, new)
    assert found is not None
    assert found["settings"] == {"added": ["BORN"], "removed": ["GONE"], "changed": ["TURNED"]}
    assert [line.split() for line in found["alerts"]] == [
        ["-", "expr:", "errors", ">", "0.05"],
        ["+", "expr:", "errors", ">", "0.01"],
    ]
    told = "\n".join(found["files"])
    assert "monitoring/alerts.yml" in told
    assert "code.py" not in told
    assert config_diff(tmp_path, new, new) == {
        "files": [], "settings": {"added": [], "removed": [], "changed": []}, "alerts": [],
    }  # fmt: skip
    assert config_diff(tmp_path, "0.1.0", new) is None
