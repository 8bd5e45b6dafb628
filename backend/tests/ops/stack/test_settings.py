"""Secrets, settings and folders of a stack: where they come from, and who may see them."""

import re
import shutil
from pathlib import Path

import pytest

from ops.stack import accounts, parts, secret_store
from ops.stack import layout as layouts
from ops.stack.errors import StackError
from ops.stack.inherited import from_shell
from ops.stack.layout import Layout
from tests.ops.stack.made import mode_of, settings_of

pytestmark = pytest.mark.usefixtures("no_account")

# Those that `.env.example` offers, but for the two addresses that this stack brings itself.
SECRETS = re.findall(
    r"^(?!DATABASE_URL|REDIS_URL)([A-Z_]+)=",
    (layouts.checkout() / ".env.example").read_text().partition("# --- Secrets")[2].partition("# ---")[0],
    re.MULTILINE,
)


def test_secrets_are_private_and_stay_the_same(layout: Layout) -> None:
    """New secrets at the second start would lock us out of our own database."""
    first = secret_store.load_or_make(layout.data / "secrets.env", production=False)
    assert mode_of(layout.data / "secrets.env") == 0o600
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
    assert (mode_of(path), path.read_text()) == (0o600, "new")
    assert not secret_store.write_private(path, "new")


def test_environment_files_are_read_like_a_shell_would() -> None:
    """`.env` is written by people."""
    text = "# no\nA=1\nexport B='two words'\nC=\"x # y\"\nD=z  # why\nE=\nno setting\nF=a=b\n"
    assert secret_store.parse(text) == {"A": "1", "B": "two words", "C": "x # y", "D": "z", "F": "a=b"}


def test_a_secret_comes_from_the_file_that_is_named(layout: Layout, tmp_path: Path) -> None:
    """As .env.example offers it. Two answers to one question are none."""
    file = tmp_path / "key"
    file.write_text("a key that stands in a file of its own\n")
    settings = settings_of(layout, SECRET_KEY_FILE=str(file))
    assert settings["SECRET_KEY"] == "a key that stands in a file of its own"
    assert "SECRET_KEY_FILE" not in settings.for_app()
    with pytest.raises(StackError, match="both set"):
        settings_of(layout, SECRET_KEY_FILE=str(file), SECRET_KEY="another key, in the environment")
    with pytest.raises(StackError, match="can't be read"):
        settings_of(layout, SECRET_KEY_FILE=str(tmp_path / "gone"))
    file.write_text("\n")
    with pytest.raises(StackError, match="empty"):
        settings_of(layout, SECRET_KEY_FILE=str(file))


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_come_from_a_file(layout: Layout, tmp_path: Path, name: str) -> None:
    """API_TOKEN_FILE that is dropped is an API without a guard, and nobody is told."""
    file = tmp_path / "secret"
    file.write_text("of a file of its own, longer than 32 characters\n")
    assert settings_of(layout, **{f"{name}_FILE": str(file)})[name] == "of a file of its own, longer than 32 characters"


def test_no_former_key_is_no_mistake(layout: Layout, tmp_path: Path) -> None:
    """The file is there from the first day on, and empty again after each change of keys. Not so a token's."""
    file = tmp_path / "secret"
    file.write_text("\n")
    assert not settings_of(layout, SECRET_KEY_FALLBACKS_FILE=str(file)).get("SECRET_KEY_FALLBACKS")
    with pytest.raises(StackError, match="API_TOKEN_FILE leads to an empty file"):
        settings_of(layout, API_TOKEN_FILE=str(file))


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_copy_of_the_example_changes_nothing(layout: Layout, tmp_path: Path, environment: str) -> None:
    """`.env.example` is to be copied: `make up` must not work another way for that."""
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copy(layout.root / ".env.example", root)
    copied = Layout(root, layout.data)
    without = settings_of(copied, ENVIRONMENT=environment)
    shutil.copy(root / ".env.example", root / ".env")
    assert dict(settings_of(copied, ENVIRONMENT=environment).values) == dict(without.values)
    assert not settings_of(copied).ignored


