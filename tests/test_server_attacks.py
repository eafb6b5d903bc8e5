"""Attacks on the server, by whoever has no token, the wrong one, a page elsewhere, or a slate of somebody else.

`python tests/test_server_attacks.py` prints the table of all of them, those of `test_server_attacks_wire.py` too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacked_server import NAME, Attack, Attacks, World, attacked, each, got, table
from starlette.testclient import TestClient

import bbopt
from server.app import create_app
from server.config import Config
from server.identity import cookie_name

ATTACKS = Attacks()
OPEN = {("get", "/healthz"), ("post", "/v1/session"), ("delete", "/v1/session")}
OWNERS = [("GET", "/v1/studies/soup/history"), ("GET", "/v1/studies/soup/agreement"), ("GET", "/v1/studies/soup/export"),
          ("GET", "/v1/studies/soup/links"), ("GET", "/v1/links"), ("DELETE", "/v1/links/x"), ("DELETE", "/v1/studies/soup/links/x")]  # fmt: skip
OWNERS_POST = [("/v1/studies/soup/links", {"name": "mallory"}), ("/v1/studies/soup/pause", {"paused": True}),
               ("/v1/studies", {"name": "new", "task": {"space": {}}})]  # fmt: skip
PROGRAMS_POST = [("ask", {}), ("tell", {"number": 0, "values": 1.0}), ("fail", {"number": 0}), ("rank", {"order": [[0]]}),
                 ("enqueue", {"params": {}}), ("cancel", {"number": 0})]  # fmt: skip


# -- tokens ------------------------------------------------------------------------------------------------------------


@ATTACKS.add("no token, at each endpoint but /healthz and the session", "401 TokenMissing")
def without_token(world: World) -> str:
    paths = world.call("GET", "/openapi.json").json()["paths"]
    tried = [(method, path) for path, methods in paths.items() for method in methods if (method, path) not in OPEN]
    assert len(tried) >= 26

    def attempt(method: str, path: str) -> str:
        path = (
            path.replace("{study}", "soup")
            .replace("{number}", "0")
            .replace("{slate}", "x" * 24)
            .replace("{item}", "x" * 24)
        )
        return world.got(method.upper(), path.replace("{link}", "x"), json={} if method in ("post", "put") else None)

    return each(attempt(method, path) for method, path in tried)


@ATTACKS.add("wrong tokens: made up, cut, of a link's id, of another prefix, in SQL", "401 TokenRefused")
def wrong_token(world: World) -> str:
    token = world.tokens["ann"]
    wrong = ("x", token[:-1], token.rsplit("_", 1)[0] + "_", "bbo" + token[3:], "bbr_' OR 1=1 --_x", "é".encode("latin-1").decode("latin-1"))  # fmt: skip
    return each(
        world.got("GET", "/v1/studies/soup/next", headers={"Authorization": f"Bearer {t}".encode("latin-1")})
        for t in wrong
    )


@ATTACKS.add("a good token in the query, the body, or as Basic", "401 TokenMissing, 401 TokenRefused")
def token_elsewhere(world: World) -> str:
    token = world.tokens["owner"]
    return each(iter([
        world.got("GET", f"/v1/studies?token={token}&access_token={token}"),
        world.got("POST", "/v1/studies/soup/pause", json={"paused": True, "token": token}),
        world.got("GET", "/v1/studies", headers={"Authorization": f"Basic {token}"}),
    ]))  # fmt: skip


@ATTACKS.add("another study's rater: next, progress, best, undo", "404 StudyMissing")
def another_study(world: World) -> str:
    paths = ("next", "progress", "best")
    found = [world.call("GET", f"/v1/studies/{study}/{path}", "eve") for study in ("soup", "no such") for path in paths]
    found.append(world.call("POST", "/v1/studies/soup/undo", "eve", json={}))
    assert all("salad" not in response.text and "beam" not in response.text for response in found)
    return each(got(response) for response in found)


@ATTACKS.add("another study's program: ask, tell, fail, rank, trials", "404 StudyMissing")
def another_program(world: World) -> str:
    tried = [world.got("POST", f"/v1/studies/soup/{end}", "worker", json=body) for end, body in PROGRAMS_POST]
    return each(
        iter(
            [
                *tried,
                world.got("GET", "/v1/studies/soup/trials", "worker"),
                world.got("GET", "/v1/studies/soup", "worker"),
            ]
        )
    )


@ATTACKS.add("a program lists all studies", "sees its own")
def lists(world: World) -> str:
    names = [study["name"] for study in world.call("GET", "/v1/studies", "worker").json()["studies"]]
    return "sees its own" if names == ["beam"] else str(names)


for _who in ("ann", "worker"):
    ATTACKS.append(Attack(
        f"a {'rater' if _who == 'ann' else 'program'} on each route of owners", "403 WrongRole",
        lambda world, who=_who: each(iter([world.got(m, p.replace("soup", "beam" if who == "worker" else "soup"), who) for m, p in OWNERS]
                                          + [world.got("POST", p, who, json=body) for p, body in OWNERS_POST])),
    ))  # fmt: skip
ATTACKS.append(Attack("a rater on each route of programs", "403 WrongRole", lambda world: each(
    world.got("POST", f"/v1/studies/soup/{end}", "ann", json=body) for end, body in PROGRAMS_POST)))  # fmt: skip
ATTACKS.simple("a program takes a rater's slate", "403 WrongRole", "GET", "/v1/studies/beam/next", "worker")


@ATTACKS.add("an expired token, as a header, as a cookie, to join", "401 TokenRefused")
def expired(world: World) -> str:
    _, token = world.access.issue("rater", "soup", "late", seconds=0.01)
    time.sleep(0.03)
    cookie = {"Cookie": f"{cookie_name(world.port, 'rater', 'soup')}={token}"}
    return each(iter([world.got("GET", "/v1/studies/soup/next", token), world.got("GET", "/v1/studies/soup/next", headers=cookie),
                      world.got("POST", "/v1/session", json={"token": token})]))  # fmt: skip


@ATTACKS.add(
    "a revoked rater: the open page, the link, an answer to the slate in hand", "401 TokenRefused, nothing stored"
)
def revoked(world: World) -> str:
    link, token = world.access.issue("rater", "soup", "gone")
    cookie = {"Cookie": f"{cookie_name(world.port, 'rater', 'soup')}={token}", "Origin": world.url}
    assert world.got("POST", "/v1/session", json={"token": token}) == "200"
    slate = world.slate(token)
    before = world.answers()
    assert world.got("DELETE", f"/v1/studies/soup/links/{link.id}", "owner") == "204"
    items = [[item["id"]] for item in slate["items"]]
    results = [
        world.got("GET", "/v1/studies/soup/next", headers=cookie),
        world.got("POST", "/v1/session", json={"token": token}),
        world.got("PUT", f"/v1/slates/{slate['id']}/answer", headers=cookie, json={"groups": items, "revision": 1}),
        world.got("GET", slate["items"][0]["url"], token),
    ]
    return each(iter(results)) + (", nothing stored" if world.answers() == before else ", stored")


@ATTACKS.add("an owner revokes through another study's address", "404 LinkMissing")
def revokes_elsewhere(world: World) -> str:
    result = world.got("DELETE", f"/v1/studies/soup/links/{world.links['eve']}", "owner")
    assert world.got("GET", "/v1/studies/salad/next", "eve") == "200"
    return result


@ATTACKS.add("a rater whose study is not served any more", "404 StudyMissing, no other name")
def not_served(world: World) -> str:
    path = world.store.with_name("other.db")
    for name in ("soup", "secret"):
        bbopt.Optimizer(bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1))), "random", store=path, name=name).close()
    gate = create_app(Config(path, studies=("secret",)))
    _, token = gate.app.state.access.issue("rater", "soup", "ann")
    with TestClient(gate, base_url="http://127.0.0.1:8000") as client:
        found = client.get("/v1/studies/soup/next", headers={"Authorization": f"Bearer {token}"})
    gate.app.state.access.close()
    return got(found) + (", no other name" if "secret" not in found.text else ", other names")


# -- pages of other sites ----------------------------------------------------------------------------------------------


@ATTACKS.add(
    "forged Origin with a good cookie or token: another site, null, another port, a file, a lookalike",
    "403 OriginRefused",
)
def origins(world: World) -> str:
    wrong = (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{world.port + 1}",
        "file://",
        f"{world.url}.evil.example",
    )
    means = (world.cookie("ann"), {"Authorization": f"Bearer {world.tokens['ann']}"})
    return each(
        world.got("POST", "/v1/studies/soup/undo", json={}, headers={**by, "Origin": o}) for o in wrong for by in means
    )


ATTACKS.append(Attack("a cookie without Origin", "403 OriginMissing", lambda world: world.got(
    "POST", "/v1/studies/soup/undo", json={}, headers=world.cookie("ann"))))  # fmt: skip
ATTACKS.append(Attack("a form of another site (text/plain, urlencoded, multipart) with a cookie", "403 OriginRefused", lambda world: each(
    world.got("POST", "/v1/studies/soup/undo", content=b"{}", headers={**world.cookie("ann"), "Origin": "http://evil.example", "Content-Type": kind})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"))))  # fmt: skip
ATTACKS.append(Attack("the same form from here", "415 NotJSON", lambda world: world.got(
    "POST", "/v1/studies/soup/undo", content=b"{}", headers={**world.cookie("ann"), "Origin": world.url, "Content-Type": "text/plain"})))  # fmt: skip


@ATTACKS.add("CORS preflight, and a read from another site", "403 OriginRefused, no leave given")
def preflight(world: World) -> str:
    ask = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }
    found = [world.call(m, "/v1/studies/soup/next", headers=ask) for m in ("OPTIONS", "GET")]
    leave = any(name.startswith("access-control-") for response in found for name in response.headers)
    return each(map(got, found)) + (", leave given" if leave else ", no leave given")


ATTACKS.append(Attack("another site shows our picture, loads our data as a script, frames a page", "403 OriginRefused", lambda world: each(
    world.got("GET", path, headers={**world.cookie("ann"), "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest})
    for site in ("cross-site", "same-site")
    for path, mode, dest in (("/v1/studies/soup/next", "no-cors", "image"), ("/v1/studies/soup/next", "no-cors", "script"),
                             ("/rate/soup", "navigate", "iframe")))))  # fmt: skip


@ATTACKS.add("framing a page where browsers send no Sec-Fetch headers", "200, frame-ancestors 'none'")
def framed(world: World) -> str:
    response = world.call("GET", "/rate/soup", headers=world.cookie("ann"))
    assert response.headers["x-frame-options"] == "DENY"
    return f"{got(response)}, " + next(part.strip() for part in response.headers["content-security-policy"].split(";") if "ancestors" in part)  # fmt: skip


ATTACKS.append(Attack("a good cookie under the name of another role, study or port", "401 TokenRefused, 401 TokenMissing", lambda world: each(
    world.got("GET", "/v1/studies/soup/next", headers={"Cookie": f"{name}={world.tokens['ann']}"})
    for name in (cookie_name(world.port, "owner", None), cookie_name(world.port, "rater", "salad"), cookie_name(world.port + 1, "rater", "soup")))))  # fmt: skip


# -- answers -----------------------------------------------------------------------------------------------------------


@ATTACKS.add("an answer replayed five times", "200, stored once, one receipt")
def replayed(world: World) -> str:
    slate, before = world.slate("ann"), world.answers()
    items = [item["id"] for item in slate["items"]]
    found = [world.answer("ann", slate, items, slate["revision"] + 1) for _ in range(5)]
    receipts = {response.json()["receipt"] for response in found}
    return f"{each(map(got, found))}, stored {'once' if world.answers() == before + 1 else 'otherwise'}, {'one receipt' if len(receipts) == 1 else 'several'}"  # fmt: skip


@ATTACKS.add("another order under the same revision; revision 2 and then 1; one long gone", "409 Conflict")
def out_of_order(world: World) -> str:
    slate = world.slate("bob")
    items = [item["id"] for item in slate["items"]]
    assert got(world.answer("bob", slate, items, 1)) == "200"
    results = [world.answer("bob", slate, items[::-1], 1)]
    assert got(world.answer("bob", slate, items[::-1], 2)) == "200"
    results += [world.answer("bob", slate, items, 1), world.answer("bob", slate, items, 2)]
    assert results[1].json()["stored"]["revision"] == 2
    return each(map(got, results))


@ATTACKS.add("another rater's slate: answer, heartbeat, undo", "404 UnknownSlate")
def another_slate(world: World) -> str:
    slate = world.slate("ann")
    items = [item["id"] for item in slate["items"]]
    return each(iter([
        *(got(world.answer(who, slate, items, 1)) for who in ("bob", "eve")),
        world.got("POST", f"/v1/slates/{slate['id']}/heartbeat", "bob"),
        world.got("POST", "/v1/studies/soup/undo", "bob", json={"slate": slate["id"]}),
    ]))  # fmt: skip


@ATTACKS.add(
    "items of another rater, of another slate, forged, twice, one left out",
    "422 UnknownItem, 422 Twice, 422 Incomplete",
)
def wrong_items(world: World) -> str:
    slate, other = world.slate("ann"), world.slate("bob")
    items = [item["id"] for item in slate["items"]]
    variants = ([item["id"] for item in other["items"]], [*items[:-1], "A" * 24], [*items[:-1], items[0]], items[:-1])
    before = world.answers()
    result = each(got(world.answer("ann", slate, variant, 1)) for variant in variants)
    assert world.answers() == before
    return result


ATTACKS.append(Attack("a picture of another rater, of another study, forged", "404 UnknownItem", lambda world: each(iter([
    world.got("GET", world.slate("ann")["items"][0]["url"], "bob"), world.got("GET", world.slate("ann")["items"][0]["url"], "eve"),
    world.got("GET", "/v1/items/" + "A" * 24, "ann"), world.got("GET", world.slate("ann")["items"][0]["url"], "worker")]))))  # fmt: skip
ATTACKS.simple("a rater takes back with cascade, or for another", "403 WrongRole", "POST", "/v1/studies/soup/undo?cascade=true", "bob", json={"rater": "ann"})  # fmt: skip


@ATTACKS.add("a rater looks for numbers and parameters: next, best", "none")
def blind(world: World) -> str:
    texts = [json.dumps(world.call("GET", f"/v1/studies/soup/{end}", "ann").json()) for end in ("next", "best")]
    best = json.loads(texts[1])["best"]
    return "none" if not any(word in texts[0] for word in ("number", "params", "plain", "incumbent")) and not (best and (best["params"] or best["number"])) else "some"  # fmt: skip


@ATTACKS.add("60 guesses a minute from one address, then more", "401 TokenRefused, 429 TooMany")
def guesses(world: World) -> str:
    from test_server_gate import Caller

    call = Caller(world.access)
    return each(got(call("GET", "/v1/studies/soup/me", f"bbr_0123456789abcdef_{number}")) for number in range(70))


# -- scripts -----------------------------------------------------------------------------------------------------------


@ATTACKS.add("script in a parameter, shown as a table", "escaped, sandboxed")
def script_in_parameter(world: World) -> str:
    found = []
    for item in world.slate("ann")["items"]:
        response = world.call("GET", item["url"], "ann")
        assert (
            "sandbox" in response.headers["content-security-policy"]
            and response.headers["x-content-type-options"] == "nosniff"
        )
        found.append(response.text)
    assert any("&lt;script&gt;" in text for text in found), "one of the six should have the dish with the script"
    return "not escaped" if any("<script" in text or "<img" in text for text in found) else "escaped, sandboxed"


@ATTACKS.add("script in a renderer's HTML and SVG", "sandbox; default-src 'none'")
def script_in_rendering(world: World) -> str:
    found = []
    for who, study in (("eve", "salad"), ("joe", "vector")):
        response = world.call("GET", world.slate(who, study)["items"][0]["url"], who)
        assert response.headers["x-content-type-options"] == "nosniff" and "<script>" in response.text
        policy = response.headers["content-security-policy"]
        assert "allow-scripts" not in policy and "script-src" not in policy
        found.append("; ".join(part.strip() for part in policy.split(";")[:2]))
    return each(iter(found))


@ATTACKS.add("script as a study's name, in pages and refusals", "escaped")
def script_in_name(world: World) -> str:
    owner, reads = world.cookie("owner", None), {"Accept": "text/html"}
    pages = [world.call("GET", f"/studies/{NAME}", headers=owner)]
    for path in (f"/studies/{NAME}x", f"/rate/{NAME}", f"/{NAME}", f"/v1/studies/{NAME}x/best"):
        pages.append(world.call("GET", path, headers={**owner, **reads}))
    assert "&lt;img src=x" in pages[0].text
    return "not escaped" if any("<img src=x" in page.text for page in pages[:-1]) else "escaped"


@ATTACKS.add("script as a rater's name, in the JSON that pages read", "201, JSON, nosniff")
def script_as_rater(world: World) -> str:
    made = world.call("POST", "/v1/studies/soup/links", "owner", json={"name": "<img src=x onerror=alert(5)>"})
    listed = world.call("GET", "/v1/studies/soup/links", "owner")
    assert "<img src=x" in listed.text
    return f"{got(made)}, {'JSON' if listed.headers['content-type'] == 'application/json' else 'other'}, {listed.headers['x-content-type-options']}"  # fmt: skip


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with attacked(tmp_path_factory.mktemp("attacked")) as made:
        yield made


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title[:60])
def test_attack(world: World, attack: Attack) -> None:
    assert attack.run(world) == attack.expected


if __name__ == "__main__":
    from test_server_attacks_wire import ATTACKS as WIRE

    with tempfile.TemporaryDirectory() as folder:
        sys.exit(table([*ATTACKS, *WIRE], Path(folder)))
