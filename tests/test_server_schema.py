"""Schemathesis over the server's own description: whatever is sent, by whom ever, no 5xx and no answer that the description lacks.

Every endpoint gets requests that fit its description and requests that do not, with the tokens of each role and with none.
Random text never names a study, a slate or a trial, so those of a running study are put in at most times, and a sound body
at half of them; that every endpoint has succeeded at the end shows that it was reached.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.testclient import TestClient

import bbopt
from server.access import Access
from server.app import create_app
from server.config import Config

BASE = "http://127.0.0.1:8000"
LEFT_OUT = [
    positive_data_acceptance,  # a task or a point may fit the description and still make no sense: 422 is right
    ignored_auth,  # repeats requests over the network; tests/test_server_attacks.py tries every endpoint without a token
]
NOT_WRONG = {  # what schemathesis calls wrong in a request that was accepted, and is not
    "query: violates `additionalProperties`",  # unknown names in a query are left alone, as everywhere
    "header: violates `required` (was Authorization)",  # it has left the token out; it is put in here
}
RANKED, VALUES = "soup", "beam"
TASK = {"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "objectives": [{"name": "cost"}]}
ROLES = ("owner", "rater", "program", "")


@dataclass
class World:
    """A server in this process with two studies, and a rater's slate that is open."""

    client: TestClient
    access: Access
    tokens: dict[str, str]
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    made: int = 0

    def ask(self, role: str, method: str, path: str, **options: Any) -> Any:
        response = self.client.request(method, path, headers=self.headers(role), **options)
        assert response.status_code < 300, response.text
        return response.json()

    def headers(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}

    def slate(self) -> dict[str, Any]:
        return dict(self.ask("rater", "GET", f"/v1/studies/{RANKED}/next")["slate"])

    def open_trial(self) -> int:
        return int(self.ask("program", "POST", f"/v1/studies/{VALUES}/ask", json={})["trials"][0]["number"])

    def link(self) -> str:
        self.made += 1
        return self.access.issue("rater", RANKED, f"guest {self.made}")[0].id


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "runs.db"
    square = bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1))
    bbopt.Optimizer(bbopt.Task(square, feedback="ranking"), "rank-sgd", store=path, name=RANKED).close()
    bbopt.Optimizer(bbopt.Task(square), "random", store=path, name=VALUES).close()
    gate = create_app(Config(path, rate_per_minute=10**6, strangers_per_minute=10**6))
    access = gate.app.state.access
    tokens = {
        "owner": access.issue("owner", None, "me")[1],
        "rater": access.issue("rater", RANKED, "ann")[1],
        "program": access.issue("program", VALUES, "worker")[1],
    }
    with TestClient(gate, base_url=BASE, raise_server_exceptions=False) as client:
        yield World(client, access, tokens)


def place(world: World, case: Case, draw: Any) -> None:
    """Put names of what is there into the path, where the generated ones were sound and name nothing."""
    label, names = case.operation.label, dict(case.path_parameters or {})
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta is not None else None
    if path is not None and path.mode is GenerationMode.NEGATIVE:
        return  # it is the path that does not fit
    for name, value in list(names.items()):
        if not draw(st.integers(0, 9)) or not isinstance(value, str | int) or not 0 < len(str(value)) <= 200:
            continue
        if name == "study":
            ranked = any(part in label for part in ("/next", "/undo", "/links"))
            names[name] = RANKED if ranked else draw(st.sampled_from([RANKED, VALUES, VALUES]))
        elif name == "slate" and len(str(value)) == 24:
            names[name] = world.slate()["id"]
        elif name == "item" and len(str(value)) == 24:
            names[name] = world.slate()["items"][0]["id"]
        elif name == "number" and isinstance(value, int):
            names[name] = world.open_trial()
        elif name == "link":
            names[name] = world.link()
    case.path_parameters = names


