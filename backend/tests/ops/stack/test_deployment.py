"""Which code a stack runs: the checkout's, or a release's, with what a rollback switched."""

from dataclasses import replace
from pathlib import Path

import pytest

from ops.stack import accounts, deployment, parts
from ops.stack import layout as layouts
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.settings import Settings


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    layout = Layout(layouts.checkout(), tmp_path / "data")
    layout.make()
    return layout


def release(layout: Layout) -> deployment.Deployment:
    """Deploy code that lies elsewhere."""
    backend = layout.data / "versions" / "abc" / "backend"
    (backend / "app").mkdir(parents=True)
    return replace(deployment.load(layout), commit="abc", backend=backend)


def test_without_a_release_the_checkout_runs(layout: Layout) -> None:
    found = deployment.load(layout)
    assert (found.backend, found.is_release) == (layout.backend, False)


def test_a_release_is_what_runs_from_then_on(layout: Layout) -> None:
    """`up` after a reboot must not bring up whatever is checked out."""
    made = release(layout)
    deployment.save(layout, made)
    settings = Settings.load(layout, {})
    assert settings.deployment == replace(made, is_release=True)
    environment = settings.for_app()
    assert (environment["PYTHONPATH"], environment["BUILD_COMMIT"]) == (str(made.backend), "abc")
    deployment.forget(layout)
    assert not deployment.load(layout).is_release


def test_a_rollbacks_switches_go_before_everything(layout: Layout) -> None:
    """Else the next `up` would undo it."""
    deployment.save(
        layout,
        replace(release(layout), switches={"CORRELATION_ENABLED": "false"}, stopped=("postgres-exporter",)),
    )
    settings = Settings.load(layout, {"CORRELATION_ENABLED": "true"})
    assert settings["CORRELATION_ENABLED"] == "false"
    stack = parts.plan(settings)
    assert "postgres-exporter" not in (*stack.names, *stack.missing)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"commit": 1}', '{"commit": "a", "backend": "b"}'])
def test_a_broken_note_is_said(layout: Layout, text: str) -> None:
    (layout.data / "deployment.json").write_text(text)
    with pytest.raises(StackError, match="can't be read") as caught:
        deployment.load(layout)
    assert "Delete it" in caught.value.way_out


def test_code_that_is_gone_is_said(layout: Layout) -> None:
    """A worker that can't import its code would only say so in its log."""
    made = release(layout)
    deployment.save(layout, made)
    (made.backend / "app").rmdir()
    with pytest.raises(StackError, match="is gone"):
        deployment.load(layout)
