"""Every refusal of the server, as JSON: `{"error": {"kind": "UnknownTrial", "message": "expected ..., got ...; do ..."}}`.

The one place where errors of `bbopt` become status codes: what does not exist is 404, what an earlier answer or the state
of the study stands against 409, what the request got wrong 422, a store that cannot be written 503.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import bbopt

log = logging.getLogger("bbopt.server")

_STATUS: tuple[tuple[type[bbopt.BboptError], int], ...] = (
    (bbopt.UnknownTrial, 404),
    (bbopt.StudyMissing, 404),
    (bbopt.StudyExists, 409),
    (bbopt.AlreadyTold, 409),
    (bbopt.Waiting, 409),
    (bbopt.Exhausted, 409),
    (bbopt.StoreError, 503),
    (bbopt.MissingPackage, 503),
)
_KINDS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge",
          422: "Unprocessable", 429: "TooMany"}  # fmt: skip
SHOWN = 200  # letters of a value in a message


class ApiError(Exception):
    """A request that is refused: `status`, `kind` (a word for programs) and `message` (a sentence for people).

    `extra` goes beside "error" in the body; `headers` are added to the response.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.extra, self.headers = dict(extra or {}), dict(headers or {})

    @classmethod
    def of(cls, error: bbopt.BboptError) -> ApiError:
        """The same refusal as an answer to a request."""
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 422)
        headers = {"Retry-After": "2"} if status == 503 or isinstance(error, bbopt.Waiting) else None
        return cls(status, type(error).__name__, str(error), headers=headers)

    def response(self) -> Response:
        return JSON({**error_body(self.kind, self.message), **self.extra}, self.status, headers=self.headers)


def error_body(kind: str, message: str) -> dict[str, Any]:
    """The body of every refusal.

    >>> error_body("NotFound", "there is nothing here")
    {'error': {'kind': 'NotFound', 'message': 'there is nothing here'}}
    """
    return {"error": {"kind": kind, "message": message}}


class JSON(JSONResponse):
    """A JSON response that never has NaN, Infinity or half a character in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


Page = Callable[[Request, int, str, str], Response | None]
"""A refusal for somebody who reads: request, status, kind, message; None where the request is a program's."""


def install(app: FastAPI, page: Page) -> None:
    """Give an app handlers for everything that goes wrong, so that no traceback leaves it."""

    def refuse(request: Request, error: ApiError) -> Response:
        shown = page(request, error.status, error.kind, error.message)
        if shown is None:
            return error.response()
        shown.headers.update(error.headers)
        return shown

    def bug(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return refuse(request, ApiError(500, "Internal", "the server made a mistake, and has written it to its log"))

    def handler(of: Callable[[Request, Any], ApiError]) -> Callable[[Request, Any], Response]:
        return lambda request, error: refuse(request, of(request, error))

    app.add_exception_handler(ApiError, handler(lambda _, error: error))
    app.add_exception_handler(bbopt.BboptError, handler(lambda _, error: ApiError.of(error)))
    app.add_exception_handler(RequestValidationError, handler(_invalid))
    app.add_exception_handler(HTTPException, handler(_plain))
    app.add_exception_handler(Exception, bug)


def _invalid(request: Request, error: RequestValidationError) -> ApiError:
    problems = error.errors()
    first = problems[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "BadRequest", "expected JSON in the body, got text that is not JSON")
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"{where[:SHOWN]}: {first['msg']}{more}; /openapi.json says what is expected"
    return ApiError(422, "Unprocessable", message)


def _plain(request: Request, error: HTTPException) -> ApiError:
    message, path = str(error.detail), request.url.path[:SHOWN]
    if error.status_code == 404:
        message = f"there is nothing at {path}; /openapi.json lists what there is"
    elif error.status_code == 405:
        message = f"{request.method[:20]} is not a method of {path}; /openapi.json lists them"
    elif error.status_code == 400:
        message = "expected a request whose body is JSON in UTF-8, got one that cannot be read"
    return ApiError(error.status_code, _KINDS.get(error.status_code, "Refused"), message, headers=error.headers)