def sound_body(world: World, label: str, draw: Any) -> Any:
    """A body that makes sense now, None for endpoints whose description is enough."""
    method, _, path = label.partition(" ")
    end = path.rpartition("/")[2]
    number = st.floats(-1e9, 1e9)
    if method == "PUT":
        slate = world.slate()
        items = draw(st.permutations([item["id"] for item in slate["items"]]))
        cut = draw(st.integers(0, len(items)))
        groups = [[item] for item in items[:cut]]
        return {"groups": groups, "unseen": items[cut:], "revision": slate["revision"] + 1}
    if label == "POST /v1/session":
        return {"token": world.tokens[draw(st.sampled_from(["owner", "rater", "program"]))]}
    if label == "POST /v1/studies":
        world.made += 1
        return {"name": f"study {world.made}", "task": TASK, "strategy": draw(st.sampled_from(["random", "cmaes"]))}
    if end == "enqueue":
        return {"params": {"x": 0.25, "y": draw(st.floats(0, 1))}}
    if end in ("cancel", "fail"):
        return {"number": world.open_trial()}
    if end == "tell":
        return {"number": world.open_trial(), "values": draw(number)}
    if end == "rank":  # of the values' study; a query of one trial
        return {"order": [[world.open_trial()]], "rater": draw(st.sampled_from(["", "bob"]))}
    return {} if end == "undo" else None


def send(world: World, case: Case, draw: Any, mode: GenerationMode) -> str | None:
    """One request. Returns the failure, if there is one, worded by schemathesis."""
    place(world, case, draw)
    label = case.operation.label
    body = sound_body(world, label, draw) if mode is GenerationMode.POSITIVE and draw(st.booleans()) else None
    role = draw(st.sampled_from(likely(label)))
    request = case.as_transport_kwargs(base_url=BASE, headers=world.headers(role))
    kept = {name: request[name] for name in ("method", "url", "params", "headers") if request.get(name)}
    if body is not None:
        kept["json"] = body
    elif request.get("data") is not None:
        kept["content"] = request["data"]
    elif "json" in request:
        kept["json"] = request["json"]
    response = world.client.request(**kept)
    world.client.cookies.clear()
    world.statuses[label, response.status_code] += 1
    try:
        case.validate_response(response, headers=kept.get("headers"), excluded_checks=LEFT_OUT)
    except (Failure, FailureGroup) as error:  # all of them are wanted, not the first
        wrong = re.findall(r"^\s+- ((?:path|query|header|cookie|body): .*)$", str(error), re.MULTILINE)
        if wrong and set(wrong) <= NOT_WRONG and str(error).count("- ST") == 1:
            return None
        return f"{label} as {role or 'nobody'}: {response.status_code}\n{error}"
    return None


def drive(world: World, examples: int) -> list[str]:
    """Every endpoint with so many requests that fit and as many that do not. Returns the failures."""
    document = world.ask("", "GET", "/openapi.json")
    failures: list[str] = []
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases = result.ok().as_strategy(generation_mode=mode)

            @settings(max_examples=examples, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @hypothesis.given(st.data())
            def attempt(data: st.DataObject) -> None:
                failure = send(world, data.draw(cases), data.draw, mode)  # noqa: B023 - it is called before the next round
                failures.extend([failure] if failure else [])

            try:
                attempt()
            except hypothesis.errors.Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, result.ok().label  # nothing to be got wrong
    return failures


def likely(label: str) -> list[str]:
    """Roles to try, those that the endpoint is for more often."""
    people = ("/next", "/answer", "/heartbeat", "/undo", "/items")
    meant = "rater" if any(part in label for part in people) else "owner"
    return [*ROLES, *[meant] * 6]


def succeeded(world: World) -> set[str]:
    return {label for label, status in world.statuses if status < 300}


def test_a_few_requests_to_every_endpoint(world: World) -> None:
    failures = drive(world, 4)
    assert not failures, "\n\n".join(failures)
    assert max(status for _, status in world.statuses) < 500
    labels = {label for label, _ in world.statuses}
    assert len(labels) >= 28 and len(succeeded(world)) >= 0.8 * len(labels), sorted(labels - succeeded(world))


@pytest.mark.slow
def test_many_requests_to_every_endpoint(world: World) -> None:
    failures = drive(world, 60)
    assert not failures, "\n\n".join(failures)
    assert max(status for _, status in world.statuses) < 500
    assert succeeded(world) == {label for label, _ in world.statuses}
