"""`docker-compose.prod.yml`: by Compose's published schema, and by what production on one host must hold."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from app.config import Settings
from ops.containers import secret_files
from ops.stack.cluster import Cluster
from tests.contracts.test_env_example import EXAMPLE, settings_in

ROOT: Final = EXAMPLE.parent
FILE: Final = ROOT / "docker-compose.prod.yml"
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = DOCUMENT["services"]
OWN: Final = ("migrate", "backend", "celery-worker", "celery-beat")
EVERY = pytest.mark.parametrize("name", SERVICES)
# Port in the container: its variable. All other ports are nobody's business.
PUBLISHED: Final = {"backend": ("API_PORT", 8000), "grafana": ("GRAFANA_PORT", 3000)}
LOOPBACK: Final = {
    "postgres": ("POSTGRES_PORT", 5432),
    "redis": ("REDIS_PORT", 6379),
    "celery-worker": ("WORKER_METRICS_PORT", 9808),
    "postgres-exporter": ("POSTGRES_EXPORTER_PORT", 9187),
    "node-exporter": ("NODE_EXPORTER_PORT", 9100),
    "prometheus": ("PROMETHEUS_PORT", 9090),
    "alertmanager": ("ALERTMANAGER_PORT", 9093),
    "loki": ("LOKI_PORT", 3100),
}
# Settings of the application that the host's `.env` doesn't decide.
FIXED: Final = {
    "ENVIRONMENT": "production",
    "PROMETHEUS_MULTIPROC_DIR": "/run/commandcenter/metrics",
}
# `make up` has a default of its own for it in development, so it is empty in `.env.example`.
LISTED: Final = settings_in(EXAMPLE) | {"ALLOW_LOCAL_REPOSITORIES": "false"}
# The last section of `.env.example`: what nothing else reads.
OF_THE_FILE: Final = EXAMPLE.read_text().partition("# --- Containers")[2]
# Of the image, or of a container's inside.
NOT_PASSED_ON: Final = {
    *("API_HOST", "API_PORT", "WORKER_METRICS_PORT", "REPOSITORY_DIR", "BEAT_SCHEDULE_FILE", "BUILD_COMMIT"),
    *(
        "GIT_CA_FILE",
        "GIT_SSH_KEY_FILE",
        "GIT_SSH_KNOWN_HOSTS_FILE",
        "DB_PASSWORD",
        "EXPORTER_PASSWORD",
        "GRAFANA_ADMIN_PASSWORD",
    ),
}


def postgres_settings() -> dict[str, str]:
    """Return what the server is started with."""
    command = SERVICES["postgres"]["command"]
    assert command[0] == "postgres"
    assert set(command[1::2]) == {"-c"}
    return dict(setting.split("=", 1) for setting in command[2::2])


def test_it_is_what_compose_reads() -> None:
    """A slip in a key's name would silently be nothing; the schema comes with the checker."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_all_parts_are_there() -> None:
    """Of the contract; no more, no less."""
    assert set(SERVICES) == {*OWN, *PUBLISHED, *LOOPBACK, "alloy"}


@EVERY
def test_each_image_is_pinned(name: str) -> None:
    """What was tried is what runs: no `latest`, no tag that moves with minor releases."""
    image = SERVICES[name]["image"]
    if name in OWN:
        assert image == "commandcenter:${COMMANDCENTER_VERSION:-0.1.0}"
    else:
        assert re.fullmatch(r"[a-z./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image


def test_one_service_builds_the_image_of_all() -> None:
    """Builds of one name side by side fail now and then."""
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]


@EVERY
def test_each_service_gets_no_more_than_it_needs(name: str) -> None:
    """A hole in one must not become the host's: nothing to write to, no right, no way to more rights."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 256
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}
    # Ours has its user in the image: test_dockerfile.py.
    assert name in OWN or service["user"].partition(":")[0] not in {"", "0", "root"}


@EVERY
def test_each_service_comes_back(name: str) -> None:
    """After a crash, and after the host was started anew; the one shot once, for it waits by itself."""
    assert SERVICES[name]["restart"] == ("no" if name == "migrate" else "unless-stopped")


@EVERY
def test_each_service_tells_of_its_health(name: str) -> None:
    """Up is not well."""
    if name == "migrate":
        return
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= health.keys()


@EVERY
def test_only_api_and_grafana_are_published(name: str) -> None:
    """The rest answers to this host alone; every port is a variable with the contract's default."""
    ports = SERVICES[name].get("ports", [])
    if name in PUBLISHED:
        variable, inside = PUBLISHED[name]
        assert ports == [f"${{PUBLISH_HOST:-0.0.0.0}}:${{{variable}:-{inside}}}:{inside}"]
    elif name in LOOPBACK:
        variable, inside = LOOPBACK[name]
        assert ports == [f"127.0.0.1:${{{variable}:-{inside}}}:{inside}"]
    else:
        assert ports == []


def test_the_watchers_do_not_reach_the_data() -> None:
    """Grafana is published and holds a login of its own: not a way into the database."""
    both = {name for name, service in SERVICES.items() if set(service["networks"]) == {"data", "monitoring"}}
    assert both == {"backend", "celery-worker", "postgres-exporter"}
    only_data = {name for name, service in SERVICES.items() if service["networks"] == ["data"]}
    assert only_data == {"postgres", "redis", "migrate", "celery-beat"}
    assert set(DOCUMENT["networks"]) == {"data", "monitoring"}


def test_docker_itself_is_lent_to_one() -> None:
    """Whoever has its socket rules the host."""
    lent = [name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))]
    assert lent == ["alloy"]
    assert "ports" not in SERVICES["alloy"]


