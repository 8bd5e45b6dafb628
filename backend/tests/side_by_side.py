"""How `make test` spreads the tests over processes: whole files, those that take minutes first."""

from typing import Final

import pytest
from xdist.scheduler import LoadFileScheduling

# Begun first, or the last of them would run alone in the end.
LONG: Final = (
    "tests/ops/release/test_faults.py",  # Before the releases that come next on the same stack.
    "tests/ops/release/test_rehearsal.py",
    "tests/alerting_live/test_live_alerts.py",
    "tests/ops/stack/test_stack.py",
    "tests/alerts/test_mutants.py",
    "tests/integration/test_migrations.py",
    "tests/worker/test_sync_lost.py",
    "tests/worker/test_sync_outcomes.py",
    "tests/worker/test_restarts.py",
    "tests/worker/test_correlation_pools.py",
    "tests/worker/test_sync_github.py",
    "tests/worker/test_correlation_prefork.py",
    "tests/ops/containers/test_migrate.py",
    "tests/worker/test_beat.py",
    "tests/contracts/test_metrics.py",
    "tests/telemetry/test_opentelemetry.py",
    "tests/api/test_bad_input.py",
    "tests/api/test_parent.py",
)
# They share what takes long to start: a monitored system that has lived, a stack that is released to, a worker.
TOGETHER: Final = {
    "tests/contracts/test_metrics.py": "lived",
    "tests/contracts/test_runbooks.py": "lived",
    "tests/dashboards/test_live_panels.py": "lived",
    "tests/dashboards/test_logs.py": "lived",
    "tests/ops/release/test_gates.py": "lived",
    "tests/ops/stack/test_exporter.py": "lived",
    "tests/ops/release/test_faults.py": "released",
    "tests/ops/release/test_rehearsal.py": "released",
    "tests/worker/test_correlation_prefork.py": "prefork",
    "tests/worker/test_series.py": "prefork",
}


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Gives a process whole files: the tests of one build on each other."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def begin_with_the_long_ones(items: list[pytest.Item]) -> None:
    """Bring those files to the front; the rest stays in order."""

    def rank(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return LONG.index(file) if file in LONG else len(LONG)

    items.sort(key=rank)
