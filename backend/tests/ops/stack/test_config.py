"""What the stack writes: secrets, settings, and configurations for programs that aren't ours."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from ops.stack import accounts, deployment, monitoring, parts, secret_store
from ops.stack import layout as layouts
from ops.stack.errors import StackError
from ops.stack.inherited import from_shell
from ops.stack.layout import Layout
from ops.stack.ports import free_port
from ops.stack.settings import Settings
from ops.stack.supervisor import Program, render
from tests.system import eventually

ALL = ("postgres", "redis", "api", "worker", "beat", "postgres-exporter", "node-exporter", "prometheus", "alertmanager")
# Those that `.env.example` offers, but for the two addresses that this stack brings itself.
SECRETS = re.findall(
    r"^(?!DATABASE_URL|REDIS_URL)([A-Z_]+)=",
    (layouts.checkout() / ".env.example").read_text().partition("# --- Secrets")[2].partition("# ---")[0],
    re.MULTILINE,
)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root would make an account and a folder in /var/lib; only the test of just that may."""
    monkeypatch.setattr(accounts, "ensure", lambda: None)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(layouts.checkout(), tmp_path / "data")
    made.make()
    return made


def _settings(layout: Layout, **environment: str) -> Settings:
    return Settings.load(layout, environment)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_secrets_are_private_and_stay_the_same(layout: Layout) -> None:
    """New secrets at the second start would lock us out of our own database."""
    first = secret_store.load_or_make(layout.data / "secrets.env", production=False)
    assert _mode(layout.data / "secrets.env") == 0o600
    assert secret_store.load_or_make(layout.data / "secrets.env", production=False) == first
    assert all(len(first[name]) >= 32 for name in secret_store.GENERATED)
    assert len(set(first.values())) == len(first)


def test_tokens_are_made_only_for_production(layout: Layout) -> None:
    """In development a plain curl must work; production refuses to start without them."""
    path = layout.data / "secrets.env"
    assert "API_TOKEN" not in secret_store.load_or_make(path, production=False)
    assert {"API_TOKEN", "METRICS_TOKEN"} <= secret_store.load_or_make(path, production=True).keys()


def test_private_files_never_pass_through_a_readable_state(tmp_path: Path) -> None:
    """A file left by somebody else with open rights is replaced, not written into."""
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    assert secret_store.write_private(path, "new")
    assert (_mode(path), path.read_text()) == (0o600, "new")
    assert not secret_store.write_private(path, "new")


def test_environment_files_are_read_like_a_shell_would() -> None:
    """`.env` is written by people."""
    text = "# no\nA=1\nexport B='two words'\nC=\"x # y\"\nD=z  # why\nE=\nno setting\nF=a=b\n"
    assert secret_store.parse(text) == {"A": "1", "B": "two words", "C": "x # y", "D": "z", "F": "a=b"}


def test_a_secret_comes_from_the_file_that_is_named(layout: Layout, tmp_path: Path) -> None:
    """As .env.example offers it. Two answers to one question are none."""
    file = tmp_path / "key"
    file.write_text("a key that stands in a file of its own\n")
    settings = _settings(layout, SECRET_KEY_FILE=str(file))
    assert settings["SECRET_KEY"] == "a key that stands in a file of its own"
    assert "SECRET_KEY_FILE" not in settings.for_app()
    with pytest.raises(StackError, match="both set"):
        _settings(layout, SECRET_KEY_FILE=str(file), SECRET_KEY="another key, in the environment")
    with pytest.raises(StackError, match="can't be read"):
        _settings(layout, SECRET_KEY_FILE=str(tmp_path / "gone"))
    file.write_text("\n")
    with pytest.raises(StackError, match="empty"):
        _settings(layout, SECRET_KEY_FILE=str(file))


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_come_from_a_file(layout: Layout, tmp_path: Path, name: str) -> None:
    """API_TOKEN_FILE that is dropped is an API without a guard, and nobody is told."""
    file = tmp_path / "secret"
    file.write_text("of a file of its own, longer than 32 characters\n")
    assert _settings(layout, **{f"{name}_FILE": str(file)})[name] == "of a file of its own, longer than 32 characters"


