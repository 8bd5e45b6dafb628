"""An exporter is well that says of itself that it reaches PostgreSQL: on containers by the same word as beside them."""

from collections.abc import Callable

import httpx
import pytest

from ops.release import compose_parts
from ops.release.compose_parts import EXPORTER, OTHERS, OWN, PORTS
from ops.release.containers import Container
from ops.stack import health, loopback
from ops.stack.layout import Layout
from tests.ops.stack.made import settings_of

DEPLOYED = {"commit": "abc", "switches": {}, "stopped": []}
HELD = {name: [Container("commandcenter:abc", {}, is_running=True)] for name in (*OWN, EXPORTER, *OTHERS)}
IS_WELL = "# TYPE pg_up gauge\npg_up 1\n"

Answer = Callable[[dict[str, str]], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Let parts answer so, by the variable of their port; the others with nothing."""

    def let(texts: dict[str, str]) -> None:
        by_url = {f"http://127.0.0.1:{PORTS[port]}/metrics": text for port, text in texts.items()}
        monkeypatch.setattr(loopback, "get", lambda url, *_, **__: httpx.Response(200, text=by_url.get(url, "")))

    return let


def _on_compose() -> dict[str, str]:
    found = compose_parts.answers(PORTS, "", DEPLOYED, HELD)
    return {name: problem for name, problem in found.items() if problem}


@pytest.mark.parametrize(
    ("text", "is_well"),
    [
        (IS_WELL, True),
        ('pg_up{server="db:5432"} 1\n', True),
        ("pg_up 0\n", False),
        ('pg_up{server="db:5432"} 0\n', False),
        ("pg_up_since 1\npg_up 0\n", False),
        ("pg_exporter_last_scrape_error 1\n", False),
        ("", False),
    ],
)
@pytest.mark.usefixtures("no_account")
def test_an_exporter_is_well_that_says_so(answer: Answer, layout: Layout, text: str, is_well: bool) -> None:
    """One that says nothing of the database reaches none, and no alert of ours would ever fire."""
    answer({"POSTGRES_EXPORTER_PORT": text})
    expected = "" if is_well else "pg_up is not 1"
    assert _on_compose().get(EXPORTER, "") == expected
    assert health._postgres_exporter(settings_of(layout)) == expected


def test_nobody_else_is_asked_for_it(answer: Answer) -> None:
    """A metric of Prometheus's own may quote a query."""
    answer({"POSTGRES_EXPORTER_PORT": IS_WELL, "NODE_EXPORTER_PORT": "# HELP x Not pg_up 0.\nx 1\n"})
    assert _on_compose() == {}
