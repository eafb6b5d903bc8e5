"""The server within the test's own process: its app behind a client, tokens at hand, and raters with a taste."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from contract.hand import content
from starlette.testclient import TestClient

import bbopt
from server.app import create_app
from server.config import Config
from server.ledger import BEST, FIRST, REPEAT
from server.rooms import Room

STUDY = "picture"
Params = Mapping[str, Any]


def picture(d: int = 3, feedback: str = "ranking") -> bbopt.Task:
    return bbopt.Task(bbopt.Space({f"x{i}": bbopt.Float(-1.0, 1.0) for i in range(d)}), feedback=feedback)


def taste(params: Params) -> float:
    """What a rater likes: larger is better; the best point is 0.3 everywhere."""
    return -sum((float(value) - 0.3) ** 2 for value in params.values())


def make(store: Path, task: bbopt.Task | None = None, strategy: Any = "rank-sgd", **options: Any) -> Path:
    """A study in a store that may be new; give the path back."""
    bbopt.Optimizer(task or picture(), strategy, store=store, name=STUDY, **options).close()
    return store


class Inside:
    """A running server. `get`, `put`, `post` and `delete` send the token of `who`: a rater's name, "owner" or "program"."""

    def __init__(self, client: TestClient, app: Any) -> None:
        self.client, self.state = client, app.app.state
        self._tokens: dict[str, str] = {}

    def token(self, who: str) -> str:
        if who not in self._tokens:
            role = who if who in ("owner", "program") else "rater"
            study = None if role == "owner" else STUDY
            again = role == "rater" and any(link.name == who for link in self.state.access.links(STUDY))
            options = {"again": True} if again else {}
            _, self._tokens[who] = self.state.access.issue(role, study, who, **options)
        return self._tokens[who]

    def call(self, method: str, path: str, who: str | None, **options: Any) -> httpx.Response:
        headers = {**options.pop("headers", {})}
        if who is not None:
            headers["Authorization"] = f"Bearer {self.token(who)}"
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str, who: str | None = "owner", **options: Any) -> httpx.Response:
        return self.call("GET", path, who, **options)

    def put(self, path: str, body: Any, who: str = "ann", **options: Any) -> httpx.Response:
        return self.call("PUT", path, who, json=body, **options)

    def post(self, path: str, body: Any, who: str = "owner", **options: Any) -> httpx.Response:
        return self.call("POST", path, who, json=body, **options)

    @property
    def room(self) -> Room:
        return self.state.rooms.get(STUDY)

    @property
    def opt(self) -> bbopt.Optimizer:
        return self.room.opt

    def strategy_state(self) -> Any:
        """The strategy's state after everything that is in the log, in a form that can be compared."""
        assert self.opt.position >= 0  # reads what other processes wrote
        return content(self.opt._state())

    # -- raters --------------------------------------------------------------------------------------------------------

    def next(self, who: str = "ann") -> dict[str, Any]:
        response = self.get(f"/v1/studies/{STUDY}/next", who)
        assert response.status_code == 200, response.text
        return response.json()

    def slate(self, who: str = "ann") -> dict[str, Any]:
        answer = self.next(who)
        assert answer["slate"] is not None, answer
        return answer["slate"]

    def place(self, slate: Mapping[str, Any], who: str) -> tuple[int, int]:
        """Query and look behind a slate's id."""
        place = self.state.rooms.ids.open("slate", STUDY, who, slate["id"])
        assert place is not None
        return place.query, place.look

    def params(self, item: str, who: str) -> Params:
        """What is behind an item: raters see a picture of it."""
        place = self.state.rooms.ids.open("item", STUDY, who, item)
        assert place is not None and place.look in (FIRST, REPEAT, BEST)
        return self.room.point(place)[1]

    def order(self, slate: Mapping[str, Any], who: str, like: Callable[[Params], float] = taste) -> list[list[str]]:
        """Groups by a taste, best first; equal ones tied."""
        worth = {item["id"]: like(self.params(item["id"], who)) for item in slate["items"]}
        return [[name for name in worth if worth[name] == value] for value in sorted(set(worth.values()), reverse=True)]

    def answer(self, slate: Mapping[str, Any], body: Mapping[str, Any], who: str = "ann") -> httpx.Response:
        return self.put(f"/v1/slates/{slate['id']}/answer", {"revision": slate["revision"] + 1, **body}, who)

    def rate(self, who: str = "ann", slates: int = 1, like: Callable[[Params], float] = taste) -> list[dict[str, Any]]:
        """Answer so many slates by a taste; the receipts."""
        receipts = []
        for _ in range(slates):
            slate = self.slate(who)
            response = self.answer(slate, {"groups": self.order(slate, who, like)}, who)
            assert response.status_code == 200, response.text
            receipts.append(response.json())
        return receipts

    def undo(self, who: str = "ann", **body: Any) -> httpx.Response:
        return self.post(f"/v1/studies/{STUDY}/undo", body, who)


@contextmanager
def inside(store: Path, **options: Any) -> Iterator[Inside]:
    """A server on this store until the end of the block. Tables as renderings, unless the options say otherwise."""
    config = Config(store, **{"renderers": {"*": "table"}, "rate_per_minute": 1_000_000, **options})
    app = create_app(config)
    with closing(app.app.state.access), TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield Inside(client, app)


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and kind of a refused request, whose body must be in the form of every refusal."""
    error = response.json()["error"]
    assert set(error) == {"kind", "message"} and error["message"], response.text
    return response.status_code, error["kind"]


def kinds(opt: bbopt.Optimizer) -> list[str]:
    """What happened to a study, in order."""
    return [event.kind for event in opt.history()]


def shown(slate: Mapping[str, Any]) -> list[str]:
    """The items of a slate in the order in which they are shown."""
    return [item["id"] for item in slate["items"]]