def test_no_former_key_is_no_mistake(layout: Layout, tmp_path: Path) -> None:
    """The file is there from the first day on, and empty again after each change of keys. Not so a token's."""
    file = tmp_path / "secret"
    file.write_text("\n")
    assert not _settings(layout, SECRET_KEY_FALLBACKS_FILE=str(file)).get("SECRET_KEY_FALLBACKS")
    with pytest.raises(StackError, match="API_TOKEN_FILE leads to an empty file"):
        _settings(layout, API_TOKEN_FILE=str(file))


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_copy_of_the_example_changes_nothing(layout: Layout, tmp_path: Path, environment: str) -> None:
    """`.env.example` is to be copied: `make up` must not work another way for that."""
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copy(layout.root / ".env.example", root)
    copied = Layout(root, layout.data)
    without = _settings(copied, ENVIRONMENT=environment)
    shutil.copy(root / ".env.example", root / ".env")
    assert dict(_settings(copied, ENVIRONMENT=environment).values) == dict(without.values)
    assert not _settings(copied).ignored


def test_a_number_that_is_none_is_said(layout: Layout) -> None:
    assert _settings(layout, POSTGRES_LOG_MIN_DURATION_MS="-1").integer("POSTGRES_LOG_MIN_DURATION_MS") == -1
    with pytest.raises(StackError, match="POSTGRES_LOG_MIN_DURATION_MS is 'abc'"):
        parts.cluster(_settings(layout, POSTGRES_LOG_MIN_DURATION_MS="abc"))


def test_a_shell_leads_no_part_elsewhere() -> None:
    """What libraries believe before what they are told."""
    shell = {
        "PATH": "/usr/bin", "LC_ALL": "C", "SSH_AUTH_SOCK": "/run/agent", "PGHOSTADDR": "127.0.0.9",
        "CELERY_BROKER_URL": "redis://elsewhere", "DATA_SOURCE_NAME": "postgresql://elsewhere", "API_TOKEN": "secret",
    }  # fmt: skip
    assert from_shell(shell) == {"PATH": "/usr/bin", "LC_ALL": "C", "SSH_AUTH_SOCK": "/run/agent"}


def test_the_real_environment_wins(layout: Layout) -> None:
    """Over made secrets and over defaults; an empty variable is as good as none."""
    settings = _settings(layout, API_PORT="8111", SECRET_KEY="s" * 40, REDIS_PORT="")
    assert settings.port("API_PORT") == 8111
    assert settings["SECRET_KEY"] == "s" * 40
    assert settings.port("REDIS_PORT") == 6379


def test_a_database_url_left_in_the_shell_is_not_used(layout: Layout) -> None:
    """Migrations in somebody else's database are no way to begin."""
    settings = _settings(layout, DATABASE_URL="postgresql://me@elsewhere/precious", REDIS_URL="redis://elsewhere")
    assert settings.ignored == ("DATABASE_URL", "REDIS_URL")
    assert "elsewhere" not in settings.for_app()["DATABASE_URL"] + settings.for_app()["REDIS_URL"]
    # Said too where it stands in a file.
    assert _settings(layout, REDIS_URL_FILE="/run/secrets/redis_url").ignored == ("REDIS_URL_FILE",)


def test_services_do_not_learn_the_superusers_password(layout: Layout) -> None:
    """Each part knows its own secrets only."""
    settings = _settings(layout)
    assert settings["POSTGRES_PASSWORD"] not in settings.for_app().values()
    assert settings["EXPORTER_PASSWORD"] not in settings.for_app().values()


@pytest.mark.parametrize("text", ["0", "65536", "abc", "-1", "80.5"])
def test_a_port_that_is_none_is_named(layout: Layout, text: str) -> None:
    """With its variable and what was in it."""
    with pytest.raises(StackError, match=r"API_PORT .*no port"):
        _settings(layout, API_PORT=text).port("API_PORT")


