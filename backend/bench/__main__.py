"""Runs all benches, or those named, and writes what they printed into docs: `make bench`."""

import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

# In this order; each a module of this package, and what its part of the page is called.
BENCHES: Final = ("http", "sql", "tasks", "paired", "load", "git_sync", "dashboards", "release")
_DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
PAGE: Final = _DOCS / "performance.md"
# What is no time stands elsewhere.
PAGES: Final = {"release": _DOCS / "release-statistics.md"}


def run(name: str) -> tuple[str, int]:
    """Run one bench in a process of its own, show what it prints, and return that and its exit code."""
    print(f"\n== python -m bench.{name}", flush=True)
    lines = []
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.{name}"], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines).rstrip(), process.wait()


def write(name: str, output: str, page: Path = PAGE) -> None:
    """Put the output of a bench between its marks on the page."""
    machine = f"{psutil.cpu_count()} CPUs, Python {platform.python_version()}"
    block = f"<!-- {name} -->\n\n```\n$ python -m bench.{name}    # {machine}\n{output}\n```\n\n<!-- /{name} -->"
    text = page.read_text()
    marked = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{page} has no place for {name}: put <!-- {name} --><!-- /{name} --> where it shall stand")
    page.write_text(marked.sub(lambda _: block, text))


def main(names: list[str]) -> int:
    """Run the benches and return 1 where one missed its goal."""
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    missed = []
    for name in names or BENCHES:
        output, code = run(name)
        write(name, output, PAGES.get(name, PAGE))
        if code:
            missed.append(name)
    print("\nWritten to docs/." + (f" Missed a goal: {', '.join(missed)}." if missed else " All goals met."))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
