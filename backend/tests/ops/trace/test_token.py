"""The header that asks for a trail: what a person types, and what they and their scripts get."""

import time
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from ops.cli import cli
from ops.demo.api import Api
from ops.stack.layout import Layout
from ops.stack.settings import Settings
from ops.trace.token import trail_token

SECRET = "a secret of this test"


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout without a stack, and an environment without its settings."""
    (tmp_path / ".env.example").write_text("SECRET_KEY=\nAPI_HOST=127.0.0.1\nAPI_PORT=8000\nENVIRONMENT=development\n")
    for name in ("SECRET_KEY", "API_HOST", "API_PORT", "API_TOKEN", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ops.stack.layout.checkout", lambda: tmp_path)
    monkeypatch.setenv("COMMANDCENTER_DATA", str(tmp_path / "data"))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["trail-token", *arguments])


@pytest.mark.parametrize(("arguments", "minutes"), [((), 10), (("--minutes", "1"), 1), (("--minutes=1440",), 1440)])
def test_it_prints_what_to_type(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], minutes: int) -> None:
    """A person copies a line; a script reads the same token."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv("API_PORT", "8123")
    document = orjson.loads(run(*arguments, "--json").stdout)
    assert document["header"] == "X-Trail-Token"
    assert document["url"] == "http://127.0.0.1:8123/api/v1/repositories"
    expires_at = int(document["token"].partition(".")[0])
    assert document["token"] == trail_token(SECRET, expires_at)
    assert abs(expires_at - time.time() - minutes * 60) < 30
    assert document["expires_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at))
    shown = run(*arguments).stdout
    assert shown.startswith('curl -H "X-Trail-Token: ')
    assert "http://127.0.0.1:8123/api/v1/repositories" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("minutes", ["0", "-1", "1441", "ten", "1.5"])
def test_minutes_that_are_none_are_a_usage_error(monkeypatch: pytest.MonkeyPatch, minutes: str) -> None:
    """The service takes no token that holds for more than a day."""
    monkeypatch.setenv("SECRET_KEY", SECRET)
    assert run(f"--minutes={minutes}").exit_code == 2


def test_without_a_secret_it_says_where_to_get_one(checkout: Path) -> None:
    """And makes none: a token signed with a new secret would be refused without a word."""
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "SECRET_KEY" in result.stderr
    assert "make up" in result.stderr
    assert sorted(path.name for path in checkout.iterdir()) == [".env.example"]


def test_the_secret_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does in production; one that can't be read is said, and none is made."""
    file = tmp_path / "secret_key"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(file))
    token = str(orjson.loads(run("--json").stdout)["token"])
    assert token == trail_token(SECRET, int(token.partition(".")[0]))
    file.unlink()
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "SECRET_KEY_FILE can't be read" in result.stderr


def test_the_environment_goes_before_the_file_and_the_stacks_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order in which the service finds its secret."""

    def is_signed_with(secret: str) -> bool:
        token = str(orjson.loads(run("--json").stdout)["token"])
        return token == trail_token(secret, int(token.partition(".")[0]))

    layout = Layout.from_environment()
    layout.make()
    made = Settings.load(layout)["SECRET_KEY"]
    assert is_signed_with(made)
    (checkout / ".env").write_text("SECRET_KEY=of the file\n")
    assert is_signed_with("of the file")
    monkeypatch.setenv("SECRET_KEY", SECRET)
    assert is_signed_with(SECRET)


def test_a_file_is_enough(checkout: Path) -> None:
    """Where containers run, there is no native stack."""
    (checkout / ".env").write_text("SECRET_KEY=of the file\n")
    assert run().exit_code == 0


def test_a_guarded_api_is_asked_with_its_token(checkout: Path) -> None:
    """By its name: a secret in a shell's history stays there."""
    (checkout / ".env").write_text("SECRET_KEY=of the file\nAPI_TOKEN=hunter2\n")
    shown = run().stdout
    assert '-H "Authorization: Bearer $API_TOKEN"' in shown
    assert "hunter2" not in shown


ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - written down, not listened on.


@pytest.mark.parametrize(("host", "told"), [(ALL_INTERFACES, "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_is_one_that_can_be_asked(checkout: Path, host: str, told: str) -> None:
    """A service may listen on all interfaces; `curl` and a browser want one. The demo asks the same."""
    (checkout / ".env").write_text(f"SECRET_KEY=of the file\nAPI_HOST={host}\nAPI_PORT=8123\n")
    assert f"http://{told}:8123/api/v1/repositories" in run().stdout
    assert Api().base_url == f"http://{told}:8123"


def test_the_demo_sends_the_token_of_the_file(checkout: Path) -> None:
    """Where containers run, `.env` may lead to the file that they have."""
    (checkout / "api_token").write_text("hunter2\n")
    (checkout / ".env").write_text(f"API_TOKEN_FILE={checkout}/api_token\n")
    assert Api()._client.headers["Authorization"] == "Bearer hunter2"


def test_a_file_that_cannot_be_read_is_told_in_words(checkout: Path) -> None:
    (checkout / ".env").mkdir()
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Is a directory" in result.stderr
    assert "Traceback" not in result.stderr
