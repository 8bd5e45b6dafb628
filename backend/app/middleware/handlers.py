"""Turns the errors that an application raises on purpose into problem+json, and counts them."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from app.errors import AppError
from app.middleware.errors import problem_response, record_error


def install_error_handlers(app: FastAPI) -> None:
    """Answer AppError, HTTPException and a request that does not fit; the boundary has the rest."""
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - registered for it alone
    record_error(request.scope, error.status, error)
    return _respond(error.status, title=error.title, detail=error.detail, headers=error.headers, errors=error.errors)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    record_error(request.scope, error.status_code, error)
    return _respond(error.status_code, detail=str(error.detail), headers=dict(error.headers or {}))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    record_error(request.scope, 422, error)
    # Never the input itself: it may hold a token.
    errors = [{key: each[key] for key in ("loc", "msg", "type")} for each in error.errors()]
    return _respond(422, detail="The request does not fit; see errors.", errors=errors)


def _respond(status: int, *, headers: dict[str, str] | None = None, **problem: Any) -> Response:
    body, raw = problem_response(status, **problem)
    has_body = status >= 200 and status not in {204, 304}  # noqa: PLR2004 - HTTP's own numbers
    response = Response(body if has_body else b"", status_code=status, headers=headers)
    for name, value in raw if has_body else ():
        response.headers[name.decode()] = value.decode()
    return response
