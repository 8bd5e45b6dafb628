"""Errors: how one is raised, told to a client, and recognised when it comes again.

A leaf, like the ID. Says nothing about who logs or counts an error.
"""

import hashlib
from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
# RFC 9110's names; Python knows them from 3.13 on.
_RENAMED: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


class AppError(Exception):
    """A failure that has an HTTP status and a title a user may read.

    Args:
        status: HTTP status, 400 to 599.
        title: short and the same for every case of this error.
        detail: this case, in a sentence; safe to show.
        headers: further response headers, such as `WWW-Authenticate`.
        errors: for 422, which part of the request does not fit: `loc`, `msg`, `type` each.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors


def problem(
    status: int,
    request_id: str | None,
    *,
    title: str | None = None,
    detail: str | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the body of an error response.

    Source: RFC 9457, with `request_id` and, for 422, `errors` (`loc`, `msg`, `type` each).
    """
    if title is None:
        try:
            title = _RENAMED.get(status) or HTTPStatus(status).phrase
        except ValueError:
            title = "Error"
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail or title,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = errors
    return body


def error_type(error: BaseException) -> str:
    """Return the class name that stands in metrics and logs, without the module."""
    return type(error).__name__


_INLINED: Final = ("<listcomp>", "<dictcomp>", "<setcomp>")
# Of the whole process.
_own_packages: Final = {"app"}


def set_own_packages(names: Collection[str]) -> None:
    """Say whose functions make a fingerprint, by their top packages."""
    _own_packages.clear()
    _own_packages.update(names)


def fingerprint(error: BaseException, own_packages: Collection[str] = _own_packages) -> str:
    """Return 16 hex digits that are the same whenever the same code fails the same way.

    Made of the exception's type and the functions of `own_packages` on its way, without file paths, line numbers or
    the message, so that a shifted line, another host or other input changes nothing. The chain of causes counts too,
    and the members of a group, whatever their order.
    """
    parts = _parts(error, own_packages, set())
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _parts(error: BaseException, own_packages: Collection[str], seen: set[int]) -> list[str]:
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        parts.append(f"{type(link).__module__}.{type(link).__qualname__}")
        parts.extend(_own_frames(link.__traceback__, own_packages))
        if isinstance(link, BaseExceptionGroup):
            # Of tasks that failed alike, one says it all.
            parts.extend(sorted({"\n".join(_parts(each, own_packages, seen)) for each in link.exceptions}))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return parts


def _own_frames(traceback: TracebackType | None, own_packages: Collection[str]) -> list[str]:
    # Each once: how deep a recursion was is input, too.
    frames: dict[str, None] = {}
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        name = traceback.tb_frame.f_code.co_qualname
        # Comprehensions have frames of their own before Python 3.12 only.
        if module.partition(".")[0] in own_packages and not name.endswith(_INLINED):
            frames[f"{module}:{name}"] = None
        traceback = traceback.tb_next
    return list(frames)
