"""Settings of a stack: real environment, then `.env`, then the made secrets, then the defaults of `.env.example`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ops.stack import deployment, secret_store
from ops.stack.deployment import Deployment
from ops.stack.errors import StackError
from ops.stack.layout import Layout

# The native stack brings its own; a DATABASE_URL left over in a shell must not lead migrations into another database.
BROUGHT: Final = ("DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR")
# Each may lie in a file that NAME_FILE names, whether one is made here or not.
_SECRETS: Final = (
    *secret_store.GENERATED,
    *("SECRET_KEY_FALLBACKS", "API_TOKEN", "METRICS_TOKEN", "GRAFANA_ADMIN_PASSWORD"),
)
# Having none is what most have.
_MAY_BE_EMPTY: Final = "SECRET_KEY_FALLBACKS"
_SLOW_LOG_DEFAULT_MS: Final = "0"
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True)
class Settings:
    """All settings by name, as text, and what follows from them."""

    layout: Layout
    values: Mapping[str, str]
    ignored: tuple[str, ...]
    deployment: Deployment

    @classmethod
    def load(cls, layout: Layout, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read all sources; make the secrets that are missing. The layout's folders must exist."""
        real = {name: value for name, value in (os.environ if environment is None else environment).items() if value}
        defaults = secret_store.parse((layout.root / ".env.example").read_text())
        file = layout.root / ".env"
        chosen = secret_store.parse(file.read_text()) if file.exists() else {}
        chosen |= real
        production = chosen.get("ENVIRONMENT", defaults.get("ENVIRONMENT")) == "production"
        made = secret_store.load_or_make(layout.data / "secrets.env", production=production)
        chosen |= _from_files(chosen)
        if not production:
            defaults |= {"ALLOW_LOCAL_REPOSITORIES": "true"}
        defaults |= {
            "REPOSITORY_DIR": str(layout.data / "repositories"),
            "POSTGRES_LOG_MIN_DURATION_MS": _SLOW_LOG_DEFAULT_MS,
        }
        known = {*_names(layout), *defaults, *made, "GIT_CA_FILE"}
        values = defaults | made | {name: value for name, value in chosen.items() if name in known}
        deployed = deployment.load(layout)
        values |= deployed.switches
        ignored = tuple(each for name in BROUGHT for each in (name, f"{name}_FILE") if each in chosen)
        return cls(layout, {name: value for name, value in values.items() if name not in BROUGHT}, ignored, deployed)

    def __getitem__(self, name: str) -> str:
        """Return a setting that has a default or is made."""
        return self.values[name]

    def get(self, name: str) -> str:
        """Return a setting, empty where it isn't set."""
        return self.values.get(name, "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be written anywhere: each secret that is set, of former keys each one."""
        held = [part.strip() for name in _SECRETS for part in (self.get(name), *self.get(name).split(","))]
        return tuple(dict.fromkeys(filter(None, held)))

    def port(self, name: str) -> int:
        """Return a port.

        Raises:
            StackError: it is no port number.
        """
        text = self.values[name]
        if not text.isdecimal() or not 0 < int(text) <= _HIGHEST_PORT:
            raise StackError(f"{name} is {text!r}, which is no port.", f"Set {name} to a number from 1 to 65535.")
        return int(text)

    def integer(self, name: str) -> int:
        """Return a whole number, below 0 where that switches something off.

        Raises:
            StackError: it is none.
        """
        text = self.values[name]
        try:
            return int(text)
        except ValueError:
            raise StackError(f"{name} is {text!r}, which is no whole number.", f"Set {name} to one.") from None

    @property
    def api_host(self) -> str:
        """Where to reach the API from here."""
        return reachable(self["API_HOST"])

    @property
    def database_url(self) -> str:
        """URL of our database as its owner."""
        password = quote(self["DB_PASSWORD"], safe="")
        return f"postgresql://commandcenter:{password}@127.0.0.1:{self['POSTGRES_PORT']}/commandcenter"

    @property
    def redis_url(self) -> str:
        """URL of broker and result store."""
        return f"redis://:{quote(self['REDIS_PASSWORD'], safe='')}@127.0.0.1:{self['REDIS_PORT']}/0"

    def for_app(self) -> dict[str, str]:
        """Return the environment of our own services: their settings, and no secret of another part."""
        foreign = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_ADMIN_PASSWORD", "DB_PASSWORD", "EXPORTER_PASSWORD"}
        return {name: value for name, value in self.values.items() if name not in foreign} | {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "PYTHONPATH": str(self.deployment.backend),
            "PYTHONUNBUFFERED": "1",
            "BUILD_COMMIT": self.deployment.commit,
        }


def reachable(host: str) -> str:
    """Return how a URL from here names what listens on `host`, which may be the address of all interfaces."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared with, not listened on.
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _from_files(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that NAME_FILE leads to. One that was dropped would leave a door open in silence.

    Raises:
        StackError: one is given twice, or its file can't be read.
    """
    found: dict[str, str] = {}
    for name in _SECRETS:
        path = chosen.get(f"{name}_FILE")
        if path is None:
            continue
        if name in chosen:
            raise StackError(f"{name} and {name}_FILE are both set.", "Leave one of them away.")
        try:
            found[name] = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{name}_FILE can't be read: {error}", f"Is {path} there, and yours to read?") from error
        if not found[name] and name != _MAY_BE_EMPTY:
            raise StackError(f"{name}_FILE leads to an empty file.", f"Write the secret into {path}.")
    return found


def _names(layout: Layout) -> list[str]:
    """Every name in `.env.example`, those without a default too."""
    lines = (layout.root / ".env.example").read_text().splitlines()
    return [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
