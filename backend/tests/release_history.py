"""The past of a service that is about to be judged: a week before a release, and the time after it."""

import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.backfill import Past

# A Monday, ten o'clock.
RELEASED: Final = datetime(2026, 11, 16, 10, 0, tzinfo=UTC)
WEEK: Final = timedelta(days=7)
_HANDLER: Final = "/api/v1/repositories"
Samples = list[tuple[float, float]]


def minutes(start: datetime, end: datetime) -> Iterator[float]:
    """Yield each minute from `start` to `end`, both included, in seconds since 1970."""
    yield from range(int(start.timestamp()), int(end.timestamp()) + 1, 60)


def series(name: str, **labels: str) -> str:
    """Return a series of the API, as PromQL writes it."""
    given = {"service": "api", "job": "backend", "instance": "api:8000", **labels}
    return f"{name}{{{','.join(f'{key}={value!r}' for key, value in given.items())}}}".replace("'", '"')


def requests(status: str, handler: str = _HANDLER) -> str:
    """Return the counter of one kind of request."""
    return series("http_requests_total", method="GET", handler=handler, status=status)


def constant(value: float, start: datetime, end: datetime) -> Samples:
    """Return a gauge that stays what it is."""
    return [(at, value) for at in minutes(start, end)]


def counted(each_minute: Callable[[float], float], start: datetime, end: datetime) -> Samples:
    """Return a counter that starts at 0 and grows by what a minute brings."""
    total, samples = 0.0, []
    for at in minutes(start, end):
        samples.append((at, total))
        total += each_minute(at)
    return samples


def service(
    before_ratio: float,
    after_ratio: float,
    *,
    released: datetime = RELEASED,
    after: timedelta = timedelta(hours=49),
    a_minute: int = 10,
    seed: int = 1,
) -> Past:
    """Return the whole past that gates read: traffic by day and night, and errors by chance at a known ratio."""
    randomness = random.Random(seed)
    start, end = released - WEEK - timedelta(hours=2), released + after
    fine, failed = [(start.timestamp(), 0.0)], [(start.timestamp(), 0.0)]
    for at in minutes(start + timedelta(minutes=1), end):
        ratio = before_ratio if at <= released.timestamp() else after_ratio
        n = round(a_minute * (1 + 0.5 * math.sin(at / 86_400 * math.tau)))
        k = sum(randomness.random() < ratio for _ in range(n))
        fine.append((at, fine[-1][1] + n - k))
        failed.append((at, failed[-1][1] + k))
    observed = [(at, value + other) for (at, value), (_, other) in zip(fine, failed, strict=True)]
    return {
        requests("200"): fine,
        requests("500"): failed,
        requests("200", "/api/v1/health"): counted(lambda _: 4, start, end),
        series("up"): constant(1, start, end),
        **overhead(observed),
        series("commandcenter_db_pool_connections", state="checked_out"): constant(2, start, end),
        series("commandcenter_db_pool_max_connections"): constant(20, start, end),
    }


def overhead(observed: Samples, over_1_ms: float = 0.0002) -> Past:
    """Return the layer's own histogram: nearly all under 0.2 ms, a share over 1 ms."""
    name = "commandcenter_observability_overhead_seconds"
    shares = {"0.00005": 0.1, "0.0001": 0.8, "0.0002": 0.9, "0.0005": 0.95, "0.001": 1 - over_1_ms, "+Inf": 1.0}
    buckets = {
        series(f"{name}_bucket", le=le): [(at, value * share) for at, value in observed] for le, share in shares.items()
    }
    return {**buckets, series(f"{name}_count"): observed}
