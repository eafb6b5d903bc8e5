"""A server in this process, on a real socket, with studies and people to attack; and a list of attacks with what they get.

An attack is a function of the world that returns what it got, in the words of the table: `status kind`. The tests compare
that with what it should get; `python tests/test_server_attacks.py` tries them all and prints the table.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import bbopt
from server.access import Access
from server.app import create_app
from server.config import Config
from server.identity import cookie_name
from server.run import _Server, bind, settings

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NAME = "<img src=x onerror=alert(3)>"
RENDERER = f"""
def draw(params):
    return "<!doctype html><title>x</title><body>{SCRIPT}<form action=/v1/session method=post></form></body>"

def vector(params):
    return "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(4)</script></svg>"
"""


@dataclass
class World:
    """Where to attack. `soup` is ranked by ann and bob, `salad` by eve; `beam` takes values from the program `worker`."""

    port: int
    client: httpx.Client
    store: Path
    access: Access
    tokens: dict[str, str]
    links: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, who: str | None = None, **options: Any) -> httpx.Response:
        """A request with somebody's token (a name), or with another text as token."""
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens.get(who, who)}"}
        headers |= options.pop("headers", {})
        response = self.client.request(method, path, headers=headers, **options)
        self.client.cookies.clear()  # those that are meant are said
        return response

    def got(self, method: str, path: str, who: str | None = None, **options: Any) -> str:
        return got(self.call(method, path, who, **options))

    def cookie(self, who: str, study: str | None = "soup") -> dict[str, str]:
        role = self.tokens[who][2]
        kind: Any = {"o": "owner", "p": "program", "r": "rater"}[role]
        return {"Cookie": f"{cookie_name(self.port, kind, study)}={self.tokens[who]}"}

    def slate(self, who: str, study: str = "soup") -> dict[str, Any]:
        return dict(self.call("GET", f"/v1/studies/{study}/next", who).json()["slate"])

    def answer(self, who: str, slate: dict[str, Any], items: list[str], revision: int) -> httpx.Response:
        body = {"groups": [[item] for item in items], "revision": revision}
        return self.call("PUT", f"/v1/slates/{slate['id']}/answer", who, json=body)

    def answers(self, study: str = "soup") -> int:
        return int(self.call("GET", f"/v1/studies/{study}/progress", "owner").json()["answers_all"])

    def raw(self, request: str | bytes, seconds: float = 5.0) -> bytes:
        """What comes back for these very bytes, until the server closes or falls silent."""
        data = request if isinstance(request, bytes) else request.replace("HOST", f"127.0.0.1:{self.port}").encode("latin-1")  # fmt: skip
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            line.sendall(data)
            line.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while piece := line.recv(65536):
                    found += piece
        return found

    def statuses(self, request: str | bytes) -> str:
        """The status of every response to these bytes."""
        return (
            ", ".join(status.decode() for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", self.raw(request))) or "closed"
        )


def got(response: httpx.Response) -> str:
    """`401 TokenMissing`: the status, and the kind of refusal."""
    if response.status_code < 400:
        return str(response.status_code)
    return f"{response.status_code} {response.json()['error']['kind']}"


@contextlib.contextmanager
def attacked(folder: Path) -> Iterator[World]:
    """A world in this folder; the working directory is there meanwhile, for the renderer."""
    store = folder / "runs.db"
    point = bbopt.Space(dish=bbopt.Categorical(["plain", SCRIPT]), x=bbopt.Float(0, 1), y=bbopt.Float(0, 1))
    task = bbopt.Task(point, feedback="ranking")
    for name, about in (("soup", task), ("salad", task), ("vector", task), (NAME, task), ("beam", bbopt.Task(point))):  # fmt: skip
        bbopt.Optimizer(about, "random", store=store, name=name).close()
    (folder / "attacked_renderer.py").write_text(RENDERER)
    before = Path.cwd()
    os.chdir(folder)
    renderers = {"*": "table", "salad": "attacked_renderer:draw", "vector": "attacked_renderer:vector"}
    try:
        with bind("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            gate = create_app(
                Config(store, port=port, renderers=renderers, rate_per_minute=10**6, strangers_per_minute=10**6)
            )
            access = gate.app.state.access
            tokens, links = {}, {}
            people = [("owner", None, "owner"), ("rater", "soup", "ann"), ("rater", "soup", "bob"), ("rater", "salad", "eve"),
                      ("rater", "vector", "joe"), ("program", "beam", "worker")]  # fmt: skip
            for role, study, name in people:
                link, tokens[name] = access.issue(role, study, name)
                links[name] = link.id
            ready = threading.Event()
            server = _Server(settings(gate), ready.set)
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            assert ready.wait(30)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0, trust_env=False) as client:
                yield World(port, client, store, access, tokens, links)
            server.should_exit = True
            thread.join(timeout=30)
            access.close()
    finally:
        os.chdir(before)


@dataclass(frozen=True)
class Attack:
    """One row of the table."""

    title: str
    expected: str
    run: Callable[[World], str]


class Attacks(list[Attack]):
    """Rows in the order in which they are written down."""

    def add(self, title: str, expected: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
        def keep(run: Callable[[World], str]) -> Callable[[World], str]:
            self.append(Attack(title, expected, run))
            return run

        return keep

    def simple(self, title: str, expected: str, method: str, path: str, who: str | None = None, **options: Any) -> None:
        """A row that is one request."""
        self.append(Attack(title, expected, lambda world: world.got(method, path, who, **options)))


def each(results: Iterator[str]) -> str:
    """What several variants got: one word where they all got the same."""
    return ", ".join(dict.fromkeys(results))


def table(attacks: list[Attack], folder: Path) -> int:
    """Try all and print what each got, as Markdown. Returns how many got something else than they should."""
    wrong = 0
    with attacked(folder) as world:
        print("| attack | got |\n|---|---|")
        for attack in attacks:
            start = time.monotonic()
            result = attack.run(world)
            wrong += result != attack.expected
            note = "" if result == attack.expected else f" (expected {attack.expected})"
            print(f"| {attack.title} | {result}{note} |")
            if time.monotonic() - start > 5:
                print(f"slow: {attack.title}", file=sys.stderr)
    return wrong
