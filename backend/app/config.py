"""The one reader of the environment. `.env.example` lists every setting with a line."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SHORTEST_SECRET: Final = 32
_WELL_KNOWN: Final = frozenset(
    {
        "changeme",
        "secret",
        "password",
        "postgres",
        "admin",
        "commandcenter",
        "test",
        "development",
        "insecure",
        "default",
    }
)


class ConfigurationError(Exception):
    """The environment doesn't allow a start; the message says what to set."""


class Settings(BaseSettings):
    """Settings of API, worker and beat. Seconds, milliseconds and bytes are in the names."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

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
    slow_request_ms: float = Field(1000.0, gt=0)

    db_pool_size: int = Field(5, ge=1, le=1000)
    db_pool_overflow: int = Field(5, ge=0, le=1000)

    repository_dir: Path = Path(".commandcenter/repositories")
    allow_local_repositories: bool = False
    allow_private_addresses: bool = False
    git_timeout_s: float = Field(300.0, gt=0, le=3600)
    git_max_size_mb: int = Field(2048, ge=1)
    git_ca_file: Path | None = None
    sync_interval_s: int = Field(900, ge=10)
    sync_retry_s: float = Field(10.0, gt=0, le=60)
    job_lost_after_s: float = Field(60.0, ge=1, le=600)
    github_api_url: str = "https://api.github.com"

    build_commit: str = "unknown"

    @field_validator("database_url", "redis_url", "secret_key")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("must not be empty")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _production_needs_secrets(self) -> Self:
        if self.environment == "production":
            faults = [fault for name in (*_REQUIRED, *_OPTIONAL) for fault in self._faults_of(name)]
            password = urlsplit(self.database_url.get_secret_value()).password
            faults += _faults("the password in DATABASE_URL", unquote(password or ""))
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
        former = self.secret_key_fallbacks.get_secret_value().split(",")
        return [self.secret_key.get_secret_value(), *(key.strip() for key in former if key.strip())]

    @property
    def correlation_hosts(self) -> frozenset[str]:
        """Hosts that may learn our IDs."""
        return frozenset(host.strip().lower() for host in self.outbound_correlation_hosts.split(",") if host.strip())


def driver_url(url: str, driver: Literal["asyncpg", "psycopg"]) -> str:
    """Return a PostgreSQL URL in SQLAlchemy's spelling for one driver.

    Raises:
        ConfigurationError: not a PostgreSQL URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError("DATABASE_URL must begin with postgresql://")
    return f"postgresql+{driver}://{rest}"


# What production may not start without, and what it may lack (other parts of the system hold it) but not have weak.
_REQUIRED: Final = ("secret_key", "api_token", "metrics_token")
_OPTIONAL: Final = ("exporter_password", "db_password", "grafana_admin_password")


def _faults(what: str, value: str) -> list[str]:
    if not value:
        return [f"{what} is missing"]
    if value.lower() in _WELL_KNOWN or len(set(value)) == 1:
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
    lines = [
        f"  {'.'.join(str(part) for part in each['loc']).upper() or 'environment'}: {each['msg']}" for each in problems
    ]
    return "\n".join(["The environment is not complete (.env.example lists every setting):", *lines])


def app_version() -> str:
    """Return the installed version of CommandCenter."""
    try:
        return version("commandcenter")
    except PackageNotFoundError:
        return "unknown"


class _MigrationSettings(BaseSettings):
    """A migration needs the database and no other secret."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr


def migration_url() -> str:
    """Return DATABASE_URL for a migration.

    Raises:
        ConfigurationError: it is missing.
    """
    try:
        url = _MigrationSettings().database_url.get_secret_value()  # type: ignore[call-arg]
    except ValueError as error:
        raise ConfigurationError(_explain(error)) from None
    return driver_url(url, "psycopg")
