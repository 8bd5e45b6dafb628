"""The Alertmanager of a stack: what it is configured with, and who is told by that.

The native stack's is made at each `up`. The containers' is a file of the host, made by `commandcenter alerts config`
and mounted: what stands in it counts, whatever lies elsewhere by now.
"""

import re
from pathlib import Path
from typing import Final

import yaml

from ops.stack import monitoring, receivers
from ops.stack.errors import StackError
from ops.stack.settings import Settings

_URL_FILE: Final = re.compile(r"""\burl_file: *["']?[^\s,}"']+["']?""")
_STAND_IN: Final = "url: http://address-in-a-file.invalid/"


def mounted(settings: Settings) -> Path:
    """Return the file that Alertmanager's container has as its configuration."""
    return settings.layout.root / settings["SECRETS_DIR"] / "alertmanager" / "alertmanager.yml"


def configuration(settings: Settings, target: str) -> str:
    """Return the text of Alertmanager's configuration.

    Args:
        settings: of the stack.
        target: `native`: as the next `up` makes it; `compose`: as it is mounted.

    Raises:
        StackError: it can't be made, or the mounted file is not there or can't be read.
    """
    if target != "compose":
        return monitoring.alertmanager_config(settings)
    file = mounted(settings)
    try:
        return file.read_text()
    except FileNotFoundError:
        raise StackError(
            f"{file} is missing: without it Alertmanager's container does not start, and nobody is told.",
            f"Make it: {_made_by(settings)}; then docker compose up -d alertmanager",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(
            f"{file} can't be read ({type(error).__name__}).", f"chmod -R a+rX {file.parent}; or make it anew"
        ) from error


def tools(settings: Settings, target: str) -> dict[str, list[str]]:
    """Return by receiver which tools it tells people by.

    Raises:
        StackError: there is no configuration, or it is none.
    """
    text = configuration(settings, target)
    try:
        return receivers.tools(yaml.safe_load(text))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        if target != "compose":
            raise
        # Not its text: an address may stand in it.
        raise StackError(
            f"{mounted(settings)} is no configuration of Alertmanager ({type(error).__name__}).",
            f"Make it anew: {_made_by(settings)}; then docker compose restart alertmanager",
        ) from None


def addresses(settings: Settings, target: str) -> Path:
    """Return the folder of the receivers' files, be it there or not."""
    return mounted(settings).parent / "receivers" if target == "compose" else monitoring.receivers_folder(settings)


def nobody(settings: Settings, target: str) -> str:
    """Return in words why a receiver tells nobody."""
    if target == "compose":
        return f"nobody: no tool in {mounted(settings)}"
    return f"nobody: no file in {monitoring.receivers_folder(settings)}"


def outdated(settings: Settings, target: str) -> str:
    """Return in words that the mounted file is not what would be made now, with the way to it; or nothing.

    Somebody's own file differs, too; so this is no error.
    """
    if target != "compose":
        return ""
    file = mounted(settings)
    folder = addresses(settings, target)
    made = monitoring.container_alertmanager_config(settings, folder)
    if yaml.safe_load(made) == yaml.safe_load(configuration(settings, target)):
        return ""
    return (
        f"{file} is not what monitoring/alertmanager.yml and the files in {folder} give now. "
        f"Make it anew: {_made_by(settings)}; then docker compose restart alertmanager"
    )


def way_to_routes(settings: Settings, target: str) -> str:
    """Return in words where the routes can be put right."""
    if target == "compose":
        made_by = _made_by(settings)
        return f"Look at the routes in {mounted(settings)}. It is made of monitoring/alertmanager.yml: {made_by}"
    return "Look at the routes in monitoring/alertmanager.yml."


def for_amtool(text: str, amtool: Path) -> str:
    """Return a configuration as this amtool can read it.

    It opens none of the files that are named, so paths of the containers stay. Before 0.26 it does not know that a
    webhook's address can come from one, and takes the whole for broken: there it gets an address that leads nowhere.
    """
    return text if receivers.knows_url_files(amtool) else _URL_FILE.sub(_STAND_IN, text)


def _made_by(settings: Settings) -> str:
    file, folder = mounted(settings), addresses(settings, "compose")
    return (
        f"mkdir -p {folder} && commandcenter alerts config {folder} > {file} && chmod -R a+rX {file.parent} "
        "(docs/production.md, Deploy)"
    )
