"""Attacks below the endpoints: hosts, paths, bodies, and HTTP itself, byte by byte."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from attacked_server import Attack, Attacks, World, attacked, each, got

ATTACKS = Attacks()
JSON = {"Content-Type": "application/json"}
UNDO = "/v1/studies/soup/undo"


# -- hosts -------------------------------------------------------------------------------------------------------------

HOSTS = ("evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:PORT", "127.0.0.1:PORT@evil.example",
         "evil.example@127.0.0.1:PORT", "2130706433:PORT", "127.0.0.1.:PORT", "")  # fmt: skip


ATTACKS.append(Attack("forged Host (DNS rebinding), with and without the port, with a good token", "400 HostRefused", lambda world: each(
    world.got("GET", "/v1/studies/soup/next", "ann", headers={"Host": host.replace("PORT", str(world.port))}) for host in HOSTS)))  # fmt: skip
ATTACKS.append(Attack("forged Host with X-Forwarded-Host, Forwarded and X-Forwarded-For of this machine", "400 HostRefused", lambda world: world.got(
    "GET", "/healthz", headers={"Host": "evil.example", "X-Forwarded-Host": f"127.0.0.1:{world.port}", "Forwarded": "for=127.0.0.1;host=localhost", "X-Forwarded-For": "127.0.0.1"})))  # fmt: skip
ATTACKS.append(
    Attack(
        "two Hosts", "400", lambda world: world.statuses("GET /healthz HTTP/1.1\r\nHost: HOST\r\nHost: evil\r\n\r\n")
    )
)
ATTACKS.append(Attack("no Host (HTTP/1.1, HTTP/1.0)", "400", lambda world: each(
    world.statuses(f"GET /healthz HTTP/{version}\r\n\r\n") for version in ("1.1", "1.0"))))  # fmt: skip
ATTACKS.append(Attack("another host in the request line", "404", lambda world: world.statuses(
    "GET http://evil.example/v1/studies HTTP/1.1\r\nHost: HOST\r\n\r\n")))  # fmt: skip


# -- paths -------------------------------------------------------------------------------------------------------------

TRICKS = ("/static/../../../../etc/passwd", "/static/..%2f..%2f..%2f..%2fetc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
          "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..\\..\\..\\etc\\passwd", "/static/%5c..%5c..%5cetc%5cpasswd",
          "/static/..%252f..%252fetc/passwd", "/static/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", "/static/", "/static/.",
          "/../runs.db", "/runs.db", "/runs.db.access", "/static/../config.py", "/static/%2e%2e/config.py", "/static/../templates/join.html",
          "//etc/passwd", "/v1/items/..%2f..%2fetc%2fpasswd", "/v1/studies/..%2f..%2fetc%2fpasswd/export", "/rate/..%2f..%2fetc%2fpasswd",
          "/v1/studies/%2e%2e/export", "/v1/studies/./export", "/static/file:///etc/passwd")  # fmt: skip


@ATTACKS.add(
    "path tricks: .., %2e, %2f, %5c, double encoding, overlong UTF-8, absolute, the store itself", "nothing of the disk"
)
def paths(world: World) -> str:
    owner = f"Authorization: Bearer {world.tokens['owner']}\r\nConnection: close\r\n"
    for path in TRICKS:
        found = world.raw(f"GET {path} HTTP/1.1\r\nHost: HOST\r\n{owner}\r\n")
        status = found[9:12]
        assert status in (b"400", b"401", b"404", b"422"), (path, found[:200])
        assert not re.search(rb"root:|SQLite|import annotations|{% ", found), path
    return "nothing of the disk"


ATTACKS.append(Attack("null bytes, line breaks and other control characters in path and query", "400 BadAddress", lambda world: each(
    world.got("GET", path, "owner") for path in ("/static/app.css%00.png", "/v1/studies/soup%00/links", "/v1/studies/a%0d%0aX:y/links",
                                                 "/v1/studies/soup/trials?status=%00", "/v1/studies/soup/best?x=%0a"))))  # fmt: skip
ATTACKS.append(Attack("raw control characters and UTF-8 in the request line", "400", lambda world: each(
    world.statuses(f"GET /{bad} HTTP/1.1\r\nHost: HOST\r\n\r\n") for bad in ("\x00", "\x7f", "\xff", "a b c", "\t"))))  # fmt: skip
ATTACKS.append(Attack("a path of 3 kB, a query of 5 kB", "414 AddressTooLong", lambda world: each(
    world.got("GET", path, "owner") for path in ("/" + "x" * 3000, "/v1/studies?x=" + "y" * 5000))))  # fmt: skip


@ATTACKS.add("a header of a response through the name of a study (line breaks, quotes)", "404, no header")
def header_injection(world: World) -> str:
    found = world.call("GET", '/v1/studies/x";%20filename="evil/export', "owner")
    return f"{found.status_code}, {'header' if 'content-disposition' in found.headers else 'no header'}"


# -- bodies ------------------------------------------------------------------------------------------------------------


async def _never() -> AsyncIterator[bytes]:
    yield b""


def chunks(size: int, piece: int = 65_536) -> Iterator[bytes]:
    for _ in range(size // piece):
        yield b" " * piece


ATTACKS.append(Attack("a body of 10 MB by Content-Length, and announced as 10^18 bytes", "413 TooLarge, 413", lambda world: each(iter([
    world.got("PUT", "/v1/slates/" + "A" * 24 + "/answer", "ann", content=b" " * 10_000_000, headers=JSON),
    world.statuses(f"POST {UNDO} HTTP/1.1\r\nHost: HOST\r\nContent-Length: {10**18}\r\n\r\n")]))))  # fmt: skip
ATTACKS.append(Attack("the same in chunks", "413 TooLarge", lambda world: world.got(
    "PUT", "/v1/slates/" + "A" * 24 + "/answer", "ann", content=chunks(1_000_000), headers=JSON)))  # fmt: skip
ATTACKS.append(Attack("headers of 17 kB, of 1 MB", "431 HeadersTooLarge, 400", lambda world: each(iter([
    world.got("GET", "/healthz", headers={f"X-{number}": "y" * 400 for number in range(45)}),
    world.statuses("GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: " + "y" * 1_000_000 + "\r\n\r\n")]))))  # fmt: skip

BODIES: tuple[bytes, ...] = (
    b"[" * 100_000, b"[" * 100 + b"]" * 100, b'{"slate":' * 50 + b"1" + b"}" * 50, b'{"slate": NaN}', b'{"slate": 1e999}', b"-Infinity",
    b'{"slate": null, "slate": null}', b'{"slate": "\\ud800"}', b'{"slate": "\\u0000"}', b"\xff\xfe", "{}".encode("utf-16"), b"{", b"null null",
    b'{"x": ' + b"1" * 5000 + b"}",
)  # fmt: skip
ATTACKS.append(Attack("deep JSON, NaN, 1e999, 5,000 digits, equal keys, half characters, NUL, UTF-16, no JSON", "400 BadRequest", lambda world: each(
    world.got("POST", UNDO, "ann", content=body, headers=JSON) for body in BODIES)))  # fmt: skip
VALUES: tuple[Any, ...] = (
    None,
    [],
    "x",
    1,
    True,
    {"no": 1},
    {"slate": 1},
    {"slate": ["x"]},
    {"slate": "x" * 100_000},
    {"slate": "../../etc/passwd"},
)
ATTACKS.append(Attack("JSON of another shape: null, list, text, number, unknown keys, long text", "422 Unprocessable", lambda world: each(
    world.got("POST", UNDO, "ann", json=value) if value is not None else world.got("POST", UNDO, "ann", content=b"null", headers=JSON) for value in VALUES)))  # fmt: skip


@ATTACKS.add(
    "numbers out of range: revision 0, 10^30, 1.5, true, text; trial -1, 10^300; limit 10^9", "422 Unprocessable"
)
def numbers(world: World) -> str:
    answer = "/v1/slates/" + "A" * 24 + "/answer"
    results = [
        world.got("PUT", answer, "ann", json={"groups": [], "revision": value})
        for value in (0, -1, 10**30, 1.5, True, "1", None)
    ]
    results += [
        world.got("POST", "/v1/studies/beam/tell", "worker", json={"number": value, "values": 1.0})
        for value in (-1, 10**300, 0.5, "0")
    ]
    results += [
        world.got("GET", f"/v1/studies/beam/trials?{query}", "worker")
        for query in ("limit=1000000000", "limit=-1", "after=1e9", "limit=١x")
    ]
    results.append(world.got("POST", "/v1/studies/beam/ask", "worker", json={"count": 10**9}))
    return each(iter(results))


@ATTACKS.add("values that are no numbers: text, list, null, 10^400", "422 Unprocessable, 400 BadRequest")
def no_numbers(world: World) -> str:
    number = world.call("POST", "/v1/studies/beam/ask", "worker", json={}).json()["trials"][0]["number"]
    return each(iter([
        *(world.got("POST", "/v1/studies/beam/tell", "worker", json={"number": number, "values": value}) for value in ("1", [1], None, {"y": "x"})),
        world.got("POST", "/v1/studies/beam/tell", "worker", json={"number": number, "values": 10**400}),
    ]))  # fmt: skip


@ATTACKS.add("250 kB of small lists, of text with backslashes, of groups: seconds that the server is busy", "below 1")
def busy(world: World) -> str:
    longest = 0.0
    for body in (b"[" + b"[]," * 80_000 + b"[]]", b'{"slate": "' + b'\\"' * 120_000 + b'"}', b'{"groups": [' + b"[]," * 80_000 + b"[]]}",
                 b'["' + b"\\\\" * 100_000 + b'\\u0000"]'):  # fmt: skip
        start = time.thread_time(), time.process_time()
        assert got(world.call("PUT", "/v1/slates/" + "A" * 24 + "/answer", "ann", content=body, headers=JSON))[0] == "4"
        longest = max(longest, time.process_time() - start[1])
    return "below 1" if longest < 1 else f"{longest:.1f}"


# -- HTTP itself -------------------------------------------------------------------------------------------------------

HEAD = f"POST {UNDO} HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
HIDDEN = "GET /v1/links HTTP/1.1\r\nHost: HOST\r\n\r\n"
ATTACKS.append(Attack("smuggling: Content-Length and Transfer-Encoding, in both orders", "400", lambda world: each(iter([
    world.statuses(f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
    world.statuses(f"{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}")]))))  # fmt: skip
ATTACKS.append(Attack("two lengths; a negative, a signed, a hexadecimal one", "400", lambda world: each(
    world.statuses(f"{HEAD}{lengths}\r\n\r\n{{}}{HIDDEN}") for lengths in (
        "Content-Length: 2\r\nContent-Length: 40", "Content-Length: 2, 40", "Content-Length: -1", "Content-Length: +2", "Content-Length: 0x2"))))  # fmt: skip
ATTACKS.append(Attack("encodings that are not chunked alone", "400", lambda world: each(
    world.statuses(f"{HEAD}Transfer-Encoding: {kind}\r\n\r\n0\r\n\r\n") for kind in ("xchunked", "gzip, chunked", "chunked, identity", " chunked\r\nTransfer-Encoding: x", "\x0bchunked"))))  # fmt: skip
ATTACKS.append(Attack("broken chunks: a size that is none, too long, negative", "400", lambda world: each(
    world.statuses(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{size}\r\n{{}}\r\n0\r\n\r\n") for size in ("xyz", "-2", "f" * 30, "2 2"))))  # fmt: skip
ATTACKS.append(Attack("blanks before a colon, folded and nameless headers, NUL in a value", "400", lambda world: each(
    world.statuses(f"GET /healthz HTTP/1.1\r\nHost: HOST\r\n{header}\r\n\r\n") for header in ("Content-Length : 5", ": x", "X: a\x00b", " folded: x", "X(y): z"))))  # fmt: skip
ATTACKS.append(Attack("a second request behind an unauthorised one, in one packet", "401, 401", lambda world: world.statuses(
    f"{HEAD}Content-Length: 2\r\n\r\n{{}}{HIDDEN}")))  # fmt: skip
ATTACKS.append(Attack("a request behind one that was refused for its size", "413", lambda world: world.statuses(
    f"{HEAD}Content-Length: 9999999\r\n\r\n{HIDDEN}")))  # fmt: skip
ATTACKS.append(Attack("X-HTTP-Method-Override and its like on a GET", "405 MethodNotAllowed", lambda world: each(
    world.got("GET", "/v1/studies/soup/pause", "owner", headers={name: "POST"}) for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"))))  # fmt: skip
ATTACKS.append(Attack("TRACE, CONNECT, made-up methods", "405, 400", lambda world: each(
    world.statuses(f"{method} /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n") for method in ("TRACE", "CONNECT", "BREW", "get", "GE(T"))))  # fmt: skip
ATTACKS.append(Attack("an upgrade to WebSocket, to HTTP/2 (answered as a plain request)", "200", lambda world: each(
    world.statuses(f"GET /healthz HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, close\r\nUpgrade: {kind}\r\n\r\n") for kind in ("websocket", "h2c"))))  # fmt: skip
ATTACKS.append(Attack("TLS, SSH and HTTP/2 spoken to the port", "400, 405, 400", lambda world: each(
    world.statuses(greeting) for greeting in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))))  # fmt: skip


@ATTACKS.add("after all this: a rater goes on", "200")
def goes_on(world: World) -> str:
    slate = world.slate("ann")
    return got(world.answer("ann", slate, [item["id"] for item in slate["items"]], slate["revision"] + 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with attacked(tmp_path_factory.mktemp("attacked")) as made:
        yield made


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title[:60])
def test_attack(world: World, attack: Attack) -> None:
    assert attack.run(world) == attack.expected


def test_refusals_of_every_kind_are_json_with_a_reason(world: World) -> None:
    """Those that reach the app: bytes that are no HTTP get 400 as text from the server below it."""
    tried: list[httpx.Response] = [
        world.call("GET", "/healthz", headers={"Host": "evil.example"}),
        world.call("GET", "/v1/nowhere"),
        world.call("BREW", "/v1/links"),
        world.call("GET", "/v1/links"),
        world.call("POST", UNDO, "ann", content=b"{"),
        world.call("POST", UNDO, "ann", content=b"{", headers=JSON),
        world.call("POST", UNDO, "ann", content=b" " * 300_000, headers=JSON),
        world.call("GET", "/x" * 2000),
        world.call("PATCH", "/v1/links", "owner"),
        world.call("GET", "/static/nowhere.css"),
        world.call("POST", "/join"),
    ]
    for response in tried:
        assert 400 <= response.status_code < 500
        assert response.headers["content-type"] == "application/json"
        error = json.loads(response.text)["error"]
        assert error["kind"].isalpha() and len(error["message"]) > 20
        assert response.headers["x-content-type-options"] == "nosniff" and "content-security-policy" in response.headers
    assert len({response.status_code for response in tried}) >= 7
