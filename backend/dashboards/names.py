"""Names of series as Prometheus sees them, and the selectors that several panels share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from app.utils.metrics import HTTP_DURATION, HTTP_REQUESTS

# Probes and scrapes are no traffic; the same routes stand with and without the API's prefix.
TRAFFIC: Final = 'handler!~"(/api/v1)?/(health.*|metrics)"'
# Filesystems that can fill up and that somebody can empty.
DISKS: Final = 'fstype!~"tmpfs|ramfs|squashfs|overlay|iso9660|erofs|fuse.*",mountpoint!~"/(run|snap|var/lib/docker)/.*"'
# Alerts that mean something: Watchdog always fires.
REAL_ALERTS: Final = 'alertstate="firing",severity!="none"'
# Over a second is slow: the bound of SlowAPIResponses, and one of the histogram's buckets.
SLOW_LE: Final = 'le="1.0"'

# Windows: what a point of a graph stands for, and the whole time shown.
POINT: Final = "$__rate_interval"
SHOWN: Final = "$__range"


def _family(metric: Counter | Gauge | Histogram) -> str:
    return next(iter(metric.describe())).name


def gauge(metric: Gauge) -> str:
    """Return the series of a gauge."""
    return _family(metric)


def counter(metric: Counter) -> str:
    """Return the series of a counter."""
    return f"{_family(metric)}_total"


def buckets(metric: Histogram) -> str:
    """Return the series of a histogram's buckets."""
    return f"{_family(metric)}_bucket"


def counts(metric: Histogram) -> str:
    """Return the series that counts a histogram's observations."""
    return f"{_family(metric)}_count"


def requests(window: str = POINT, status: str = "", by: str = "") -> str:
    """Return the rate of requests that count as traffic.

    Args:
        window: time to take the rate over.
        status: a regular expression on the status; all without one.
        by: a label to keep apart by.
    """
    matcher = f',status=~"{status}"' if status else ""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({counter(HTTP_REQUESTS)}{{{TRAFFIC}{matcher}}}[{window}]))"


def error_ratio(window: str = POINT) -> str:
    """Return failed over all requests, 0 to 1; no series where there was no request."""
    return f"({requests(window, '5..')} or vector(0)) / ({requests(window)} > 0)"


def slow_ratio(window: str = POINT) -> str:
    """Return requests over a second over all, 0 to 1; no series where there was no request."""
    quick = f"sum (rate({buckets(HTTP_DURATION)}{{{TRAFFIC},{SLOW_LE}}}[{window}]))"
    return f"1 - {quick} / (sum (rate({counts(HTTP_DURATION)}{{{TRAFFIC}}}[{window}])) > 0)"
