"""`python -m dashboards build|check`: writes the dashboards and recording rules, or tells which are stale."""

import sys

from dashboards import files


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 fine, 1 stale, 2 usage."""
    match arguments:
        case ["build"]:
            for path in files.write():
                print(f"wrote monitoring/{path}")
            return 0
        case ["check"]:
            stale = files.find_stale()
            for path in stale:
                print(f"monitoring/{path} is stale: run `commandcenter dashboards build`", file=sys.stderr)
            return 1 if stale else 0
        case _:
            print("usage: python -m dashboards build|check", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
