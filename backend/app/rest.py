"""What all REST calls share: text that the database can hold, bodies that can't be read, and the truth in OpenAPI."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.errors import PROBLEM_MEDIA_TYPE

# NUL is the one character that PostgreSQL's text can't hold.
NO_NUL: Final = r"^[^\x00]*$"

_BAD_REQUEST: Final = 400
# An answer must not be many times its question.
_MAX_ERRORS: Final = 20
_MAX_NAME: Final = 100
_SCHEMAS: Final = "#/components/schemas/"


class FieldError(BaseModel):
    """One thing that does not fit. What was sent instead is not told: it may be a secret."""

    loc: list[str | int] = Field(description="Where: body, query or path, then names and positions.")
    msg: str
    type: str


class Problem(BaseModel):
    """An error, by RFC 9457."""

    type: Literal["about:blank"]
    title: str = Field(description="The same for every case of this error.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="This case, in a sentence.")
    request_id: str | None = Field(description="What to tell whoever is on call; null where the layer is off.")


class ValidationProblem(Problem):
    """A request that does not fit."""

    errors: list[FieldError] = Field(max_length=_MAX_ERRORS)


class _Silence(Response):
    """No answer: nobody listens any more. Whoever counts requests sees that it was never completed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


class JsonRoute(APIRoute):
    """A route whose request either fits or gets a 422 of bounded size.

    Left alone, FastAPI answers 400 to a body that can't be read as JSON (no UTF-8, too deep, an endless number), and
    also where the client went away while sending it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with these errors turned into what they are."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise RequestValidationError([_bounded(each) for each in error.errors()[:_MAX_ERRORS]]) from None
            except HTTPException as error:
                if isinstance(error.__cause__, ClientDisconnect):
                    return _Silence()
                if error.status_code != _BAD_REQUEST:
                    raise
                unreadable = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error", "input": None}
                raise RequestValidationError([unreadable]) from None

        return handler


def _bounded(error: dict[str, Any]) -> dict[str, Any]:
    return {**error, "loc": tuple(part[:_MAX_NAME] if isinstance(part, str) else part for part in error["loc"])}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route says of the errors it may answer with; those that all have are added by themselves."""
    return {status: _response(status) for status in statuses}


def _response(status: int) -> dict[str, Any]:
    schema = ValidationProblem if status == HTTPStatus.UNPROCESSABLE_ENTITY else Problem
    return {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + schema.__name__}}},
    }


def tell_the_truth(app: FastAPI) -> None:
    """Have `app` describe its errors as they are, in place of FastAPI's own, which we never send."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _mend(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _mend(schema: dict[str, Any]) -> None:
    for path in schema["paths"].values():
        for operation in path.values():
            common = [HTTPStatus.UNAUTHORIZED] if operation.get("security") else []
            if "requestBody" in operation:
                common.append(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            if "requestBody" in operation or "parameters" in operation:
                common.append(HTTPStatus.UNPROCESSABLE_ENTITY)
            operation["responses"] |= {str(int(status)): _response(status) for status in common}
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (Problem, ValidationProblem):
        own = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas |= own.pop("$defs", {})
        schemas[model.__name__] = own
