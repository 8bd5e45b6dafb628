"""What the engine says of a project's containers, in the words that `docker inspect` and `podman inspect` share."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ops.stack.errors import StackError

LABEL: Final = "com.docker.compose"
# How engines call an image that was named without a registry: podman in the one way, or, as Docker does, in the other.
_NO_REGISTRY: Final = ("localhost/", "docker.io/library/")


@dataclass(frozen=True, slots=True)
class Container:
    """One container: the image it was made of, what it was started with, and whether it runs.

    The image by name, without the registry that engines add where none was said.
    """

    image: str
    environment: Mapping[str, str]
    is_running: bool
    health: str = ""


def read(inspected: bytes) -> dict[str, list[Container]]:
    """Return the containers that `inspect` tells of, by service; one shots (`compose run`) are left out.

    Raises:
        StackError: it is no such answer.
    """
    found = defaultdict(list)
    try:
        for each in json.loads(inspected):
            config = each["Config"]
            labels = config["Labels"] or {}
            if labels.get(f"{LABEL}.oneoff", "False") != "True":
                pairs = (line.partition("=") for line in config["Env"] or ())
                made = Container(
                    _without_registry(config["Image"]),
                    {name: value for name, _, value in pairs},
                    bool(each["State"]["Running"]),
                    str((each["State"].get("Health") or {}).get("Status", "")),
                )
                found[labels.get(f"{LABEL}.service", "")].append(made)
    except (ValueError, KeyError, TypeError) as error:
        # Its text may be part of the answer, which holds settings.
        raise StackError(f"The engine tells of containers in other words ({type(error).__name__}).") from None
    return dict(found)


def _without_registry(name: str) -> str:
    return next((name.removeprefix(each) for each in _NO_REGISTRY if name.startswith(each)), name)


def deployed(
    held: Mapping[str, Sequence[Container]], noted: Mapping[str, Any], image: str, own: Sequence[str], layer: str
) -> dict[str, Any]:
    """Return what is deployed by the engine's word; what was noted, where our services are missing or differ.

    Args:
        held: the project's containers.
        noted: at the last start, as `deploy` takes it.
        image: our image's name, without its tag.
        own: the services that are made of it.
        layer: the switch that is read back.
    """
    if not all(held.get(name) for name in own):
        return dict(noted)
    ours = [each for name in own for each in held[name]]
    found = {(each.image, each.environment.get(layer, "true")) for each in ours}
    if len(found) != 1:
        # A start that was cut off: what it was to be is what is noted.
        return dict(noted)
    [(name, value)] = found
    base, _, tag = name.rpartition(":")
    if base.rpartition("/")[2] != image:
        return dict(noted)
    others = {switch: given for switch, given in noted["switches"].items() if switch != layer}
    switches = others if value == "true" else {**others, layer: value}
    stopped = [service for service in noted["stopped"] if presence_problem(held.get(service, []), wanted=True)]
    return {**noted, "commit": tag, "switches": switches, "stopped": stopped}


def health_problem(held: Sequence[Container]) -> str:
    """Return in words what the engine has to say against a service, or nothing."""
    problem = presence_problem(held, wanted=True)
    return problem or ("is unhealthy" if any(each.health == "unhealthy" for each in held) else "")


def strays(held: Sequence[Container], image: str, deployed: Mapping[str, Any]) -> str:
    """Return in words where a service is not what was deployed, or nothing.

    Args:
        held: its containers.
        image: by name, without a registry.
        deployed: as `deploy` takes it.
    """
    if problem := presence_problem(held, wanted=True):
        return problem
    others = {each.image for each in held if each.image != image}
    if others:
        return f"runs {', '.join(sorted(others))} instead of {image}"
    switches = deployed["switches"].items()
    off = [name for name, value in switches if any(each.environment.get(name) != value for each in held)]
    return f"was started without {', '.join(off)}" if off else ""


def presence_problem(held: Sequence[Container], *, wanted: bool) -> str:
    """Return in words that a service runs though it should not, or the other way round; or nothing."""
    runs = bool(held) and all(each.is_running for each in held)
    if wanted:
        return "" if runs else "does not run"
    return "runs, and should not" if any(each.is_running for each in held) else ""
