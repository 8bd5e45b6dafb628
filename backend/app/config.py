"""The one reader of the environment. `.env.example` lists every setting with a line.

A secret may come from a file: secret_files.py.
"""

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.secret_files import Environment, SecretFileError

_SHORTEST_SECRET: Final = 32
# In lower case, letters alone: `Change-Me_123` is none either. ops/release/weakness.py refuses the same before.
_WELL_KNOWN: Final = frozenset(
    {
        "admin",
        "apitoken",
        "changeit",
        "changeme",
        "commandcenter",
        "default",
        "development",
        "example",
        "insecure",
        "letmein",
        "password",
        "postgres",
        "qwerty",
        "secret",
        "secretkey",
        "test",
        "token",
        "yourapitoken",
        "yoursecretkey",
    }
)
# However they go on: `change-me-in-production`.
_PLACEHOLDERS: Final = ("changeme", "changethis", "replaceme", "replacethis")
_NOT_LETTER: Final = re.compile(r"[^a-z]")
# What fits into an Authorization header.
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]*")
# As a browser sends it: no path, no user, not even a slash at the end.
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_REDIS: Final = frozenset({"redis", "rediss"})
_REDIS_DATABASE: Final = re.compile(r"(/[0-9]{0,4})?")
_A_DAY_S: Final = 86400


class ConfigurationError(ValueError):
    """The environment doesn't allow a start; the message says what to set."""