def test_a_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """A slip in COMMANDCENTER_DATA must not mix our data with a home folder, nor delete it later."""
    (tmp_path / "thesis.tex").write_text("years of work")
    layout = Layout(layouts.checkout(), tmp_path)
    with pytest.raises(StackError, match="did not make"):
        layout.make()
    with pytest.raises(StackError, match="will not delete"):
        layout.delete()
    assert (tmp_path / "thesis.tex").exists()


def test_delete_takes_all_that_was_made(layout: Layout) -> None:
    """And says what."""
    assert layout.delete() == [layout.data]
    assert not layout.data.exists()


@pytest.mark.skipif(not accounts.is_root(), reason="only root has an account to which something is out of reach")
def test_a_database_moves_to_where_its_account_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in /root is closed to PostgreSQL's account, and its rights are not ours to widen."""
    closed, outside = tmp_path / "closed", tmp_path / "outside"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(layouts, "_SYSTEM_FOLDER", outside)
    monkeypatch.setattr(accounts, "ensure", lambda: accounts.find("nobody"))
    layout = Layout(layouts.checkout(), closed / "data")
    layout.make()
    assert layout.postgres_home.is_relative_to(outside)
    assert _mode(closed) == 0o700
    assert layout.delete() == [layout.data, layout.postgres_home.parent]


def test_a_deep_checkout_gets_a_short_private_socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes 107 bytes."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    deep = Layout(layouts.checkout(), tmp_path / ("x" * 60) / ("y" * 60))
    deep.make()
    assert deep.socket.parent.parent == tmp_path
    assert _mode(deep.socket.parent) == 0o700
    deep.delete()
    assert not deep.socket.parent.exists()


def test_a_trap_in_the_temporary_folder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's name can be guessed, so somebody else may have made it."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    deep = Layout(layouts.checkout(), tmp_path / ("x" * 60) / ("y" * 60))
    deep.socket.parent.mkdir(mode=0o755)
    deep.socket.parent.chmod(0o755)
    with pytest.raises(StackError, match="somebody else"):
        deep.make()


def _prometheus(settings: Settings, parts: tuple[str, ...] = ALL, interval: str | None = None) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(monitoring.prometheus_config(settings, parts, interval))
    return config


def test_prometheus_scrapes_this_machines_ports(layout: Layout) -> None:
    """The containers' file stays the source; jobs, labels and interval are its own."""
    config = _prometheus(_settings(layout, API_PORT="8111", PROMETHEUS_PORT="9111"))
    targets = {job["job_name"]: job["static_configs"][0] for job in config["scrape_configs"]}
    assert set(targets) == {"backend", "celery-worker", "postgres", "node", "prometheus", "alertmanager"}
    assert targets["backend"]["targets"] == ["127.0.0.1:8111"]
    assert targets["prometheus"]["targets"] == ["127.0.0.1:9111"]
    assert all(target["labels"]["service"] for target in targets.values())
    assert config["global"]["scrape_interval"] == "15s"
    assert config["rule_files"] == [str(layout.root / "monitoring" / name) for name in ("alerts.yml", "recording.yml")]


def test_what_does_not_run_is_not_scraped(layout: Layout) -> None:
    """A target that can't be there would be an alert for ever."""
    config = _prometheus(_settings(layout), ("postgres", "redis", "api", "worker", "beat", "prometheus"))
    assert {job["job_name"] for job in config["scrape_configs"]} == {"backend", "celery-worker", "prometheus"}
    assert "alertmanagers" not in config["alerting"]


@pytest.fixture
def own(tmp_path: Path) -> Layout:
    """A stack on a checkout of its own, whose monitoring/ may be changed."""
    root = tmp_path / "checkout"
    _copy_monitoring(root)
    shutil.copy(layouts.checkout() / ".env.example", root)
    made = Layout(root, tmp_path / "data")
    made.make()
    return made


