"""What a service loads at its start, which is most of the time that a start takes: nothing that only others need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import BACKEND, SECRET_KEY, clean_environment

# Up to where the service would begin its work. What it has loaded by then, and by its first task.
START = {
    "api": "from app import main; main.create_app()",
    "worker": """
from app import serve, worker
worker.celery.start = lambda _: worker.celery.loader.init_worker()
assert serve.main(["worker"]) == 0
from app.database import worker_database
worker_database()
""",
    "beat": """
from app import serve, worker
worker.celery.start = lambda _: (worker.celery.loader.init_worker(), worker.celery.finalize())
assert serve.main(["beat"]) == 0
""",
    "migration": "from alembic.config import main; main(['upgrade', 'head', '--sql'])",
}
OURS = {"api": "app.main", "worker": "app.repositories.tasks", "beat": "app.worker", "migration": "app.jobs.models"}
NEVER = {
    "api": {"psycopg"},
    "worker": {"asyncpg", "fastapi"},
    "beat": {"app.repositories", "asyncpg", "fastapi", "httpx", "psycopg", "sqlalchemy.orm"},
    "migration": {"asyncpg", "celery", "fastapi", "httpx", "psycopg", "redis", "structlog"},
}


@pytest.mark.parametrize("service", START)
def test_a_service_loads_nothing_that_only_others_need(service: str, tmp_path: Path) -> None:
    """Each of these takes tenths of a second of a slow machine, and megabytes of each process."""
    environment = {
        **clean_environment(),
        "ENVIRONMENT": "test",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": SECRET_KEY,
        "BEAT_SCHEDULE_FILE": str(tmp_path / "schedule"),
    }
    told = "\nimport json, sys\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", START[service] + told],
        cwd=BACKEND,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(json.loads(ended.stderr.splitlines()[-1]))
    assert OURS[service] in loaded
    assert not loaded & NEVER[service]