def test_each_volume_is_named() -> None:
    """An anonymous one is lost with its container."""
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str) and re.match(r"[a-z]+:", volume)
    }
    assert used == set(DOCUMENT["volumes"])


def test_no_secret_stands_in_an_environment() -> None:
    """Whatever lists containers shows it. Names of files may."""
    secret = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY|_URL$|_PASS")
    harmless = {"GITHUB_API_URL", "GF_SERVER_ROOT_URL"}
    shown = {
        variable: value
        for service in SERVICES.values()
        for variable, value in service.get("environment", {}).items()
        if secret.search(variable) and variable not in harmless
    }
    assert shown
    for variable, value in shown.items():
        assert variable.endswith("_FILE"), variable
        assert str(value).startswith("/run/secrets/")


@EVERY
def test_each_service_has_the_secrets_it_reads(name: str) -> None:
    """And no other's. Prometheus and Alertmanager name theirs in their configuration, Redis in its command."""
    read = set(re.findall(r"/run/secrets/(\w+)", str({**SERVICES[name], "secrets": None})))
    if name in {"prometheus", "alertmanager"}:
        read |= set(re.findall(r"/run/secrets/(\w+)", (ROOT / "monitoring" / f"{name}.yml").read_text()))
    assert read == set(SERVICES[name].get("secrets", []))


def test_each_secret_is_made_and_used(tmp_path: Path) -> None:
    """`secret_files.py` makes just the files that are mounted here."""
    assert set(secret_files.ensure(tmp_path)) == set(DOCUMENT["secrets"])
    for name, secret in DOCUMENT["secrets"].items():
        assert secret == {"file": f"${{SECRETS_DIR:-./secrets}}/{name}"}
    assert {each for service in SERVICES.values() for each in service.get("secrets", [])} == set(DOCUMENT["secrets"])


def test_its_secrets_are_not_committed() -> None:
    """Nor do they get into the image."""
    ignored = subprocess.run(["git", "check-ignore", "-q", "secrets/api_token"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_postgresql_logs_as_the_native_stack_does() -> None:
    """One log schema: docs/log-schema.md. And what statements are called with is in neither log."""
    native = Cluster(install=Path(), home=Path(), port=0).settings()
    given = postgres_settings()
    assert given["log_min_duration_statement"] == "${POSTGRES_LOG_MIN_DURATION_MS:-0}"
    logging = {name: value for name, value in native.items() if name.startswith(("log_", "auto_explain."))}
    for ours in ("log_destination", "log_min_duration_statement"):
        del logging[ours]
    assert {name: given.get(name) for name in logging} == logging
    for name in ("shared_preload_libraries", "compute_query_id", "track_activity_query_size", "password_encryption"):
        assert given[name] == native[name]


def test_redis_never_drops_a_task() -> None:
    """Nor forgets one when it is started anew."""
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert command[:2] == ["redis-server", "/run/secrets/redis_auth"]


def test_the_application_gets_every_setting() -> None:
    """With the default of `.env.example`: a setting that isn't passed on can't be changed."""
    environment = SERVICES["backend"]["environment"]
    secrets = {variable.removesuffix("_FILE") for variable in environment if variable.endswith("_FILE")}
    passed_on = {name.upper() for name in Settings.model_fields} - NOT_PASSED_ON - secrets - FIXED.keys()
    for variable in passed_on:
        assert environment[variable] == f"${{{variable}:-{LISTED[variable]}}}"
    assert {name: environment[name] for name in FIXED} == FIXED
    assert {str(SERVICES[name]["environment"]) for name in ("celery-worker", "celery-beat")} == {str(environment)}


def test_every_variable_of_the_file_is_listed_with_its_default() -> None:
    """Whoever copies `.env.example` changes nothing by that."""
    read = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", FILE.read_text()))
    assert {name: LISTED.get(name) for name in read} == read
    assert set(re.findall(r"^([A-Z_]+)=", OF_THE_FILE, flags=re.MULTILINE)) <= read.keys()


def test_migrations_come_before_the_services() -> None:
    """And the stores before both. Late ones are waited for all the same: docs/production.md."""
    for name in OWN[1:]:
        assert SERVICES[name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert "POSTGRES_PASSWORD_FILE" not in SERVICES["backend"]["environment"]


def test_prometheus_asks_services_of_these_names() -> None:
    """A target that isn't a service of this file would be down for ever."""
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    targets = [
        target.partition(":")
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    ports = {name: str(inside) for name, (_, inside) in {**PUBLISHED, **LOOPBACK}.items()}
    for host, _, port in targets:
        name = "prometheus" if host == "localhost" else host
        assert ports[name] == port
        assert "monitoring" in SERVICES[name]["networks"]


def test_what_is_mounted_is_there() -> None:
    """Compose would make an empty folder of a file that isn't."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("./"):
                assert os.path.lexists(ROOT / volume.partition(":")[0])
    for inside in re.findall(r"/etc/(?:prometheus|loki|alloy)/([\w.]+)", FILE.read_text()):
        assert (ROOT / "monitoring" / inside).is_file()
    for file in re.findall(r"/etc/prometheus/([\w.]+)", (ROOT / "monitoring" / "prometheus.yml").read_text()):
        assert (ROOT / "monitoring" / file).is_file()


def test_alloy_reads_this_projects_containers() -> None:
    """By the project's name, which is not that of a checkout's folder."""
    assert f'regex         = "{DOCUMENT["name"]}"' in (ROOT / "monitoring" / "alloy.config").read_text()
