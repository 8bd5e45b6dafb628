"""The files that Prometheus and Alertmanager are to run with: where they lie, and what their own tools say of them."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ops.alerting.alertmanager import for_amtool
from ops.release.findings import Finding, judged
from ops.release.target import Target
from ops.stack import receivers
from ops.stack.monitoring import rule_files
from ops.stack.programs import find


def alertmanager_file(target: Target) -> Path:
    """Return what Alertmanager runs with; what that is made of, where it is not made yet."""
    file = target.alertmanager_file
    return file if file.exists() else target.checkout / "monitoring" / "alertmanager.yml"


def check(target: Target) -> Iterator[Finding]:
    """Let promtool and amtool say whether these files are valid.

    Raises:
        StackError: prometheus.yml can't be read.
    """
    monitoring = target.checkout / "monitoring"
    # Its own paths hold in its container only; `syntax-only` looks at no file it names.
    config = str(monitoring / "prometheus.yml")
    yield _asked("Prometheus's configuration", "promtool", "check", "config", "--syntax-only", config)
    yield _alertmanager(target)
    files = rule_files(monitoring)
    if not files:
        yield Finding("rules", "failed", "prometheus.yml loads none", "valid", "Its list is rule_files.")
    for file in files:
        yield _asked(f"rules, {file.name}", "promtool", "check", "rules", "--lint=all", str(file))


def _alertmanager(target: Target) -> Finding:
    name, file = "Alertmanager's configuration", target.alertmanager_file
    if not file.exists():
        made = f"commandcenter alerts config {file.parent / 'receivers'} > {file}"
        return Finding(name, "failed", f"{file} is not there", "valid", f"Make it: {made} (docs/production.md)")
    program = find("amtool")
    if program is None or receivers.knows_url_files(program):
        return _asked(name, "amtool", "check-config", str(file))
    # Containers have a newer Alertmanager than this host has tools: an old one knows no `url_file` of a webhook.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_text(for_amtool(file.read_text(errors="replace"), program))
        return _asked(name, "amtool", "check-config", str(copy), shown=str(file))


def _asked(name: str, tool: str, *arguments: str, shown: str = "") -> Finding:
    """Return what a tool says of the file that is its last argument, called `shown` where that is a copy."""
    program = find(tool)
    if program is None:
        return Finding(name, "inconclusive", f"{tool} is not installed", "checked", "make packages")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    *options, file = arguments
    said = (done.stdout + done.stderr).replace(file, shown or file).split()
    return judged(
        name,
        well=done.returncode == 0,
        value="valid" if done.returncode == 0 else " ".join(said)[-400:],
        bound="valid",
        advice=f"{tool} {' '.join(options)} {shown or file}",
    )
