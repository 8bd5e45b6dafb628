"""A stack's folders, without a stack."""

from pathlib import Path

import pytest

from ops.stack import accounts
from ops.stack import layout as layouts
from ops.stack.layout import Layout


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root would make an account and a folder in /var/lib; only the test of just that may."""
    monkeypatch.setattr(accounts, "ensure", lambda: None)


@pytest.fixture
def layout(tmp_path: Path, no_account: None) -> Layout:  # noqa: ARG001 - asked for what it does
    """Folders of a stack on this checkout."""
    made = Layout(layouts.checkout(), tmp_path / "data")
    made.make()
    return made