def test_a_number_that_is_none_is_said(layout: Layout) -> None:
    assert settings_of(layout, POSTGRES_LOG_MIN_DURATION_MS="-1").integer("POSTGRES_LOG_MIN_DURATION_MS") == -1
    with pytest.raises(StackError, match="POSTGRES_LOG_MIN_DURATION_MS is 'abc'"):
        parts.cluster(settings_of(layout, POSTGRES_LOG_MIN_DURATION_MS="abc"))


def test_a_shell_leads_no_part_elsewhere() -> None:
    """What libraries believe before what they are told."""
    shell = {
        "PATH": "/usr/bin", "LC_ALL": "C", "SSH_AUTH_SOCK": "/run/agent", "PGHOSTADDR": "127.0.0.9",
        "CELERY_BROKER_URL": "redis://elsewhere", "DATA_SOURCE_NAME": "postgresql://elsewhere", "API_TOKEN": "secret",
    }  # fmt: skip
    assert from_shell(shell) == {"PATH": "/usr/bin", "LC_ALL": "C", "SSH_AUTH_SOCK": "/run/agent"}


def test_the_real_environment_wins(layout: Layout) -> None:
    """Over made secrets and over defaults; an empty variable is as good as none."""
    settings = settings_of(layout, API_PORT="8111", SECRET_KEY="s" * 40, REDIS_PORT="")
    assert settings.port("API_PORT") == 8111
    assert settings["SECRET_KEY"] == "s" * 40
    assert settings.port("REDIS_PORT") == 6379


def test_a_database_url_left_in_the_shell_is_not_used(layout: Layout) -> None:
    """Migrations in somebody else's database are no way to begin."""
    settings = settings_of(layout, DATABASE_URL="postgresql://me@elsewhere/precious", REDIS_URL="redis://elsewhere")
    assert settings.ignored == ("DATABASE_URL", "REDIS_URL")
    assert "elsewhere" not in settings.for_app()["DATABASE_URL"] + settings.for_app()["REDIS_URL"]
    # Said too where it stands in a file.
    assert settings_of(layout, REDIS_URL_FILE="/run/secrets/redis_url").ignored == ("REDIS_URL_FILE",)


def test_services_do_not_learn_the_superusers_password(layout: Layout) -> None:
    """Each part knows its own secrets only."""
    settings = settings_of(layout)
    assert settings["POSTGRES_PASSWORD"] not in settings.for_app().values()
    assert settings["EXPORTER_PASSWORD"] not in settings.for_app().values()


@pytest.mark.parametrize("text", ["0", "65536", "abc", "-1", "80.5"])
def test_a_port_that_is_none_is_named(layout: Layout, text: str) -> None:
    """With its variable and what was in it."""
    with pytest.raises(StackError, match=r"API_PORT .*no port"):
        settings_of(layout, API_PORT=text).port("API_PORT")


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


def test_a_database_moves_to_where_its_account_can_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in /root is closed to PostgreSQL's account, and its rights are not ours to widen.

    Whoever isn't root runs PostgreSQL under the account that made the checkout.
    """
    closed, outside = tmp_path / "closed", tmp_path / "outside"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(layouts, "_SYSTEM_FOLDER", outside)
    if accounts.is_root():
        monkeypatch.setattr(accounts, "ensure", lambda: accounts.find("nobody"))
    layout = Layout(layouts.checkout(), closed / "data")
    layout.make()
    assert layout.postgres_home.is_relative_to(outside if accounts.is_root() else layout.data)
    assert mode_of(closed) == 0o700
    home = [layout.postgres_home.parent] if accounts.is_root() else []
    assert layout.delete() == [layout.data, *home]


def test_a_deep_checkout_gets_a_short_private_socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes 107 bytes."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    deep = Layout(layouts.checkout(), tmp_path / ("x" * 60) / ("y" * 60))
    deep.make()
    assert deep.socket.parent.parent == tmp_path
    assert mode_of(deep.socket.parent) == 0o700
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
