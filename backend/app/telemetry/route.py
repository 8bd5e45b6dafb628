"""Which route template a request matched: bounded, unlike its path."""

from typing import Final

from starlette.types import Scope

_MAX_PLACES: Final = 50
# Of the whole process.
_places: Final[set[str]] = set()


def route_template(scope: Scope) -> str | None:
    """Return the whole template, prefixes of routers and mounts included, or None where nothing matched.

    FastAPI keeps the prefixed route beside Starlette's own since 0.137; before, `route` held the prefix itself.
    """
    effective = (scope.get("fastapi") or {}).get("effective_route_context")
    route = effective or scope.get("route")
    if route is None:
        return None
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(template, str):
        return None
    return f"{_mounted_at(scope)}{template}" or "/"


def _mounted_at(scope: Scope) -> str:
    """Return where the application that answers is mounted; Starlette moved that from the path to `root_path`.

    It keeps the path and not its template, so what parameters hold is put back to their names. A value that isn't
    there as it was sent (`007` for 7) stays, and so only so many places are told: all others go by what is inside.
    """
    outside = scope.get("app_root_path")
    if outside is None:
        return ""
    prefix = str(scope.get("root_path", "")).removeprefix(outside)
    for name, value in (scope.get("path_params") or {}).items():
        before, found, after = f"{prefix}/".rpartition(f"/{value}/")
        if found:
            prefix = f"{before}/{{{name}}}/{after}".removesuffix("/")
    if len(_places) < _MAX_PLACES:
        _places.add(prefix)
    return prefix if prefix in _places else ""
