"""CPU, memory and open files of a service that runs as several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.telemetry.exposition import MULTIPROC_VARIABLE, render
from app.telemetry.processes import ProcessesCollector
from tests.system import eventually


def registry_of(directory: Path) -> CollectorRegistry:
    """Return a registry with nothing but the collector."""
    registry = CollectorRegistry()
    registry.register(ProcessesCollector(directory))
    return registry


def test_each_living_process_has_its_own_series(tmp_path: Path) -> None:
    """A sum would fall when a child ends, and `rate` would take that for a restart of all."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / f"counter_{other.pid}.db").touch()
        (tmp_path / f"gauge_livesum_{os.getpid()}.db").touch()
        (tmp_path / "counter_999999999.db").touch()
        registry = registry_of(tmp_path)
        eventually(lambda: registry.get_sample_value("process_resident_memory_bytes", {"pid": str(other.pid)}))
        found = {sample.labels["pid"] for family in registry.collect() for sample in family.samples}
        assert found == {str(os.getpid()), str(other.pid)}
        assert registry.get_sample_value("process_cpu_seconds_total", {"pid": str(os.getpid())})
        assert registry.get_sample_value("process_open_fds", {"pid": str(os.getpid())})
        assert other.stdin
        other.stdin.close()
        other.wait()
    found = {sample.labels["pid"] for family in registry.collect() for sample in family.samples}
    assert found == {str(os.getpid())}


def test_a_shared_folder_does_not_cost_the_process_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library leaves them out there; the dashboards of CPU and memory would be empty."""
    monkeypatch.setenv(MULTIPROC_VARIABLE, str(tmp_path))
    (tmp_path / f"histogram_{os.getpid()}.db").write_bytes(b"\0" * 1024)
    body, _ = render("text/plain")
    assert f'process_resident_memory_bytes{{pid="{os.getpid()}"}}' in body.decode()
