"""Who is told of alerts: an integration stays in Alertmanager's configuration where the file with its address lies.

In one folder, each file for one kind; docs/alerting.md lists them. An operator without Slack has no file for it, and so
a configuration without it. What is in a file is never quoted in an error.
"""

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ops.stack.errors import StackError
from ops.stack.secret_store import parse

# Where containers have the folder.
MOUNTED: Final = "/etc/alertmanager/receivers/"
_STAND_IN: Final = ".invalid"
_EMAIL_KEYS: Final = {"to": "TO", "from": "FROM", "smarthost": "SMARTHOST"}
_URL_FILE_SINCE: Final = (0, 26)

Config = dict[str, Any]


def fill_in(config: Config, folder: Path, *, seen_as: str, url_files: bool) -> Config:
    """Return Alertmanager's configuration with the integrations that have their files, and no other.

    Args:
        config: as in monitoring/alertmanager.yml.
        folder: where the files lie.
        seen_as: the same folder as Alertmanager sees it.
        url_files: whether Alertmanager reads a webhook's address from a file; if not, it is put in.

    Raises:
        StackError: a file can't be read, or doesn't hold what it should.
    """
    # Aliases of YAML are one object in several places.
    filled = copy.deepcopy(config) | {"receivers": []}
    for receiver in config["receivers"]:
        kept: Config = {"name": receiver["name"]}
        for kind, integrations in receiver.items():
            if kind == "name":
                continue
            complete = [_complete(kind, copy.deepcopy(each), folder, url_files) for each in integrations]
            present = [_moved(each, seen_as) for each in complete if each is not None]
            if present:
                kept[kind] = present
        filled["receivers"].append(kept)
    return filled


def tools(config: Config) -> dict[str, list[str]]:
    """Return by receiver which tools it tells, as `slack` or `email`; the backend's copy is no tool of people."""
    return {
        receiver["name"]: [
            kind.removesuffix("_configs")
            for kind, integrations in receiver.items()
            if kind != "name" and not all(_is_backend(each) for each in integrations)
        ]
        for receiver in config["receivers"]
    }


def knows_url_files(program: Path) -> bool:
    """Whether this Alertmanager has `url_file` for webhooks. Debian 12's has not."""
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    version = re.search(r"version (\d+)\.(\d+)", asked.stdout + asked.stderr)
    return version is None or tuple(map(int, version.groups())) >= _URL_FILE_SINCE


def _is_backend(integration: Config) -> bool:
    return str(integration.get("url", "")).endswith("/api/v1/alerts/webhook")


def _complete(kind: str, integration: Config, folder: Path, url_files: bool) -> Config | None:
    """Return an integration with its addresses, or None without its file."""
    if kind == "webhook_configs" and not _is_backend(integration):
        return _webhook(integration, folder, url_files)
    if kind == "email_configs":
        return _email(integration, folder)
    return integration if all(_held(folder / name) for name in _files(integration)) else None


def _files(integration: Config) -> Iterator[str]:
    for key, value in integration.items():
        if key.endswith("_file") and value.startswith(MOUNTED):
            yield value.removeprefix(MOUNTED)


def _webhook(integration: Config, folder: Path, url_files: bool) -> Config | None:
    host = urlsplit(integration["url"]).hostname or ""
    name = host.removesuffix(_STAND_IN).replace("-", "_")
    url = _held(folder / name)
    if not url:
        return None
    if not re.fullmatch(r"https?://\S+", url):
        raise StackError(
            f"{folder / name} holds no URL.", "One line: http:// or https://, and the rest of the address."
        )
    del integration["url"]
    return {"url_file": MOUNTED + name, **integration} if url_files else {"url": url, **integration}


def _email(integration: Config, folder: Path) -> Config | None:
    text = _held(folder / "email")
    if not text:
        return None
    given = parse(text)
    missing = [name for name in _EMAIL_KEYS.values() if name not in given]
    if missing:
        raise StackError(f"{folder / 'email'} lacks {', '.join(missing)}.", "One line each: NAME=value.")
    integration |= {key: given[name] for key, name in _EMAIL_KEYS.items()}
    if "USERNAME" in given:
        integration["auth_username"] = given["USERNAME"]
    else:
        del integration["auth_username"], integration["auth_password_file"]
    if given.get("TLS", "true").lower() == "false":
        integration["require_tls"] = False
    return integration


def _moved(integration: Config, seen_as: str) -> Config:
    return {
        key: seen_as.rstrip("/") + "/" + value.removeprefix(MOUNTED) if str(value).startswith(MOUNTED) else value
        for key, value in integration.items()
    }


def _held(file: Path) -> str:
    try:
        return file.read_text().strip() if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(
            f"{file} can't be read ({type(error).__name__}).", "Make it readable text, or remove it."
        ) from None
