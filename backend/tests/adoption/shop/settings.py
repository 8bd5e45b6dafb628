"""What the shop reads from its environment, its own way."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Addresses of what the shop needs; seconds and ports as numbers."""

    database_url: str
    redis_url: str
    worker_metrics_port: int
    trail_secret: str


def read_settings() -> Settings:
    """Return the settings of this process."""
    return Settings(
        database_url=os.environ["SHOP_DATABASE"],
        redis_url=os.environ["SHOP_REDIS"],
        worker_metrics_port=int(os.environ["SHOP_WORKER_METRICS_PORT"]),
        trail_secret=os.environ["SHOP_TRAIL_SECRET"],
    )
