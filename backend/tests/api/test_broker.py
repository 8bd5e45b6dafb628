"""Where tasks are sent to."""

import pytest

from app.broker import make_celery


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_RESULT_BACKEND"])
def test_a_shell_cannot_send_tasks_elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Celery believes its own variables before what it is told."""
    monkeypatch.setenv(name, "redis://elsewhere:6379/9")
    app = make_celery("redis://here:6379/0")
    try:
        found = (app.conf.broker_url, app.conf.broker_read_url, app.conf.result_backend)
        assert set(found) == {"redis://here:6379/0"}
    finally:
        app.close()
