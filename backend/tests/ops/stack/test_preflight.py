"""What is found out before anything starts, and how it is said."""

import os
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ops.stack import accounts, lock, packages, ports, preflight
from ops.stack import layout as layouts
from ops.stack.errors import StackError, last_lines
from ops.stack.layout import Layout
from ops.stack.settings import Settings
from tests.native_stack import NativeStack


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(accounts, "ensure", lambda: None)
    layout = Layout(layouts.checkout(), tmp_path / "data")
    layout.make()
    free = {name: str(ports.free_port()) for name in ("POSTGRES_PORT", "REDIS_PORT", "API_PORT")}
    return Settings.load(layout, free)


@pytest.fixture
def listener(settings: Settings) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", settings.port("API_PORT"))) as server:
        yield server


def test_a_taken_port_is_named_with_its_variable_and_holder(settings: Settings, listener: socket.socket) -> None:
    """What is in the way, and one command that goes round it."""
    with pytest.raises(StackError) as caught:
        preflight.check_ports(settings, ["postgres", "api"])
    assert f"Port {listener.getsockname()[1]} (api) is taken by" in caught.value.problem
    assert f"PID {os.getpid()}" in caught.value.problem
    assert "API_PORT=" in caught.value.way_out
    assert "POSTGRES_PORT" not in caught.value.way_out


def test_free_ports_pass(settings: Settings) -> None:
    """And beat has none."""
    preflight.check_ports(settings, ["postgres", "redis", "api", "beat"])


def test_one_port_for_two_parts_is_refused(settings: Settings) -> None:
    """Both are free, and still only one could have it."""
    same = replace(settings, values={**settings.values, "REDIS_PORT": settings["POSTGRES_PORT"]})
    with pytest.raises(StackError, match="both"):
        preflight.check_ports(same, ["postgres", "redis"])


def test_a_machine_without_git_is_told_before_anything_starts(tmp_path: Path) -> None:
    """Else all parts are healthy, and each sync fails."""
    preflight.check_programs()
    stack = NativeStack(tmp_path / "data")
    refused = stack.run("up", PATH=str(tmp_path))
    stack.run("down", "--data")  # Had it started after all.
    assert refused.returncode == 1
    assert "There is no git in the PATH" in refused.stderr
    assert "apt-get install git" in refused.stderr


def test_a_full_disk_is_said_before_it_hurts(tmp_path: Path) -> None:
    """PostgreSQL on a full disk stops in the middle of things."""
    preflight.check_disk(tmp_path / "not" / "yet")
    with pytest.raises(StackError, match="Only 100 MB"):
        preflight.check_disk(tmp_path, free_bytes=100 * 1024**2)


def test_two_at_once_are_told_apart(tmp_path: Path) -> None:
    """Exit code 7 is what a script waits on."""
    path = tmp_path / "lock"
    with lock.held(path):
        with pytest.raises(StackError, match="at work") as caught, lock.held(path):
            pass
        assert caught.value.exit_code == 7
    with lock.held(path):
        pass


def test_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    """The end, not all of it; and a log that isn't there is no new error."""
    log = tmp_path / "api.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(log, 2) == "    line 99998\n    line 99999"
    assert last_lines(tmp_path / "none") == ""


class _Apt:
    """Stands in for the machine: takes commands, and makes the files a package would."""

    def __init__(self, root: Path, failures: int = 0) -> None:
        self.root = root
        self.commands: list[str] = []
        self.policy_while_installing: list[str] = []
        self._failures = failures

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(" ".join(command))
        if "install" not in command:
            return 0
        policy = self.root / "usr/sbin/policy-rc.d"
        assert policy.stat().st_mode & stat.S_IXUSR
        self.policy_while_installing.append(policy.read_text())
        if self._failures:
            self._failures -= 1
            return 100
        (self.root / "lib/systemd/system/prometheus.service").touch()
        return 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("usr/sbin", "var/lib/apt/lists", "lib/systemd/system", "etc/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/deb_main_binary-amd64_Packages.lz4").touch()
    (tmp_path / "lib/systemd/system/ssh.service").touch()
    return tmp_path


def test_packages_start_no_services(root: Path) -> None:
    """A second Redis on 6379 would be in the first one's way; afterwards the machine is as it was."""
    apt = _Apt(root)
    assert not packages.install(["prometheus"], prefix=[], root=root, run=apt)
    assert apt.policy_while_installing == [packages._REFUSE_STARTS]
    assert "exit 101" in packages._REFUSE_STARTS
    assert not (root / "usr/sbin/policy-rc.d").exists()
    [install] = apt.commands
    assert "--no-install-recommends --no-upgrade --no-remove prometheus" in install


def test_the_policy_is_gone_after_a_failure_too(root: Path) -> None:
    """Left behind, it would keep every later package from starting."""
    apt = _Apt(root, failures=2)
    assert packages.install(["prometheus"], prefix=[], root=root, run=apt) == "apt-get install failed."
    assert not (root / "usr/sbin/policy-rc.d").exists()


def test_the_policy_is_gone_after_an_interruption(root: Path) -> None:
    """Ctrl-C in a long download is no reason either."""

    def interrupted(_: Sequence[str]) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packages.install(["prometheus"], prefix=[], root=root, run=interrupted)
    assert not (root / "usr/sbin/policy-rc.d").exists()


def test_an_administrators_policy_stays(root: Path) -> None:
    """It isn't ours to change."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 104\n")
    policy.chmod(0o755)
    packages.install(["prometheus"], prefix=[], root=root, run=_Apt(root))
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_old_package_lists_are_fetched_anew(root: Path) -> None:
    """Missing ones before the first try, outdated ones before a second."""
    apt = _Apt(root, failures=1)
    assert not packages.install(["prometheus"], prefix=[], root=root, run=apt)
    assert [("update" in each) for each in apt.commands] == [False, True, False]
    next((root / "var/lib/apt/lists").iterdir()).unlink()
    apt = _Apt(root)
    packages.install(["prometheus"], prefix=[], root=root, run=apt)
    assert [("update" in each) for each in apt.commands] == [True, False]


def test_only_new_units_are_disabled_where_systemd_runs(root: Path) -> None:
    """At the next boot it would start them."""
    (root / "run/systemd/system").mkdir(parents=True)
    apt = _Apt(root)
    packages.install(["prometheus"], prefix=[], root=root, run=apt)
    assert apt.commands[-1] == "systemctl disable --now --quiet prometheus.service"
