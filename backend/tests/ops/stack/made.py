"""Short words for what tests of the stack ask again and again."""

from pathlib import Path

from ops.stack.layout import Layout
from ops.stack.settings import Settings


def settings_of(layout: Layout, **environment: str) -> Settings:
    """Return a stack's settings where the environment holds these and nothing else."""
    return Settings.load(layout, environment)


def mode_of(path: Path) -> int:
    """Return who may read and write a file, as chmod takes it."""
    return path.stat().st_mode & 0o777