class Settings(Environment):
    """Settings of API, worker and beat. Seconds, milliseconds and bytes are in the names."""

    environment: Literal["development", "test", "production"] = "development"
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    database_url: SecretStr
    redis_url: SecretStr
    secret_key: SecretStr
    secret_key_fallbacks: SecretStr = SecretStr("")
    api_token: SecretStr = SecretStr("")
    metrics_token: SecretStr = SecretStr("")
    exporter_password: SecretStr = SecretStr("")
    db_password: SecretStr = SecretStr("")
    grafana_admin_password: SecretStr = SecretStr("")

    api_host: str = "127.0.0.1"
    api_port: int = Field(8000, ge=0, le=65535)
    api_workers: int = Field(2, ge=1, le=64)
    worker_metrics_port: int = Field(9808, ge=0, le=65535)
    worker_concurrency: int = Field(2, ge=1, le=256)
    beat_schedule_file: Path = Path(".commandcenter/run/celerybeat-schedule")

    correlation_enabled: bool = True
    request_id_trust: str = "all"
    sql_comments: Literal["transaction", "statement", "off"] = "transaction"
    outbound_correlation_hosts: str = "api.github.com"
    scrub_patterns: str = ""
    cors_origins: str = ""
    slow_request_ms: float = Field(1000.0, gt=0, allow_inf_nan=False)
    slow_task_ms: float = Field(60_000.0, gt=0, allow_inf_nan=False)

    db_pool_size: int = Field(5, ge=1, le=1000)
    db_pool_overflow: int = Field(5, ge=0, le=1000)
    db_behind_pgbouncer: bool = False

    repository_dir: Path = Path(".commandcenter/repositories")
    allow_local_repositories: bool = False
    allow_private_addresses: bool = False
    git_timeout_s: float = Field(300.0, gt=0, le=3600)
    git_max_size_mb: int = Field(2048, ge=1, le=1024 * 1024)
    git_ca_file: Path | None = None
    git_ssh_key_file: Path | None = None
    git_ssh_known_hosts_file: Path | None = None
    sync_interval_s: int = Field(900, ge=10, le=365 * _A_DAY_S)
    sync_retry_s: float = Field(10.0, gt=0, le=60)
    job_lost_after_s: float = Field(60.0, ge=1, le=600)
    job_retention_days: float = Field(90.0, gt=0, le=36500)
    github_api_url: str = "https://api.github.com"

    build_commit: str = "unknown"

    @field_validator("scrub_patterns")
    @classmethod
    def _expressions(cls, value: str) -> str:
        for pattern in value.split():
            try:
                matches_nothing = re.compile(pattern).search("") is not None
            except re.error as error:
                raise ConfigurationError(f"{pattern!r} is no regular expression: {error}") from None
            if matches_nothing:
                raise ConfigurationError(f"{pattern!r} matches everywhere, an empty text too")
        return value

    @field_validator("database_url", "redis_url", "secret_key")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("must not be empty")
        return value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        driver_url(value.get_secret_value(), "asyncpg")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        parts = _parts(value.get_secret_value(), _REDIS)
        if parts is None or not _REDIS_DATABASE.fullmatch(parts.path) or not _redis_takes(parts.geturl()):
            raise ConfigurationError("must read redis://[:password@]host:port/0")
        return value

    @field_validator("api_token", "metrics_token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ConfigurationError("may hold only visible ASCII characters")
        return value

    @field_validator("request_id_trust")
    @classmethod
    def _networks(cls, value: str) -> str:
        if value.strip().lower() not in {"all", "none"}:
            try:
                for part in value.split(","):
                    ipaddress.ip_network(part.strip())
            except ValueError:
                raise ConfigurationError("must be all, none, or networks such as 10.0.0.0/8, comma-separated") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        if not all(_ORIGIN.fullmatch(origin) for origin in _listed(value)):
            raise ConfigurationError("must be origins such as https://console.example, comma-separated")
        return value

    @field_validator("github_api_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = _parts(value, {"http", "https"})
        if parts is None or "@" in parts.netloc or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError("must read https://host, without a user or password")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _production_needs_secrets(self) -> Self:
        if self.environment == "production":
            faults = [fault for name in (*_REQUIRED, *_OPTIONAL) for fault in self._faults_of(name)]
            password = make_url(self.sqlalchemy_url("asyncpg")).password
            faults += _faults("the password in DATABASE_URL", str(password or ""))
            if faults:
                raise ValueError("production refuses to start: " + "; ".join(faults))
        return self

    def _faults_of(self, name: str) -> list[str]:
        value = getattr(self, name).get_secret_value()
        variable = name.upper()
        if not value and name in _OPTIONAL:
            return []
        if value and name == "secret_key" and len(value) < _SHORTEST_SECRET:
            return [f"{variable} is shorter than {_SHORTEST_SECRET} characters"]
        return _faults(variable, value)

    def sqlalchemy_url(self, driver: Literal["asyncpg", "psycopg"]) -> str:
        """Return DATABASE_URL for one driver."""
        return driver_url(self.database_url.get_secret_value(), driver)

    @property
    def secret_keys(self) -> list[str]:
        """SECRET_KEY first, then its predecessors."""
        return [self.secret_key.get_secret_value(), *_listed(self.secret_key_fallbacks.get_secret_value())]

    @property
    def correlation_hosts(self) -> frozenset[str]:
        """Hosts that may learn our IDs."""
        return frozenset(host.lower() for host in _listed(self.outbound_correlation_hosts))

    @property
    def allowed_origins(self) -> list[str]:
        """Origins whose pages may call the API."""
        return _listed(self.cors_origins)


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def driver_url(url: str, driver: Literal["asyncpg", "psycopg"]) -> str:
    """Return a PostgreSQL URL in SQLAlchemy's spelling for one driver.

    Raises:
        ConfigurationError: not a PostgreSQL URL, or one that names no database.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError("must begin with postgresql://")
    url = f"postgresql+{driver}://{rest}"
    try:
        is_right = bool(make_url(url).database)
    except (ArgumentError, ValueError):
        # Their messages hold parts of the URL, and so perhaps of the password.
        is_right = False
    if not is_right:
        raise ConfigurationError("must read postgresql://user:password@host:port/name, the password URL-encoded")
    return url


def _parts(url: str, schemes: Collection[str]) -> SplitResult | None:
    """Return the parts of a URL that has one of these schemes and names a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Its message may hold the password.
        return None
    return parts if parts.scheme in schemes and parts.hostname and port != 0 else None


def _redis_takes(url: str) -> bool:
    from redis import ConnectionPool  # noqa: PLC0415 - takes long to load, and a migration asks for no Redis

    try:
        ConnectionPool.from_url(url)
    except ValueError:
        return False
    return True


# What production may not start without, and what it may lack (other parts of the system hold it) but not have weak.
_REQUIRED: Final = ("secret_key", "api_token", "metrics_token")
_OPTIONAL: Final = ("exporter_password", "db_password", "grafana_admin_password")


def _faults(what: str, value: str) -> list[str]:
    if not value:
        return [f"{what} is missing"]
    letters = _NOT_LETTER.sub("", value.lower())
    if letters in _WELL_KNOWN or letters.startswith(_PLACEHOLDERS) or len(set(value)) == 1:
        return [f"{what} is a well-known value"]
    return []


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigurationError: names each variable that is missing or wrong; never a value.
    """
    try:
        return Settings()  # type: ignore[call-arg]
    except ValueError as error:
        raise ConfigurationError(_explain(error)) from None


def _explain(error: ValueError) -> str:
    problems: list[dict[str, Any]] = []
    if isinstance(error, ValidationError):
        problems.extend(dict(each) for each in error.errors(include_input=False, include_url=False))
    if isinstance(error, SecretFileError):
        return str(error)
    lines = [
        f"  {'.'.join(str(part) for part in each['loc']).upper() or 'environment'}: "
        f"{each['msg'].removeprefix('Value error, ')}"
        for each in problems
    ]
    return "\n".join(["The environment is not complete (.env.example lists every setting):", *lines])


def app_version() -> str:
    """Return the installed version of CommandCenter."""
    try:
        return version("commandcenter")
    except PackageNotFoundError:
        return "unknown"


class _MigrationSettings(Environment):
    """A migration needs the database and no other secret."""

    database_url: SecretStr

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        driver_url(value.get_secret_value(), "psycopg")
        return value


def migration_url() -> str:
    """Return DATABASE_URL for a migration.

    Raises:
        ConfigurationError: it is missing, or no PostgreSQL URL.
    """
    try:
        url = _MigrationSettings().database_url.get_secret_value()  # type: ignore[call-arg]
    except ValueError as error:
        raise ConfigurationError(_explain(error)) from None
    return driver_url(url, "psycopg")
