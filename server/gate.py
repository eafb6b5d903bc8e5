"""What stands before every request: whose host it names, which page it comes from, how large it is and how often it comes.

What the gate refuses never reaches an endpoint. In order:
1. `Host` must be one that this server is known by: a page of another site whose name was made to point here (DNS rebinding)
   names its own. Forwarded headers are not believed.
2. What a browser says of where a request comes from (`Origin`, `Sec-Fetch-Site`) must be here; another site may only link
   here. A request that changes something and has a cookie must say so.
3. Addresses and headers have a limit; a body with two lengths is refused, as is one that is not sound JSON.
4. Each token, and each address without one, may come so often in a minute.
Responses get headers that let a page use this server alone, unless the endpoint has set stricter ones.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.config import Config
from server.errors import ApiError
from server.identity import SCOPE_KEY, Presented, present
from server.limits import Buckets
from server.strict_json import problem_of

__all__ = ["Gate", "guard"]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = ("GET", "HEAD", "OPTIONS")
MAX_PATH, MAX_QUERY, MAX_HEADERS = 2048, 4096, 16_384  # bytes
BODY_SECONDS = 15.0  # for the whole of a body to come
WELCOME = 0.1  # what a stranger's request costs that is not refused

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

log = logging.getLogger("bbopt.server")


def guard(app: FastAPI, config: Config) -> Gate:
    """The app behind a gate. `app.state.access` must be there; it is what tokens are looked up in."""
    return Gate(app, config)


class Gate:
    """An ASGI app in front of another."""

    def __init__(self, app: FastAPI, config: Config) -> None:
        self.app = app
        self.config = config
        self.tokens = Buckets(config.rate_per_minute)
        self.strangers = Buckets(config.strangers_per_minute)
        self._hosts = config.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = ended = False
        stranger: str | None = None

        async def answer(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                _protect(message, scope["path"])
                if stranger is not None and message["status"] >= 400:
                    self.strangers.charge(stranger, 1.0 - WELCOME)
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            headers = Headers(scope=scope)
            check_address(scope, headers)
            check_host(headers, self._hosts)
            scope[SCOPE_KEY] = presented = present(headers, self.app.state.access, self.config.port)
            if not presented.identities:
                stranger = address_of(scope)
            self._check_rate(presented, stranger)
            check_origin(scope["method"], headers, presented.by_cookie, self.config.url)
            body = await read_body(headers, receive, self.config.max_body)
            await _run(self.app, scope, body, receive, answer)
        except ClientDisconnect:
            return
        except ApiError as error:
            await error.response()(scope, receive, answer)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            if not started:
                await ApiError(
                    503, "Stopping", "the server is being stopped; repeat the request when it is back"
                ).response()(scope, receive, answer)
        except Exception as error:
            if started and not ended:
                raise  # the connection is closed in the middle of the response, and it is logged
            if not started:  # an endpoint's own mistake is logged and answered before it comes here
                log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
                await ApiError(500, "Internal", "the server made a mistake, and has written it to its log").response()(
                    scope, receive, answer
                )

    def _check_rate(self, presented: Presented, stranger: str | None) -> None:
        if stranger is None:
            seconds = max(self.tokens.take(identity.link_id) for identity in presented.identities)
        else:
            seconds = self.strangers.take(stranger, WELCOME)
        if seconds:
            raise ApiError(429, "TooMany", f"expected fewer requests in a minute, got too many; wait {math.ceil(seconds)} seconds",
                           headers={"Retry-After": str(math.ceil(seconds))})  # fmt: skip


def check_address(scope: Scope, headers: Headers) -> None:
    """The method, path, query and headers as a whole. Raises ApiError."""
    if scope["method"] not in METHODS:
        raise ApiError(405, "MethodNotAllowed", f"{scope['method'][:20]!r} is no method that is used here", headers={"Allow": ", ".join(METHODS)})  # fmt: skip
    if len(scope.get("raw_path") or scope["path"].encode()) > MAX_PATH or len(scope["query_string"]) > MAX_QUERY:
        raise ApiError(414, "AddressTooLong", f"expected a path of at most {MAX_PATH} bytes and a query of at most {MAX_QUERY}, got more")  # fmt: skip
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
        raise ApiError(431, "HeadersTooLarge", f"expected headers of at most {MAX_HEADERS} bytes, got more")
    for text in (scope["path"], unquote(scope["query_string"].decode("latin-1"))):
        if not all(letter >= " " and letter != "\x7f" for letter in text):
            raise ApiError(400, "BadAddress", "expected an address without control characters, got one with them")
    if headers.get("transfer-encoding") and headers.get("content-length"):
        raise ApiError(400, "TwoLengths", "expected Content-Length or Transfer-Encoding, got both", headers={"Connection": "close"})  # fmt: skip


def check_host(headers: Headers, allowed: frozenset[str]) -> None:
    """The one Host header must be allowed, by name and port. Raises ApiError."""
    hosts = headers.getlist("host")
    host = hosts[0].lower() if len(hosts) == 1 else ""
    name = host[: -len(host.rpartition(":")[2]) - 1] if host.rpartition(":")[2].isdecimal() and ":" in host else host
    if host and (host in allowed or f"{name}:*" in allowed):
        return
    raise ApiError(
        400, "HostRefused",
        f"expected a host that this server is known by, got {host[:80] or 'none, or several'!r}; if people reach it by that, start it "
        f"with --allow-host {host[:80] or 'NAME'}",
    )  # fmt: skip


def check_origin(method: str, headers: Headers, by_cookie: bool, url: str | None) -> None:
    """A request of a browser must come from a page of this server, or be a link to one. Raises ApiError."""
    host = headers["host"].lower()
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}", url):
        raise ApiError(403, "OriginRefused", f"expected a page of this server, got a request from {origin[:80]!r}")
    if site in ("cross-site", "same-site"):
        link = method in SAFE and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"  # fmt: skip
        if not link:
            raise ApiError(403, "OriginRefused", "expected a page of this server, got a request from a page of another")
    if method not in SAFE and by_cookie and origin is None and site != "same-origin":
        raise ApiError(403, "OriginMissing", "expected Origin with a cookie, got none; programs send Authorization: Bearer TOKEN instead")  # fmt: skip


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """All of a body, which must be of no more than `limit` bytes and sound JSON. Raises ApiError, or ClientDisconnect."""
    too_large = ApiError(413, "TooLarge", f"expected a body of at most {limit} bytes, got more", headers={"Connection": "close"})  # fmt: skip
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > limit:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise ApiError(408, "TooSlow", f"expected the whole body in {BODY_SECONDS:.0f} seconds", headers={"Connection": "close"}) from None  # fmt: skip
    if not body:
        return b""
    kind, _, charset = headers.get("content-type", "").lower().partition(";")
    if kind.strip() != "application/json" or charset.strip() not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise ApiError(415, "NotJSON", f"expected Content-Type: application/json, got {headers.get('content-type', 'none')[:80]!r}")  # fmt: skip
    problem = problem_of(bytes(body))
    if problem is not None:
        raise ApiError(400, "BadRequest", problem)
    return bytes(body)


def address_of(scope: Scope) -> str:
    """The address a request comes from; for IPv6 the network of it, since one machine has all of that."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)


async def _run(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """The app, with a body that has come already."""
    read = False

    async def again() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    await app(scope, again, send)


def _protect(message: Message, path: str) -> None:
    """Add the headers that the response has not set itself."""
    headers = MutableHeaders(raw=message.setdefault("headers", []))
    if "content-security-policy" not in headers:
        headers["content-security-policy"] = POLICY
        headers["x-frame-options"] = "DENY"
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if not path.startswith("/static/"):
        headers.setdefault("cache-control", "no-store")