def _copy_monitoring(root: Path) -> None:
    shutil.copytree(layouts.checkout() / "monitoring", root / "monitoring", ignore=shutil.ignore_patterns("grafana"))


def _released(layout: Layout, commit: str = "abc") -> Path:
    """Deploy a release with the shipped monitoring/, and return its folder."""
    home = layout.data / "versions" / commit
    (home / "backend" / "app").mkdir(parents=True)
    _copy_monitoring(home)
    deployment.save(layout, replace(deployment.load(layout), commit=commit, backend=home / "backend"))
    return home


def _fingerprint(layout: Layout, part: str = "prometheus") -> str:
    settings = _settings(layout)
    return parts.build(parts.Stack(settings, parts.cluster(settings), (part,), ()))[0].fingerprint


@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_changed_rules_restart_prometheus(own: Layout, name: str) -> None:
    """Else the next `up` goes on with the old ones, and says that all is well."""
    before = _fingerprint(own)
    assert _fingerprint(own) == before
    with (own.root / "monitoring" / name).open("a") as file:
        file.write("# Changed.\n")
    assert _fingerprint(own) != before


def test_rules_and_queries_follow_the_release(own: Layout) -> None:
    """A `git pull` under it would judge a version's metrics by another's rules, and a way back would keep them."""
    home = _released(own)
    before = [_fingerprint(own, part) for part in ("prometheus", "postgres-exporter")]
    for name in ("alerts.yml", "recording.yml", "postgres-exporter/activity.yaml"):
        with (own.root / "monitoring" / name).open("a") as file:
            file.write("# Changed.\n")
    assert [_fingerprint(own, part) for part in ("prometheus", "postgres-exporter")] == before
    loaded = _prometheus(_settings(own))["rule_files"]
    assert loaded == [str(home / "monitoring" / name) for name in ("alerts.yml", "recording.yml")]


def test_stages_and_routes_are_the_checkouts_under_a_release_too(own: Layout) -> None:
    """`commandcenter alerts enable` writes them there, one line in review, for the release that runs."""
    _released(own)
    for name, old, new in (
        ("prometheus.yml", "regex: Watchdog", "regex: Watchdog|DiskSpaceLow"),
        ("alertmanager.yml", "repeat_interval: 4h", "repeat_interval: 5h"),
    ):
        file = own.root / "monitoring" / name
        file.write_text(file.read_text().replace(old, new))
    settings = _settings(own)
    assert "DiskSpaceLow" in str(_prometheus(settings)["alerting"])
    assert yaml.safe_load(monitoring.alertmanager_config(settings))["route"]["repeat_interval"] == "5h"


def test_a_release_with_the_same_rules_leaves_prometheus_alone(own: Layout) -> None:
    """A restart forgets which alerts are pending, in the very minutes in which they count."""
    before = _fingerprint(own)
    _released(own, "abc")
    assert _fingerprint(own) == before
    home = _released(own, "def")
    assert _fingerprint(own) == before
    with (home / "monitoring" / "alerts.yml").open("a") as file:
        file.write("# Changed.\n")
    assert _fingerprint(own) != before


def test_an_older_release_has_what_it_had(own: Layout) -> None:
    """A way back must not fail for want of a file that came later."""
    folder = _released(own) / "monitoring"
    (folder / "recording.yml").unlink()
    (folder / "postgres-exporter" / "activity.yaml").unlink()
    config = folder / "prometheus.yml"
    config.write_text(config.read_text().replace("  - /etc/prometheus/recording.yml\n", ""))
    assert _prometheus(_settings(own))["rule_files"] == [str(folder / "alerts.yml")]
    assert _fingerprint(own)
    queries = monitoring.exporter_queries(_settings(own), has_collectors=False)
    assert queries.read_text() == (folder / "postgres-exporter" / "queries.yaml").read_text()


