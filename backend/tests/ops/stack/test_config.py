"""What the stack writes for programs that aren't ours: Prometheus, Alertmanager, Redis, the supervisor."""

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

from ops.stack import deployment, health, monitoring, parts
from ops.stack import layout as layouts
from ops.stack.errors import StackError
from ops.stack.layout import Layout
from ops.stack.ports import free_port
from ops.stack.settings import Settings
from ops.stack.supervisor import Program, render
from tests.ops.stack.made import mode_of, settings_of
from tests.system import eventually

pytestmark = pytest.mark.usefixtures("no_account")

ALL = ("postgres", "redis", "api", "worker", "beat", "postgres-exporter", "node-exporter", "prometheus", "alertmanager")


def _prometheus(settings: Settings, parts: tuple[str, ...] = ALL, interval: str | None = None) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(monitoring.prometheus_config(settings, parts, interval))
    return config


def test_prometheus_scrapes_this_machines_ports(layout: Layout) -> None:
    """The containers' file stays the source; jobs, labels and interval are its own."""
    config = _prometheus(settings_of(layout, API_PORT="8111", PROMETHEUS_PORT="9111"))
    targets = {job["job_name"]: job["static_configs"][0] for job in config["scrape_configs"]}
    assert set(targets) == {"backend", "celery-worker", "postgres", "node", "prometheus", "alertmanager"}
    assert targets["backend"]["targets"] == ["127.0.0.1:8111"]
    assert targets["prometheus"]["targets"] == ["127.0.0.1:9111"]
    assert all(target["labels"]["service"] for target in targets.values())
    assert config["global"]["scrape_interval"] == "15s"
    assert config["rule_files"] == [str(layout.root / "monitoring" / name) for name in ("alerts.yml", "recording.yml")]


def test_what_does_not_run_is_not_scraped(layout: Layout) -> None:
    """A target that can't be there would be an alert for ever."""
    config = _prometheus(settings_of(layout), ("postgres", "redis", "api", "worker", "beat", "prometheus"))
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
    settings = settings_of(layout)
    return parts.build(parts.Stack(settings, parts.cluster(settings), (part,), ()))[0].fingerprint


@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_changed_rules_restart_prometheus(own: Layout, name: str) -> None:
    """Else the next `up` goes on with the old ones, and says that all is well."""
    before = _fingerprint(own)
    assert _fingerprint(own) == before
    with (own.root / "monitoring" / name).open("a") as file:
        file.write("# Changed.\n")
    assert _fingerprint(own) != before


def test_files_of_rules_may_be_named_by_a_pattern_or_lie_deeper(own: Layout) -> None:
    """As Prometheus takes them; it is silent about a pattern that fits no file, and so is `up`."""
    folder = own.root / "monitoring"
    (folder / "own").mkdir()
    for file in ("own/more.yml", "recording2.yml"):
        (folder / file).write_text("groups: []\n")
    named = [f"/etc/prometheus/{name}" for name in ("alerts.yml", "recording*.yml", "own/more.yml", "none*.yml")]
    config = yaml.safe_load((folder / "prometheus.yml").read_text()) | {"rule_files": named}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    found = ["alerts.yml", "recording.yml", "recording2.yml", "own/more.yml", "none*.yml"]
    assert _prometheus(settings_of(own))["rule_files"] == [str(folder / name) for name in found]
    before = _fingerprint(own)
    (folder / "own" / "more.yml").write_text("groups: []\n# Changed.\n")
    assert _fingerprint(own) != before
    (folder / "alerts.yml").unlink()
    with pytest.raises(FileNotFoundError):
        _fingerprint(own)


def test_rules_and_queries_follow_the_release(own: Layout) -> None:
    """A `git pull` under it would judge a version's metrics by another's rules, and a way back would keep them."""
    home = _released(own)
    before = [_fingerprint(own, part) for part in ("prometheus", "postgres-exporter")]
    for name in ("alerts.yml", "recording.yml", "postgres-exporter/activity.yaml"):
        with (own.root / "monitoring" / name).open("a") as file:
            file.write("# Changed.\n")
    assert [_fingerprint(own, part) for part in ("prometheus", "postgres-exporter")] == before
    loaded = _prometheus(settings_of(own))["rule_files"]
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
    settings = settings_of(own)
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
    assert _prometheus(settings_of(own))["rule_files"] == [str(folder / "alerts.yml")]
    assert _fingerprint(own)
    queries = monitoring.exporter_queries(settings_of(own), has_collectors=False)
    assert queries.read_text() == (folder / "postgres-exporter" / "queries.yaml").read_text()


def test_a_metrics_token_goes_by_a_private_file(layout: Layout) -> None:
    """Not into a configuration that Prometheus shows on a page."""
    assert "authorization" not in _prometheus(settings_of(layout))["scrape_configs"][0]
    settings = settings_of(layout, METRICS_TOKEN="hush-hush")
    text = monitoring.prometheus_config(settings, ALL)
    assert "hush-hush" not in text
    file = Path(yaml.safe_load(text)["scrape_configs"][0]["authorization"]["credentials_file"])
    assert (file.read_text(), mode_of(file)) == ("hush-hush", 0o600)


def test_alertmanager_tells_this_machines_api(layout: Layout) -> None:
    """With the token, where one is set."""
    text = monitoring.alertmanager_config(settings_of(layout, API_PORT="8111", API_TOKEN="psst"))
    receivers = {each["name"]: each for each in yaml.safe_load(text)["receivers"]}
    for name in ("shadow", "backend-copy"):
        [hook] = receivers[name]["webhook_configs"]
        assert hook["url"] == "http://127.0.0.1:8111/api/v1/alerts/webhook"
        assert Path(hook["http_config"]["authorization"]["credentials_file"]).read_text() == "psst"


def test_promtool_takes_rules_and_configuration(layout: Layout) -> None:
    """Both the file in monitoring/ and what is made of it."""
    path = layout.data / "prometheus" / "prometheus.yml"
    path.write_text(monitoring.prometheus_config(settings_of(layout), ALL))
    for command in (["check", "config", str(path)], ["check", "rules", str(layout.root / "monitoring" / "alerts.yml")]):
        checked = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_redis_keeps_every_task_and_lets_in_who_has_the_password(layout: Layout) -> None:
    """Queued tasks lie there: none may be evicted for want of memory, or gone after a restart, or anybody's to read."""
    settings = settings_of(layout, REDIS_PORT=str(free_port()))
    [program] = parts.build(parts.Stack(settings, parts.cluster(settings), ("redis",), ()))
    config = Path(program.command[1])
    assert mode_of(config) == 0o600
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
        assert health._redis(settings) == ""
        other = {"REDIS_PORT": str(settings.port("REDIS_PORT")), "REDIS_PASSWORD": "another"}
        assert health._redis(settings_of(layout, **other)).startswith("invalid username-password pair")
    assert "refused" in health._redis(settings)
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
