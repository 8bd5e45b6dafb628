"""Which language a file is in, by its name alone.

Languages, their kinds and their extensions are GitHub Linguist's, out of the `computer-languages` package; contents
are not looked at. Programming and markup languages count; data and prose (JSON, YAML, Markdown) do not, nor does what
is vendored, generated or built.
"""

import functools
import importlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

# Of several languages with one extension, the repository's other files decide; where they do not, the first one here.
_COMMON: Final = (
    "C", "C++", "C#", "Python", "TypeScript", "JavaScript", "Rust", "Go", "PHP", "Perl", "HTML", "Elixir", "R",
    "Objective-C", "OCaml", "Scala", "Shell", "Fortran", "F#", "D", "Common Lisp", "Clojure", "Verilog", "Assembly",
    "GDScript", "Scheme", "GLSL", "TeX", "Puppet", "Erlang",
)  # fmt: skip

# Shared with a data or prose format, and yet nearly always code. Of the others (`.md`, `.mod`, `.spec`) the format is
# more frequent.
_CODE_ALL_THE_SAME: Final = {"mm", "mojo", "odin", "pm", "rs", "sol", "star", "ts", "tsx", "typ", "yy"}

_FILE_NAMES: Final = {
    "cmakelists.txt": "CMake",
    "containerfile": "Dockerfile",
    "dockerfile": "Dockerfile",
    "gemfile": "Ruby",
    "jenkinsfile": "Groovy",
    "makefile": "Makefile",
    "rakefile": "Ruby",
    "vagrantfile": "Ruby",
}

_NOT_OURS = re.compile(
    r"(^|/)(node_modules|bower_components|vendor|third[_-]party|dist|\.?venv|site-packages|pods|godeps|\.yarn)/"
    r"|[.-]min\.(js|css)$|\.bundle\.js$|_pb2(_grpc)?\.pyi?$|\.pb\.go$",
    re.IGNORECASE,
)


class LanguageCounter:
    """Sums the bytes of files by language. Holds one number for each known extension, however many files there are."""

    def __init__(self) -> None:
        self._sizes_bytes: Counter[tuple[str, ...]] = Counter()

    def add(self, path: str, size_bytes: int) -> None:
        """Count one file; one in no known language counts nothing."""
        candidates = _candidates(path.rpartition("/")[2].lower())
        if candidates and not _NOT_OURS.search(path):
            self._sizes_bytes[candidates] += size_bytes

    def result(self) -> dict[str, int]:
        """Return bytes by language, the largest first."""
        certain: Counter[str] = Counter()
        for candidates, size in self._sizes_bytes.items():
            if len(candidates) == 1:
                certain[candidates[0]] += size
        total = Counter(certain)
        for candidates, size in self._sizes_bytes.items():
            if len(candidates) > 1:
                # `max` takes the first of equals, and candidates are in the order of preference.
                total[max(candidates, key=lambda name: certain[name])] += size
        return {name: size for name, size in total.most_common() if size > 0}


def _candidates(file_name: str) -> tuple[str, ...]:
    if known := _FILE_NAMES.get(file_name):
        return (known,)
    _, *suffixes = file_name.split(".")
    table = _extensions()
    for extension in (".".join(suffixes[-2:]), suffixes[-1] if suffixes else ""):
        if extension in table:
            return table[extension]
    return ()


@functools.cache
def _extensions() -> Mapping[str, tuple[str, ...]]:
    # The package replaces its own module with a dictionary. Loaded on first use: the API process never needs it.
    data: Mapping[str, Mapping[str, Any]] = importlib.import_module("computer_languages")  # type: ignore[assignment]
    counted: dict[str, list[str]] = {}
    others: set[str] = set()
    for name, language in data.items():
        for extension in language.get("extensions", ()):
            key = extension.removeprefix(".").lower()
            if language.get("type") in {"programming", "markup"}:
                counted.setdefault(key, []).append(name)
            else:
                others.add(key)
    table = {}
    for extension, names in counted.items():
        names.sort(key=lambda name: (_COMMON.index(name) if name in _COMMON else len(_COMMON), name))
        if extension not in others or extension in _CODE_ALL_THE_SAME:
            table[extension] = tuple(names)
    # The data knows only the dialects, which nothing in a name tells apart.
    table["sql"] = ("SQL",)
    return table
