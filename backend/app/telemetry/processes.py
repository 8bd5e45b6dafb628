"""What the processes of one service use: CPU, memory and open files, read from /proc when a scrape asks.

The client library leaves `process_*` out once several processes share a folder. Here each process that counts in that
folder has its own series, told apart by `pid`: a sum over processes would jump whenever one ends, and a counter that
falls reads as a restart.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector


class ProcessesCollector(Collector):
    """Collects `process_*` with the label `pid`.

    Args:
        directory: PROMETHEUS_MULTIPROC_DIR; whoever has a file there is one of the service's processes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return the families, with a sample for each process that lives. pid: as many as run, and few start anew."""
        families: dict[str, Metric] = {}
        for pid in sorted(_living(self._directory)):
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    whole.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return families.values()


def _living(directory: Path) -> set[int]:
    pids = {file.stem.rpartition("_")[2] for file in directory.glob("*_*.db")}
    return {int(pid) for pid in pids if pid.isdecimal() and Path("/proc", pid).exists()}