def test_a_metrics_token_goes_by_a_private_file(layout: Layout) -> None:
    """Not into a configuration that Prometheus shows on a page."""
    assert "authorization" not in _prometheus(_settings(layout))["scrape_configs"][0]
    settings = _settings(layout, METRICS_TOKEN="hush-hush")
    text = monitoring.prometheus_config(settings, ALL)
    assert "hush-hush" not in text
    file = Path(yaml.safe_load(text)["scrape_configs"][0]["authorization"]["credentials_file"])
    assert (file.read_text(), _mode(file)) == ("hush-hush", 0o600)


def test_alertmanager_tells_this_machines_api(layout: Layout) -> None:
    """With the token, where one is set."""
    text = monitoring.alertmanager_config(_settings(layout, API_PORT="8111", API_TOKEN="psst"))
    receivers = {each["name"]: each for each in yaml.safe_load(text)["receivers"]}
    for name in ("shadow", "backend-copy"):
        [hook] = receivers[name]["webhook_configs"]
        assert hook["url"] == "http://127.0.0.1:8111/api/v1/alerts/webhook"
        assert Path(hook["http_config"]["authorization"]["credentials_file"]).read_text() == "psst"


def test_promtool_takes_rules_and_configuration(layout: Layout) -> None:
    """Both the file in monitoring/ and what is made of it."""
    path = layout.data / "prometheus" / "prometheus.yml"
    path.write_text(monitoring.prometheus_config(_settings(layout), ALL))
    for command in (["check", "config", str(path)], ["check", "rules", str(layout.root / "monitoring" / "alerts.yml")]):
        checked = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_redis_keeps_every_task_and_lets_in_who_has_the_password(layout: Layout) -> None:
    """Queued tasks lie there: none may be evicted for want of memory, or gone after a restart, or anybody's to read."""
    settings = _settings(layout, REDIS_PORT=str(free_port()))
    [program] = parts.build(parts.Stack(settings, parts.cluster(settings), ("redis",), ()))
    config = Path(program.command[1])
    assert _mode(config) == 0o600
    wanted = {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "bind": "127.0.0.1",
        "dir": str(layout.data / "redis"),
    }
    with _running(program, layout), Redis.from_url(settings.redis_url) as client:
        eventually(lambda: _pongs(client), what="a Redis that answers to the password")
        assert client.config_get(*wanted) == wanted
        client.lpush("sync", "a task")
        with Redis(port=settings.port("REDIS_PORT")) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    with _running(program, layout), Redis.from_url(settings.redis_url) as client:
        eventually(lambda: _pongs(client), what="the same Redis after a restart")
        assert client.lrange("sync", 0, -1) == [b"a task"]


@contextmanager
def _running(program: Program, layout: Layout) -> Iterator[None]:
    """Run a part as the supervisor does."""
    with (layout.logs / f"{program.name}.log").open("ab") as log:
        process = subprocess.Popen(program.command, cwd=program.directory, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _pongs(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def _program(layout: Layout, **environment: str) -> Program:
    return Program("api", ["/usr/bin/api", "two words", "100%"], layout.data, environment)


def test_the_supervisor_reads_back_what_was_written(layout: Layout) -> None:
    """Its file format has three kinds of quoting; a secret that is cut short would be a riddle."""
    from supervisor.options import ServerOptions  # noqa: PLC0415 - reads sys.argv when made

    path = layout.run / "supervisord.conf"
    secret = "p%ss,w=rd;x#y/+'z$(id)"
    path.write_text(render(layout, [_program(layout, TOKEN=secret)]))
    options = ServerOptions()
    options.realize(args=["-c", str(path)])
    config = options.process_group_configs[0].process_configs[0]
    assert config.environment["TOKEN"] == secret
    assert config.command == '"/usr/bin/api" "two words" "100%"'
    assert config.autorestart


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a ;b", "a #b", "'a"])
def test_a_value_the_supervisor_would_change_is_refused(layout: Layout, value: str) -> None:
    """By name; the value may be a secret."""
    with pytest.raises(StackError, match="TOKEN") as caught:
        render(layout, [_program(layout, TOKEN=value)])
    assert value not in str(caught.value)
