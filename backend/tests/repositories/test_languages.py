import pytest

from app.repositories.languages import LanguageCounter


def count(files: dict[str, int]) -> dict[str, int]:
    counter = LanguageCounter()
    for path, size in files.items():
        counter.add(path, size)
    return counter.result()


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("app/main.py", "Python"), ("a.pyi", "Python"), ("src/x.ts", "TypeScript"), ("x.tsx", "TSX"),
        ("x.mjs", "JavaScript"), ("X.RS", "Rust"), ("a/b/x.go", "Go"), ("x.java", "Java"), ("x.kt", "Kotlin"),
        ("x.cs", "C#"), ("x.rb", "Ruby"), ("x.php", "PHP"), ("x.swift", "Swift"), ("x.h", "C"), ("x.hpp", "C++"),
        ("x.sh", "Shell"), ("x.sql", "SQL"), ("x.R", "R"), ("x.pl", "Perl"), ("x.m", "Objective-C"),
        ("x.html", "HTML"), ("x.css", "CSS"), ("x.vue", "Vue"), ("x.blade.php", "Blade"),
        ("Dockerfile", "Dockerfile"), ("deploy/Makefile", "Makefile"), ("x.ex", "Elixir"), ("x.tf", "HCL"),
        ("x.ml", "OCaml"), ("x.scala", "Scala"), ("x.sol", "Solidity"), ("x.v", "Verilog"),
    ],
)  # fmt: skip
def test_a_file_is_in_the_language_people_expect(path: str, language: str) -> None:
    """And under the name that GitHub gives it."""
    assert count({path: 7}) == {language: 7}


@pytest.mark.parametrize(
    "path",
    [
        "README.md", "package.json", "package-lock.json", "poetry.lock", "go.mod", "go.sum", "x.yaml", "x.toml",
        "x.svg", "x.png", "LICENSE", "py", ".py/x", "node_modules/a/x.js", "web/vendor/x.php", "x.min.js", "api_pb2.py",
        "x.spec", "", ".", "x.", "..", "x.unknown",
    ],
)  # fmt: skip
def test_data_prose_and_what_others_wrote_do_not_count(path: str) -> None:
    """A lock file of a megabyte is not what a team's repository is written in."""
    assert count({path: 7}) == {}


def test_an_ambiguous_extension_goes_with_the_rest_of_the_repository() -> None:
    """Nobody puts headers of C into a repository of C++."""
    assert count({"x.h": 5, "x.cpp": 10}) == {"C++": 15}
    assert count({"x.h": 5, "x.mm": 3, "x.c": 10}) == {"C": 15, "Objective-C++": 3}
    assert count({"x.m": 5, "x.matlab": 3}) == {"MATLAB": 8}


def test_the_largest_language_comes_first() -> None:
    assert list(count({"x.py": 1, "x.go": 3, "x.rs": 2, "empty.c": 0})) == ["Go", "Rust", "Python"]
