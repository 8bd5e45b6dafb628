"""What the real system exports, and what the pages ask of it."""

import pytest

from tests.grafana import BACKEND
from tests.monitoring_stack import MonitoredSystem
from tests.pages import blocks

DOCS = BACKEND.parent / "docs"


@pytest.fixture(scope="session")
def there(lived: MonitoredSystem) -> dict[str, set[str]]:
    """Labels by series, as Prometheus has them."""
    found: dict[str, set[str]] = {}
    for labels in lived.get("series", **{"match[]": '{__name__=~".+"}'}):
        found.setdefault(labels["__name__"], set()).update(labels)
    return found


@pytest.fixture(scope="session")
def asked() -> dict[str, str]:
    """Every PromQL expression in the documentation, by its page and number; an empty line ends one."""
    return {
        f"{page.relative_to(DOCS)} ({number})": expression
        for page in sorted(DOCS.rglob("*.md"))
        for number, expression in enumerate(
            expression for block in blocks(page, "promql") for expression in block.strip().split("\n\n")
        )
    }
