"""Which route template a request matched: bounded, unlike its path."""

from starlette.types import Scope


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
    # Inside a mounted application, Starlette moves the mount's part to root_path.
    return template or "/"
