"""What a sync found out about a repository, in a few lines of a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from ops.trace import text as say

_BARS: Final = "▁▂▃▄▅▆▇█"
_MAX_LANGUAGES: Final = 5
# What would round to 0 %.
_SMALLEST_SHARE: Final = 0.005


def sparkline(values: Sequence[int]) -> str:
    """Return a bar for each value, the tallest for the largest; a dot for none at all."""
    top = max(values, default=0)
    if top <= 0:
        return "·" * len(values)
    steps = len(_BARS) - 1
    return "".join("·" if value <= 0 else _BARS[round(min(value, top) / top * steps)] for value in values)


def shares(sizes: Mapping[str, int]) -> str:
    """Return the largest languages with their share: `Python 91 %, Shell 9 %`."""
    total = sum(sizes.values())
    if total <= 0:
        return "none found"
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    told = [
        f"{name} {100 * size_bytes / total:.0f} %"
        for name, size_bytes in largest[:_MAX_LANGUAGES]
        if size_bytes / total >= _SMALLEST_SHARE
    ]
    rest = len(largest) - len(told)
    return ", ".join(told) + (f" and {rest} more" if rest else "")


def portrait(repository: Mapping[str, Any]) -> Table:
    """Return the repository as rows of name and value. Commit messages and names are strangers' text."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    commit = str(repository.get("last_commit_sha") or "")[:10]
    subject = say.one_line(str(repository.get("last_commit_message") or "").partition("\n")[0], 100)
    author = say.one_line(str(repository.get("last_commit_author") or "unknown"), 60)
    activity = [value for value in repository.get("activity") or [] if isinstance(value, int)]
    rows = {
        "repository": say.one_line(f"{repository.get('full_name')}  {repository.get('url')}"),
        "branch": say.one_line(str(repository.get("default_branch") or "none yet")),
        "last commit": say.one_line(f"{commit}  {subject}") if commit else "none yet",
        "by": say.one_line(f"{author}, {repository.get('last_commit_at')}") if commit else "",
        "languages": say.one_line(shares(repository.get("languages") or {})),
        "contributors": say.one_line(f"{repository.get('contributors')}"),
        "commits in all": say.one_line(f"{repository.get('commits')}") if commit else "",
        "commits": f"{sparkline(activity)}  {sum(activity)} in {len(activity)} weeks" if activity else "none yet",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value, "bold" if name == "repository" else "none"))
    return table
