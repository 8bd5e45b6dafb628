"""How long a sync of 10,000 commits takes, and how much memory: `python -m bench.git_sync`.

Makes a repository (12 authors, 400 files, 10,000 commits over a year, every tenth a merge), then syncs it as a worker
would, each time in a fresh process: the first time, again with nothing new, and again with one new commit. Prints the
median of each, and the peaks of resident memory: of the process, of its largest git, and of all together.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

COMMITS: Final = 10_000
FILES: Final = 400
AUTHORS: Final = 12
RUNS: Final = 5
# The duty.
FIRST_S: Final = 5.0
LATER_S: Final = 0.5
MEMORY_MB: Final = 150
YEAR_S: Final = 365 * 24 * 3600

# What one fresh process does; a string, so that nothing of this one is in its memory.
PROGRAM: Final = """
import json, resource, sys, time
from pathlib import Path
from app.repositories.git import GitLimits, sync
from app.repositories.url import UrlPolicy, parse_url

policy = UrlPolicy(allow_local=True)
started = time.perf_counter()
state = sync(parse_url(sys.argv[1], policy), Path(sys.argv[2]), token=None, policy=policy, limits=GitLimits())
took_s = time.perf_counter() - started
peaks_kb = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([took_s, *peaks_kb, state.commits, state.contributors, sum(state.activity), state.changed]))
"""


def make_repository(path: Path) -> None:
    """Write the repository with one `git fast-import`."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)  # noqa: S607
    chance = random.Random(1)  # noqa: S311 - the same repository every time
    start_s = int(time.time()) - YEAR_S
    suffixes = ("py", "ts", "go", "sql", "md")
    words = [f"word{number}" for number in range(2000)]
    with subprocess.Popen(["git", "-C", str(path), "fast-import", "--quiet"], stdin=subprocess.PIPE) as importer:  # noqa: S607
        if importer.stdin is None:
            raise RuntimeError("no pipe to git")
        for number in range(1, COMMITS + 1):
            author = chance.randrange(AUTHORS)
            when_s = start_s + number * YEAR_S // (COMMITS + 1)
            message = " ".join(chance.choices(words, k=12)).encode()
            name = f"Author {author} <author{author}@example.com> {when_s} +0000"
            commit = f"commit refs/heads/main\nmark :{number}\nauthor {name}\ncommitter {name}\n".encode()
            commit += b"data %d\n%s\n" % (len(message), message)
            if number > 2 and number % 10 == 0:  # noqa: PLR2004 - a merge needs two before it
                commit += b"from :%d\nmerge :%d\n" % (number - 1, number - 2)
            for _ in range(2):
                file = chance.randrange(FILES)
                content = "\n".join(" ".join(chance.choices(words, k=8)) for _ in range(40)).encode()
                folder = f"src/part{file % 20}/file{file}.{suffixes[file % len(suffixes)]}"
                commit += f"M 100644 inline {folder}\n".encode() + b"data %d\n%s\n" % (len(content), content)
            importer.stdin.write(commit + b"\n")
        importer.stdin.close()
        if importer.wait() != 0:
            raise RuntimeError("git fast-import failed")


def add_commit(path: Path) -> None:
    """Put one commit on top."""
    name = f"Author 0 <author0@example.com> {int(time.time())} +0000"
    data = (
        f"commit refs/heads/main\nauthor {name}\ncommitter {name}\ndata 3\nnew\n"
        f"from refs/heads/main^0\nM 100644 inline new.py\ndata 10\n{time.time_ns() % 10**10:010}\n"
    )
    subprocess.run(["git", "-C", str(path), "fast-import", "--quiet"], input=data.encode(), check=True)  # noqa: S607


def sync_once(source: Path, clone: Path) -> list[float]:
    """Return the seconds and the peaks of the process and of its largest git in kB, then what the sync found."""
    command = [sys.executable, "-c", PROGRAM, f"file://{source}", str(clone)]
    done = subprocess.run(command, check=True, capture_output=True)
    found: list[float] = json.loads(done.stdout)
    return found


def sample_memory_mb(source: Path, clone: Path) -> float:
    """Return the largest sum over a sync's process and all of its gits, shared pages counted once, every 5 ms.

    For a local repository that includes the git that serves it.
    """
    command = [sys.executable, "-c", PROGRAM, f"file://{source}", str(clone)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            with contextlib.suppress(psutil.Error):
                for each in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += each.memory_full_info().pss
            peak = max(peak, total)
            time.sleep(0.005)
    return peak / 1024**2


def main() -> int:
    """Measure and print; return 1 where a sync took longer, or more memory, than it may."""
    rows: dict[str, list[list[float]]] = {"first": [], "nothing new": [], "one new commit": []}
    together_mb: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, clone = Path(folder) / "source.git", Path(folder) / "clones" / "memory.git"
        make_repository(source)
        for name, measured in rows.items():
            if name == "one new commit":
                add_commit(source)
            together_mb[name] = sample_memory_mb(source, clone)
            for run in range(RUNS):
                if name == "one new commit":
                    add_commit(source)
                measured.append(sync_once(source, clone.with_name(f"{0 if name == 'one new commit' else run}.git")))
    print(f"{COMMITS} commits, {RUNS} runs each, {os.cpu_count()} CPUs")
    print(f"{'sync':16}{'median s':>10}{'worst s':>10}{'process MB':>12}{'largest git MB':>16}{'all together MB':>17}")
    for name, measured in rows.items():
        seconds = [row[0] for row in measured]
        own_mb, git_mb = (max(row[column] for row in measured) / 1024 for column in (1, 2))
        print(
            f"{name:16}{statistics.median(seconds):10.3f}{max(seconds):10.3f}"
            f"{own_mb:12.0f}{git_mb:16.0f}{together_mb[name]:17.0f}"
        )
    commits, contributors, active, changed = rows["one new commit"][-1][3:]
    print(
        f"found at last: {commits} commits, {active} of them in 52 weeks, {contributors} contributors, new: {changed}"
    )
    slowest = {name: max(row[0] for row in measured) for name, measured in rows.items()}
    later = max(slowest["nothing new"], slowest["one new commit"])
    return int(slowest["first"] > FIRST_S or later > LATER_S or max(together_mb.values()) > MEMORY_MB)


if __name__ == "__main__":
    sys.exit(main())
