"""A release from plan to sign-off in ten minutes: `python -m bench.compressed_release` writes docs/reports/<date>-….

All is real but the clock: a native stack of its own, an older version under traffic, the commands as typed, the same
traffic on the newer version. A second Prometheus records each second; what it recorded is stretched by `FACTOR`, so
that four minutes last for the 48 hours of a watch, and the commands that judge are run on a clock that is ahead.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from bench import compressed_report
from bench.compressed_traffic import Traffic, database_url
from bench.stretching import HOLD_S, MINUTE_S, Clock, past, recorded
from ops.release.history import hour_after, hour_before
from ops.release.place import Releases
from ops.release.prometheus import Failed, Prometheus, Value
from ops.release.watch import CHECKPOINTS, released_at
from tests.backfill import prometheus_over, write
from tests.git import git, make_repository
from tests.grafana import dashboards, filled_in
from tests.native_stack import BACKEND, NativeStack
from tests.promql import wants

# A recorded second lasts for twelve minutes: an hour is five scrapes.
FACTOR: Final = 720
SCRAPE_S: Final = 1
HOUR_S: Final = 3600
# Two days, the rest of the hour in which a release begins, and some more.
HOURS: Final = 51
WEEK: Final = timedelta(days=7)
# Behind a checkpoint, when all of its hours can be asked for.
_SETTLED: Final = timedelta(minutes=3)
_LATER: Final = "from bench.later import run; run()"
# Beside what dashboards read.
_GATES_READ: Final = (
    "ALERTS",
    "commandcenter_db_pool_connections",
    "commandcenter_db_pool_max_connections",
    "commandcenter_observability_overhead_seconds_bucket",
    "commandcenter_observability_overhead_seconds_count",
    "http_requests_total",
    "up",
)
LATER_WORK: Final = {
    "false-positives": "compressed run: the ledger of alerts is a later piece of work; what fired is shown",
    "time-to-detect": "compressed run: the drill at true speed is a later piece of work",
}


@dataclass
class Run:
    """One compressed release: its stack, its traffic, and what was typed.

    Attributes:
        stack: whose commands are run.
        scratch: a folder of its own.
        recorder: URL of the Prometheus that records each second.
        traffic: what clients do.
        versions: commits, before and after.
        typed: each command as typed, with its exit code, seconds and output.
    """

    stack: NativeStack
    scratch: Path
    recorder: str
    traffic: Traffic
    versions: tuple[str, str]
    typed: list[compressed_report.Typed] = field(default_factory=list)

    def release(self, *arguments: str, **environment: str) -> int:
        """Run `commandcenter release …`, keep what it says, and return its exit code."""
        launcher = {"launcher": _LATER} if "LATER_S" in environment else {}
        began = time.monotonic()
        done = self.stack.run("release", *arguments, **launcher, **environment)
        took_s = time.monotonic() - began
        command = " ".join(["commandcenter release", *(f"'{each}'" if " " in each else each for each in arguments)])
        self.typed.append(compressed_report.Typed(command, done.returncode, took_s, self._said(done.stdout)))
        print(f"{took_s:6.1f} s  exit {done.returncode}  {command}", flush=True)
        if done.returncode:
            print(done.stdout + done.stderr, flush=True)
        return done.returncode

    def judged(self, at: datetime, prometheus: str, *arguments: str) -> int:
        """Run a command that judges, as of `at`, on what this Prometheus holds."""
        ahead = at - datetime.now(UTC)
        return self.release(*arguments, LATER_S=f"{ahead.total_seconds():.3f}", PROMETHEUS_PORT=_port(prometheus))

    def record(self, begin_s: float, hours: float) -> float:
        """Wait until this many stretched hours are recorded since then; return when that was."""
        end_s = begin_s + hours * HOUR_S / FACTOR
        time.sleep(max(0.0, end_s - time.time()))
        return end_s

    def keep(self, begin_s: float, end_s: float, shown: datetime, data: Path) -> int:
        """Write what was recorded between two moments as if it began at `shown`; return how many samples there were."""
        # With what stood when it began.
        found = recorded(self.recorder, names(), begin_s - HOLD_S, end_s)
        write(past(found, Clock(begin_s, shown.timestamp(), FACTOR)), data)
        return sum(len(samples) for samples in found.values())

    def _said(self, text: str) -> str:
        for place, name in ((self.stack.data, "<data>"), (self.stack.backend.parent, "<checkout>")):
            text = text.replace(str(place), name)
        return text.replace(socket.gethostname(), compressed_report.HOST)


def _port(url: str) -> str:
    return url.rsplit(":", 1)[1]


def names() -> set[str]:
    """Return the metrics that gates and dashboards read."""
    targets = [target for each in dashboards() for target in (*each.targets(), *each.annotations())]
    return {*_GATES_READ, *(name for each in targets for name in wants(filled_in(each.expression, HOUR_S)).labels)}


def took(url: str, since: datetime, until: datetime) -> dict[str, float]:
    """Return how many requests the layer itself took no longer for than each bound, in seconds as text."""
    window_s = round((until - since).total_seconds())
    name = "commandcenter_observability_overhead_seconds_bucket"
    query = f'sum by (le) (increase({name}{{service="api"}}[{window_s}s]))'
    with Prometheus(url) as prometheus:
        found = prometheus.vector(query, until.timestamp())
    if isinstance(found, Failed):
        return {}
    counts = {each.labels["le"]: each.value.number for each in found if isinstance(each.value, Value)}
    return dict(sorted(counts.items(), key=lambda each: float(each[0])))


def recording(stack: NativeStack) -> str:
    """Return the stack's own Prometheus configuration, scraping the API each second and telling no Alertmanager."""
    found: dict[str, Any] = yaml.safe_load((stack.data / "prometheus" / "prometheus.yml").read_text())
    found.pop("alerting", None)
    found["global"] |= {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"}
    for job in found["scrape_configs"]:
        if job["job_name"] == "backend":
            job |= {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
    return yaml.safe_dump(found)


def _commit(clone: Path, ref: str) -> str:
    return git(clone, "rev-parse", "--short=12", f"{ref}^{{commit}}")


@contextmanager
def started(scratch: Path, before: str) -> Iterator[Run]:
    """Bring up a stack of a clean clone, release its version `before` there, and begin with traffic and recording."""
    clone = scratch / "checkout"
    git(scratch, "clone", "--quiet", str(BACKEND.parent), str(clone))
    versions = _commit(clone, before), _commit(clone, "HEAD")
    stack = NativeStack(scratch / "data", clone / "backend")
    recorder = scratch / "recorder" / "data"
    recorder.mkdir(parents=True)
    try:
        brought_up = stack.run("up")
        if brought_up.returncode:
            sys.exit(brought_up.stdout + brought_up.stderr)
        first = stack.run("release", "apply", before, "--yes", "--without-baseline", "what there was before")
        if first.returncode:
            sys.exit(first.stdout + first.stderr)
        api = f"http://127.0.0.1:{stack.ports['API_PORT']}"
        with (
            prometheus_over(recorder, recording(stack)) as url,
            Traffic(api, database_url(stack), make_repository(scratch / "repository", 3)) as traffic,
        ):
            yield Run(stack, scratch, url, traffic, versions)
    finally:
        stack.run("down", "--data")


def release(run: Run) -> compressed_report.Facts:
    """Take a release from plan to sign-off, and return what is to be told of it."""
    data = run.scratch / "stretched" / "data"
    data.mkdir(parents=True)
    print("before …", flush=True)
    with run.traffic.errors():
        # The first scrapes of the recorder are over by then.
        first_s = time.time() + HOLD_S
        last_s = run.record(first_s, HOURS)
    run.release("plan", "HEAD")
    run.release("preflight", "HEAD")
    hour = hour_before(datetime.now(UTC))
    samples = run.keep(first_s, last_s, hour - WEEK, data)
    with prometheus_over(data) as url:
        if run.release("baseline", PROMETHEUS_PORT=_port(url)):
            sys.exit("no baseline")
    if run.release("apply", "HEAD", "--yes"):
        sys.exit("not applied")
    journal = Releases(run.stack.data).journal()
    since = released_at(journal)
    run.release("verify")
    print("after …", flush=True)
    with run.traffic.errors():
        end_s = run.record(since.timestamp(), HOURS)
    samples += run.keep(since.timestamp(), end_s, since, data)
    with prometheus_over(data) as url:
        due = [hour_after(since) + after + _SETTLED for after in CHECKPOINTS]
        for at in due:
            run.judged(at, url, "watch", "--once")
        waivers = [f"--waive={gate}={reason}" for gate, reason in LATER_WORK.items()]
        run.judged(due[-1] + timedelta(minutes=1), url, "signoff", *waivers)
        layer = took(url, since, due[-1])
    folder = Releases(run.stack.data).of(journal.release)
    return compressed_report.Facts(
        versions=run.versions,
        factor=FACTOR,
        scrape_s=SCRAPE_S,
        recorded_s=(last_s - first_s, end_s - since.timestamp()),
        shown=(hour - WEEK, since),
        samples=samples,
        layer=layer,
        asked=dict(run.traffic.answered),
        typed=run.typed,
        folder=folder,
    )


def main() -> int:
    """Write the report; 1 where the release is not signed off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD~20", help="the version that runs first (default: %(default)s)")
    chosen = parser.parse_args()
    # Who signs is this tool, and no person.
    os.environ |= {"LOGNAME": "compressed-release", "COLUMNS": "120"}
    os.environ.pop("SUDO_USER", None)
    scratch = Path(tempfile.mkdtemp(prefix="cc-"))
    # PostgreSQL's account must get in.
    scratch.chmod(0o755)
    began = time.monotonic()
    try:
        with started(scratch, chosen.before) as run:
            facts = release(run)
            took_min = (time.monotonic() - began) / MINUTE_S
            file, is_signed_off = compressed_report.write(facts, took_min)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{file.relative_to(BACKEND.parent)}, after {took_min:.1f} min: signed off: {is_signed_off}")
    return int(not is_signed_off)


if __name__ == "__main__":
    sys.exit(main())
