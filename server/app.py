"""The server as an ASGI app: endpoints and pages behind the gate, with a description that says every status.

`server.run` serves it; tests call it in their own process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool

import bbopt
from server import api_access, api_owner, api_people, api_programs, errors, pages
from server.access import Access
from server.api_programs import Keys
from server.config import Config
from server.errors import JSON
from server.gate import Gate, guard
from server.models import Refusal
from server.rooms import Rooms

ABOUT = """\
People rank candidates, programs of any language ask and tell; one server on one store of bbopt studies.

A token is sent as `Authorization: Bearer TOKEN`; browsers send the cookie that POST /v1/session sets. Every refusal is JSON:
`{"error": {"kind", "message"}}`. Answers and results are on the disk before they are acknowledged, and sending one again
records it once.
"""
ALWAYS = {
    400: "A request that cannot be read, or for another host.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "From a page of another site, or a token of another role.",
    408: "The body did not come in time.",
    413: "A body that is too large.",
    414: "An address that is too long.",
    415: "A body that is not JSON by its Content-Type.",
    422: "A value that does not fit; the message says which and why.",
    429: "Too many requests; Retry-After says when to come again.",
    431: "Headers that are too large.",
    503: "The store cannot be written now; nothing was recorded, repeat the request.",
}


def create_app(config: Config) -> Gate:
    """The server for a store. Raises UsageError or StoreError where the store or a renderer cannot be had.

    `.app.state` of what comes back has config, access and rooms.
    """
    access = Access(config.access_file)
    try:
        rooms = Rooms(config, access)
    except BaseException:
        access.close()
        raise

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        rooms.start()
        try:
            yield
        finally:
            await run_in_threadpool(rooms.close)

    app = FastAPI(title="bbopt", version=bbopt.__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=life,
                  default_response_class=JSON)  # fmt: skip
    app.state.config, app.state.access, app.state.rooms, app.state.keys = config, access, rooms, Keys()
    errors.install(app, pages.error_page)
    for part in (api_people, api_programs, api_owner, api_access):
        app.include_router(part.router)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", pages.static_files())
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    return guard(app, config)


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the statuses that every endpoint may have: the gate and the handlers give them."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(_schemas_of(Refusal))
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status, description in ALWAYS.items():
                if str(status) not in responses or status == 422:
                    responses[str(status)] = {"description": description, "content": body}
            if "{" in path and "404" not in responses:
                responses["404"] = {"description": "There is no such thing, for this token.", "content": body}
    app.openapi_schema = document
    return document


def _schemas_of(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}
