"""The gate in front of a small app: what it lets through, what it refuses and with which words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from server import errors, gate
from server.access import Access, Identity
from server.config import Config
from server.identity import cookie_name, found, require

BASE = "http://127.0.0.1:8000"
Anyone = Annotated[Identity, Depends(require())]
Rater = Annotated[Identity, Depends(require("rater"))]


def small_app(access: Access) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    errors.install(app, lambda request, status, kind, message: None)
    app.state.access = access

    @app.api_route("/v1/echo", methods=["POST", "PUT"])
    async def echo(request: Request, who: Anyone) -> dict[str, Any]:
        return {"who": who.name, "size": len(await request.body())}

    @app.get("/v1/studies/{study}/me")
    async def me(study: str, who: Rater) -> dict[str, str]:
        return {"who": who.name, "study": study}

    @app.get("/page")
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("owner" if found(request, "owner") else "nobody")

    @app.get("/media")
    async def media() -> PlainTextResponse:
        return PlainTextResponse("x", headers={"Content-Security-Policy": "sandbox", "Cache-Control": "private"})

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("secret details")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("broke in the middle")

        return StreamingResponse(pieces())

    return app


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    with contextlib.closing(Access(tmp_path / "a")) as opened:
        yield opened


class Caller:
    """Requests to a guarded app, without sockets."""

    def __init__(self, access: Access, **settings: Any) -> None:
        self.config = Config(Path("runs.db"), **settings)
        self.gate = gate.guard(small_app(access), self.config)

    def __call__(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.gate, client=("192.0.2.1", 1))
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                return await client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)

        response = asyncio.run(call())
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in response.headers
        if response.status_code >= 400:
            error = response.json()["error"]
            assert set(error) == {"kind", "message"} and response.headers["content-type"] == "application/json"
            assert "expected" in error["message"] or response.status_code in (404, 405, 500)
        return response


@pytest.fixture
def call(access: Access) -> Caller:
    return Caller(access)


@pytest.fixture
def ann(access: Access) -> str:
    return access.issue("rater", "s", "ann")[1]


# -- hosts and origins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_its_own_names(call: Caller, host: str) -> None:
    assert call("GET", "/page", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "localhost:80", "127.0.0.1:8000.evil.example", "", ":8000",
     "evil.example@127.0.0.1:8000", "127.0.0.1:8000@evil.example", "localhost:8000:8000", "localhost.:8000", "2130706433:8000",
     "localhost:8000,evil.example", "localhost:*"],
)  # fmt: skip
def test_other_names(call: Caller, host: str) -> None:
    response = call("GET", "/page", headers={"Host": host})
    assert (response.status_code, response.json()["error"]["kind"]) == (400, "HostRefused")


def test_forwarded_hosts_are_not_believed(call: Caller) -> None:
    forwarded = {
        "X-Forwarded-Host": "localhost:8000",
        "Forwarded": "host=localhost:8000",
        "X-Forwarded-For": "127.0.0.1",
    }
    assert call("GET", "/page", headers={"Host": "evil.example", **forwarded}).status_code == 400
    assert call("GET", "/page", headers={"X-Forwarded-Host": "evil.example"}).text == "nobody"


def test_two_hosts_or_none(call: Caller) -> None:
    with pytest.raises(errors.ApiError, match="several"):
        gate.check_host(gate.Headers(raw=[(b"host", b"localhost:8000")] * 2), call.config.hosts)
    with pytest.raises(errors.ApiError, match="none"):
        gate.check_host(gate.Headers(raw=[]), call.config.hosts)


def test_names_that_are_allowed(access: Access) -> None:
    call = Caller(access, allowed_hosts=("rank.example.org", "other.example:9000"), url="https://People.example")
    for host in ("rank.example.org", "rank.example.org:1234", "other.example:9000", "people.example", "localhost:8000"):
        assert call("GET", "/page", headers={"Host": host}).status_code == 200, host
    for host in (
        "other.example",
        "people.example:8000",
        "x.rank.example.org",
        "rank.example.org.evil",
        "rank.example.org:x",
    ):
        assert call("GET", "/page", headers={"Host": host}).status_code == 400, host


def test_origins(call: Caller, ann: str) -> None:
    for method in ("POST", "PUT"):
        assert call(method, "/v1/echo", ann, headers={"Origin": BASE}).status_code == 200
        for origin in ("http://evil.example", "null", "", "http://127.0.0.1:8001", "http://localhost:8000", "file://", f"{BASE}.evil.example"):  # fmt: skip
            response = call(method, "/v1/echo", ann, headers={"Origin": origin})
            assert (response.status_code, response.json()["error"]["kind"]) == (403, "OriginRefused"), origin
    assert call("GET", "/page", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_page_behind_a_proxy(access: Access, ann: str) -> None:
    call = Caller(access, url="https://rank.example.org")
    for host in ("rank.example.org", "127.0.0.1:8000"):  # a proxy may or may not pass the name on
        assert (
            call("POST", "/v1/echo", ann, headers={"Host": host, "Origin": "https://rank.example.org"}).status_code
            == 200
        )


def test_pages_of_other_sites_may_only_link_here(call: Caller) -> None:
    link = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for site in ("cross-site", "same-site"):
        assert call("GET", "/page", headers={"Sec-Fetch-Site": site, **link}).status_code == 200
        for other in ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
                      {**link, "Sec-Fetch-Dest": "iframe"}, {}):  # fmt: skip
            assert call("GET", "/page", headers={"Sec-Fetch-Site": site, **other}).status_code == 403
        assert call("POST", "/v1/echo", headers={"Sec-Fetch-Site": site, **link}).status_code == 403
    for site in ("same-origin", "none"):
        assert call("GET", "/page", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_a_cookie_needs_an_origin_to_change_something(call: Caller, ann: str) -> None:
    cookie = {"Cookie": f"{cookie_name(8000, 'rater', 's')}={ann}"}
    response = call("POST", "/v1/echo", headers=cookie)
    assert (response.status_code, response.json()["error"]["kind"]) == (403, "OriginMissing")
    assert call("POST", "/v1/echo", headers={**cookie, "Origin": BASE}).status_code == 200
    assert call("POST", "/v1/echo", headers={**cookie, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert call("POST", "/v1/echo", headers={**cookie, "Origin": "http://evil.example"}).status_code == 403
    assert call("GET", "/v1/studies/s/me", headers=cookie).json() == {"who": "ann", "study": "s"}


# -- who ---------------------------------------------------------------------------------------------------------------


def test_who_gets_in(call: Caller, access: Access, ann: str) -> None:
    assert call("GET", "/v1/studies/s/me", ann).json()["who"] == "ann"
    for token, status, kind in (
        (None, 401, "TokenMissing"),
        ("nonsense", 401, "TokenRefused"),
        (ann + "x", 401, "TokenRefused"),
    ):
        response = call("GET", "/v1/studies/s/me", token)
        assert (response.status_code, response.json()["error"]["kind"]) == (status, kind)
        assert response.headers["www-authenticate"] == "Bearer"
    response = call("GET", "/v1/studies/other/me", ann)
    assert (response.status_code, response.json()["error"]["kind"]) == (404, "StudyMissing")
    response = call("GET", "/v1/studies/s/me", access.issue("owner", None, "me")[1])
    assert (response.status_code, response.json()["error"]["message"]) == (403, "expected the token of a rater, got that of an owner")  # fmt: skip


def test_a_token_comes_in_a_header_or_a_cookie_alone(call: Caller, ann: str) -> None:
    assert call("GET", f"/v1/studies/s/me?token={ann}&access_token={ann}").status_code == 401
    assert call("GET", "/v1/studies/s/me", headers={"Cookie": f"bbopt_session={ann}"}).status_code == 401
    assert call("GET", "/v1/studies/s/me", headers={"Authorization": f"Basic {ann}"}).status_code == 401
    assert call("GET", "/v1/studies/s/me", headers={"Authorization": f"bearer   {ann}"}).status_code == 200


def test_a_cookie_of_another_role_study_or_port_is_not_taken(call: Caller, ann: str) -> None:
    for name in (cookie_name(8000, "owner", None), cookie_name(8000, "rater", "t"), cookie_name(8001, "rater", "s")):
        assert call("GET", "/v1/studies/s/me", headers={"Cookie": f"{name}={ann}"}).status_code == 401


def test_one_browser_may_be_owner_and_rater(call: Caller, access: Access, ann: str) -> None:
    owner = access.issue("owner", None, "me")[1]
    both = {"Cookie": f"{cookie_name(8000, 'owner', None)}={owner}; {cookie_name(8000, 'rater', 's')}={ann}"}
    assert call("GET", "/page", headers=both).text == "owner"
    assert call("GET", "/page?role=rater", headers=both).text == "nobody"
    assert call("GET", "/v1/studies/s/me", headers=both).json()["who"] == "ann"
    same = {**both, "Origin": BASE}
    assert call("POST", "/v1/echo", headers=same).json()["who"] == "me"
    assert call("POST", "/v1/echo?role=rater", headers=same).json()["who"] == "ann"
    assert call("POST", "/v1/echo?role=program", headers=same).status_code == 403
    wrong = call("POST", "/v1/echo", "nonsense", headers=same)
    assert wrong.status_code == 401, "with an Authorization header, cookies are not looked at"


# -- sizes and shapes --------------------------------------------------------------------------------------------------


def stream(*pieces: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def flow() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return flow


JSON = {"Content-Type": "application/json"}


def test_bodies_have_a_limit_of_bytes_however_they_come(access: Access, ann: str) -> None:
    call = Caller(access, max_body=1000)
    fits = json.dumps("x" * 998).encode()
    assert call("POST", "/v1/echo", ann, content=fits, headers=JSON).json()["size"] == 1000
    assert call("POST", "/v1/echo", ann, content=stream(fits[:500], fits[500:])(), headers=JSON).json()["size"] == 1000
    for content in (fits + b" ", stream(fits, b" ")(), stream(b" " * 600, b" " * 600)()):
        response = call("POST", "/v1/echo", ann, content=content, headers=JSON)
        assert (response.status_code, response.json()["error"]["kind"]) == (413, "TooLarge")
    for length in ("1001", "9" * 30, "-1", "1e3", "x", "٣"):
        with pytest.raises(errors.ApiError, match="at most 1000 bytes"):
            asyncio.run(gate.read_body(gate.Headers(raw=[(b"content-length", length.encode())]), never, 1000))


async def never() -> Any:
    await asyncio.Event().wait()


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)
    with pytest.raises(errors.ApiError) as caught:
        asyncio.run(gate.read_body(gate.Headers(raw=[]), never, 1000))
    assert caught.value.status == 408 and caught.value.headers["Connection"] == "close"


def test_whoever_hangs_up_gets_no_answer(call: Caller, ann: str) -> None:
    sent: list[Any] = []

    async def hung_up() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost:8000"), (b"authorization", f"Bearer {ann}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/echo", "query_string": b"", "headers": headers, "raw_path": b"/v1/echo"}  # fmt: skip
    asyncio.run(call.gate(scope, hung_up, send))
    assert sent == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [("application/json", 200), ("Application/JSON; charset=UTF-8", 200), ("application/json; charset=utf-16", 415),
     ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415), ("", 415)],
)  # fmt: skip
def test_only_json_is_read(call: Caller, ann: str, kind: str, status: int) -> None:
    """A form of another site cannot send JSON without asking first."""
    assert call("POST", "/v1/echo", ann, content=b"{}", headers={"Content-Type": kind}).status_code == status


def test_only_sound_json_is_read(call: Caller, ann: str) -> None:
    for body in (b"NaN", b'{"a": 1, "a": 2}', b"[" * 100 + b"]" * 100, b'"\\ud800"', b"{"):
        response = call("POST", "/v1/echo", ann, content=body, headers=JSON)
        assert (response.status_code, response.json()["error"]["kind"]) == (400, "BadRequest")


def test_addresses_and_headers_have_limits(call: Caller) -> None:
    for path, headers, status in (
        ("/" + "x" * 2048, {}, 414),
        ("/page?" + "x" * 4097, {}, 414),
        ("/page", {"X": "x" * 17_000}, 431),
        ("/page", {f"X-{number}": "y" * 20 for number in range(1000)}, 431),
        ("/page%00", {}, 400),
        ("/page%0d%0aSet-Cookie:x", {}, 400),
        ("/page?x=%00", {}, 400),
        ("/page", {"Content-Length": "3", "Transfer-Encoding": "chunked"}, 400),
    ):
        assert call("GET", path, headers=headers).status_code == status, (path[:20], status)
    for method in ("TRACE", "CONNECT", "BREW"):
        response = call(method, "/page")
        assert response.status_code == 405 and "GET" in response.headers["allow"]
    for override in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert call("GET", "/v1/echo", headers={override: "POST"}).status_code == 405


def test_the_app_s_own_refusals_are_json_too(call: Caller, ann: str) -> None:
    assert call("GET", "/nowhere").status_code == 404
    assert "POST" in call("DELETE", "/v1/echo", ann).headers["allow"]


def test_a_mistake_of_ours_is_a_500_without_details_and_is_logged_once(call: Caller, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    with caplog.at_level(logging.ERROR):
        response = call("GET", "/bug")
    assert response.status_code == 500 and "secret" not in response.text and "Traceback" not in response.text
    assert [record.getMessage() for record in caplog.records] == ["GET /bug failed"]
    with pytest.raises(RuntimeError, match="in the middle"):
        call("GET", "/half")


def test_the_gate_s_own_mistake_is_a_500(call: Caller, access: Access, caplog: pytest.LogCaptureFixture) -> None:
    access.close()
    with caplog.at_level(logging.CRITICAL):
        assert call("GET", "/v1/studies/s/me", "x").status_code == 500


def test_headers(call: Caller, ann: str) -> None:
    page = call("GET", "/page").headers
    policy = dict(part.strip().partition(" ")[::2] for part in page["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src", "form-action")} == {"'self'"}
    assert (page["referrer-policy"], page["cross-origin-resource-policy"]) == ("no-referrer", "same-origin")
    assert (page["cross-origin-opener-policy"], page["x-frame-options"]) == ("same-origin", "DENY")
    assert page["cache-control"] == "no-store"
    assert call("GET", "/v1/studies/s/me", "x").headers["cache-control"] == "no-store"
    media = call("GET", "/media").headers
    assert (media["content-security-policy"], media["cache-control"]) == ("sandbox", "private")
    assert "x-frame-options" not in media
    assert "access-control-allow-origin" not in page


def test_websockets_are_closed(call: Caller) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(call.gate({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# -- how often ---------------------------------------------------------------------------------------------------------


def test_each_token_has_its_own_rate(access: Access, ann: str) -> None:
    call = Caller(access, rate_per_minute=3)
    bob = access.issue("rater", "s", "bob")[1]
    statuses = [call("GET", "/v1/studies/s/me", ann).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = call("GET", "/v1/studies/s/me", ann)
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert call("GET", "/v1/studies/s/me", bob).status_code == 200


def test_guesses_are_slowed_down_by_address_and_raters_are_not_shut_out_with_them(access: Access, ann: str) -> None:
    call = Caller(access, strangers_per_minute=5)
    statuses = [call("GET", "/v1/studies/s/me", f"bbr_0_{number}").status_code for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    assert call("GET", "/page").status_code == 429
    assert call("GET", "/v1/studies/s/me", ann).status_code == 200, "whoever has a token does not wait for strangers"


def test_strangers_who_are_welcome_cost_a_tenth(access: Access) -> None:
    call = Caller(access, strangers_per_minute=2)
    assert [call("GET", "/page").status_code for _ in range(21)] == [200] * 20 + [429]
