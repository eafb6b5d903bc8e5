"""What programs do over HTTP: ask, tell, fail and rank on studies of every kind, with the words of the core."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contract.tasks import Case, plain, rich
from server_inside import STUDY, Inside, inside, kinds, make, picture, refusal, taste

import bbopt

HERE = f"/v1/studies/{STUDY}"


def ask(server: Inside, **body: Any) -> list[dict[str, Any]]:
    response = server.post(f"{HERE}/ask", body, "program")
    assert response.status_code == 200, response.text
    return list(response.json()["trials"])


def work(server: Inside, case: Case, count: int) -> None:
    for _ in range(count):
        (trial,) = ask(server)
        params = {**trial["params"], "pair": trial["params"].get("pair")}
        told = server.post(f"{HERE}/tell", {"number": trial["number"], "values": case.function(params)}, "program")
        assert told.status_code == 200 and told.json()["trial"]["status"] == "ok", told.text


# -- value studies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "cmaes"])
def test_a_worker_on_every_kind_of_parameter(tmp_path: Path, strategy: str) -> None:
    case = rich(
        frozenset(
            {"categorical", "conditional", "constraints", "unbounded"}
            if strategy == "random"
            else {"categorical", "conditional", "constraints"}
        )
    )
    with inside(make(tmp_path / "runs.db", case.task, strategy)) as server:
        work(server, case, 15)
        page = server.get(f"{HERE}/trials?limit=500", "program").json()
        assert [trial["number"] for trial in page["trials"]][:15] == list(range(15))
        best = server.get(f"{HERE}/best", "program").json()["best"]
        found = server.opt.best()
        assert (best is None) == (found is None)
        if found is not None:
            assert best["number"] == found.number and best["values"] == found.values
            assert best["params"] == found.to_json()["params"] and best["item"]["kind"] == "table"
        again = server.post(f"{HERE}/enqueue", {"params": page["trials"][0]["params"]}, "program")
        assert again.status_code == 201, "what came as JSON can be sent back"


def test_the_same_search_as_in_process(tmp_path: Path) -> None:
    case = plain(2)
    here = bbopt.Optimizer(case.task, "gp", seed=5)
    for _ in range(8):
        trial = here.ask()
        here.tell(trial, case.function(trial.params))
    with inside(make(tmp_path / "runs.db", case.task, "gp", seed=5)) as server:
        for _ in range(8):
            (trial_,) = ask(server)
            values = case.function(trial_["params"])["objective"]
            server.post(f"{HERE}/tell", {"number": trial_["number"], "values": values}, "program")
        assert [t.params for t in server.opt.trials()] == [t.params for t in here.trials()]


def test_telling_twice_failing_and_what_is_refused(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", plain(1).task, "random")) as server:
        first, second, third = ask(server, count=3)
        tell = {"number": first["number"], "values": {"objective": 1.5}, "std": 0.1, "cost": 2}
        told = server.post(f"{HERE}/tell", tell, "program").json()["trial"]
        assert (told["values"], told["std"], told["cost"], told["owner"]) == (
            {"objective": 1.5},
            {"objective": 0.1},
            2.0,
            "program:program",
        )
        assert server.post(f"{HERE}/tell", tell, "program").json()["trial"] == told
        assert refusal(server.post(f"{HERE}/tell", {**tell, "values": 2.0}, "program")) == (409, "AlreadyTold")
        assert refusal(server.post(f"{HERE}/tell", {"number": 99, "values": 1.0}, "program")) == (404, "UnknownTrial")
        assert refusal(server.post(f"{HERE}/tell", {"number": 1, "values": {"cost": 1.0}}, "program")) == (
            422,
            "ValueRefused",
        )
        for bad in ("many", {"objective": "1"}, {"objective": None}, [1.0], True, {}):
            assert server.post(f"{HERE}/tell", {"number": 1, "values": bad}, "program").status_code == 422, bad
        for number in (-1, 1.5, "1", None, 2**70):
            assert server.post(f"{HERE}/tell", {"number": number, "values": 1.0}, "program").status_code == 422, number
        lost = server.post(
            f"{HERE}/fail", {"number": second["number"], "reason": "mesh", "attempt": 1}, "program"
        ).json()["trial"]
        assert (lost["status"], lost["reason"]) == ("lost", "mesh")
        (again,) = ask(server)
        assert (again["number"], again["attempt"]) == (second["number"], 2)
        server.post(f"{HERE}/tell", {"number": second["number"], "values": 3.0, "attempt": 2}, "program")
        late = server.post(f"{HERE}/tell", {"number": second["number"], "values": 4.0, "attempt": 1}, "program")
        assert late.status_code == 200 and late.json()["trial"]["values"] == {"objective": 3.0}, (
            "superseded, not an error"
        )
        gone = server.post(f"{HERE}/fail", {"number": third["number"], "impossible": True}, "program").json()["trial"]
        assert gone["status"] == "impossible"
        assert refusal(server.post(f"{HERE}/cancel", {"number": third["number"]}, "program")) == (409, "AlreadyTold")
        assert kinds(server.opt) == ["ask", "tell", "fail", "ask", "tell", "superseded", "fail"]


def test_bodies_that_are_no_json(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", plain(1).task, "random")) as server:
        ask(server)
        for body in (
            '{"number": 0, "values": NaN}',
            '{"number": 0, "values": 1e999}',
            "{",
            "",
            "[" * 2000,
            '"\\ud800"',
        ):
            response = server.call(
                "POST", f"{HERE}/tell", "program", content=body, headers={"Content-Type": "application/json"}
            )
            assert response.status_code in (400, 422), (body[:20], response.text)
            assert set(response.json()["error"]) == {"kind", "message"}
        assert kinds(server.opt) == ["ask"]


def test_waiting_and_exhausted(tmp_path: Path) -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Int(0, 2)))
    with inside(make(tmp_path / "runs.db", task, "random")) as server:
        assert len(ask(server, count=5, fewer=True)) == 3
        assert refusal(server.post(f"{HERE}/ask", {"count": 1}, "program")) == (409, "Exhausted")
    with inside(make(tmp_path / "more.db", plain(2).task, "cmaes")) as server:
        while server.post(f"{HERE}/ask", {}, "program").status_code == 200:
            assert server.room.opt.statuses()["open"] < 50
        assert refusal(server.post(f"{HERE}/ask", {}, "program")) == (409, "Waiting")


def test_context_fixed_lease_and_owner(tmp_path: Path) -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1), heat=bbopt.Float(0, 100, role="context")))
    with inside(make(tmp_path / "runs.db", task, "random")) as server:
        (trial,) = ask(server, context={"heat": 40}, fixed={"y": 0.25}, owner="bench 3", lease=1e-6)
        assert (trial["params"]["y"], trial["context"], trial["owner"]) == (0.25, {"heat": 40.0}, "bench 3")
        (again,) = ask(server, context={"heat": 40}, fixed={"y": 0.25})
        assert (again["number"], again["attempt"]) == (trial["number"], 2), "the lease ran out"
        told = {"number": again["number"], "values": 1.0, "gradient": {"x": 0.5}}
        answer = server.post(f"{HERE}/tell", told, "program")
        assert answer.json()["trial"]["gradient"] == {"objective": {"x": 0.5}}
        wrong = {**told, "gradient": {"x": [[1]]}}
        assert refusal(server.post(f"{HERE}/tell", wrong, "program"))[0] == 422
        (late,) = ask(server, context={"heat": 40}, deadline=1e-9)
        assert "deadline" in late["note"]
        assert refusal(server.post(f"{HERE}/ask", {}, "program")) == (422, "UsageError")
        assert refusal(server.post(f"{HERE}/ask", {"context": {"heat": 40}, "fixed": {"z": 1}}, "program")) == (
            422,
            "SpaceError",
        )


def test_an_idempotency_key(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", plain(1).task, "random")) as server:
        server.token("program"), server.token("owner")

        def once(key: str, who: str = "program") -> list[int]:
            response = server.post(f"{HERE}/ask", {"count": 2}, who, headers={"Idempotency-Key": key})
            return [trial["number"] for trial in response.json()["trials"]]

        with ThreadPoolExecutor(4) as pool:
            assert {tuple(numbers) for numbers in pool.map(once, ["a"] * 12)} == {(0, 1)}
        assert once("b") == [2, 3] and once("a") == [0, 1] and once("a", "owner") == [4, 5]


# -- ranking studies -----------------------------------------------------------------------------------------------------


def test_programs_may_rank(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", picture(2), "cmaes")) as server:
        trials = ask(server, count=6)
        order = sorted(trials, key=lambda trial: -taste(trial["params"]))
        body = {"order": [[trial["number"]] for trial in order], "rater": "metric"}
        ranked = server.post(f"{HERE}/rank", body, "program")
        assert ranked.status_code == 200 and {trial["status"] for trial in ranked.json()["trials"]} == {"ranked"}
        assert server.post(f"{HERE}/rank", body, "program").status_code == 200
        other = {**body, "order": body["order"][::-1]}
        assert refusal(server.post(f"{HERE}/rank", other, "program")) == (409, "AlreadyTold")
        assert refusal(server.post(f"{HERE}/rank", {"order": [[77]]}, "program")) == (404, "UnknownTrial")
        assert refusal(server.post(f"{HERE}/rank", {"order": []}, "program")) == (422, "UsageError")
        assert server.opt.rankings()[0].rater == "metric"
    with inside(make(tmp_path / "values.db", plain(2).task, "random")) as server:
        assert server.get(f"{HERE}/next", "ann").status_code == 409, "nobody ranks a study of values"


# -- looking -------------------------------------------------------------------------------------------------------------


def test_trials_page_by_page(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", plain(1).task, "random")) as server:
        ask(server, count=25)
        for number in range(0, 25, 5):
            server.post(f"{HERE}/tell", {"number": number, "values": 1.0}, "program")

        def pages(**query: Any) -> list[list[int]]:
            found, after = [], -1
            while after is not None:
                page = server.get(f"{HERE}/trials", "program", params={**query, "after": after}).json()
                found.append([trial["number"] for trial in page["trials"]])
                after = page["after"]
            return found

        assert pages(limit=10) == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
        assert [number for page in pages(limit=2, status="ok") for number in page] == [0, 5, 10, 15, 20]
        assert server.get(f"{HERE}/trials?status=fine", "program").status_code == 422
        assert server.get(f"{HERE}/trials/7", "program").json()["trial"]["number"] == 7
        assert refusal(server.get(f"{HERE}/trials/25", "program")) == (404, "UnknownTrial")
        assert refusal(server.get(f"{HERE}/trials/-1", "program")) == (404, "UnknownTrial")


def test_studies(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", plain(1).task, "random")) as server:
        document = {**picture(2).to_json()}
        body = {"name": "second", "task": document, "strategy": "rank-sgd", "seed": 3, "quorum": 2}
        made = server.post("/v1/studies", body)
        assert made.status_code == 201 and made.json()["task"] == document and made.json()["quorum"] == 2
        assert refusal(server.post("/v1/studies", body)) == (409, "StudyExists")
        assert refusal(server.post("/v1/studies", body, "program")) == (403, "WrongRole")
        for wrong, kind in (
            ({"name": "a/b"}, "BadName"),
            ({"name": ""}, "Unprocessable"),
            ({"strategy": "magic"}, "UsageError"),
            ({"strategy": "gp"}, "NotHandled"),
            ({"task": {"space": {}}}, "SpaceError"),
            ({"task": {"space": {"x": {"type": "Float", "shape": [10**9], "scale": 1}}}}, "TooLarge"),
            ({"task": {"space": {"x": {"type": "Float", "low": 0, "high": 1, "up": 2}}}}, "SpaceError"),
            ({"seed": -1}, "Unprocessable"),
        ):
            assert refusal(server.post("/v1/studies", {**body, "name": "third", **wrong})) == (422, kind), wrong
        assert [study["name"] for study in server.get("/v1/studies").json()["studies"]] == [STUDY, "second"]
        assert [study["name"] for study in server.get("/v1/studies", "program").json()["studies"]] == [STUDY]
        assert refusal(server.get("/v1/studies/second", "program")) == (404, "StudyMissing")
        assert refusal(server.get("/v1/studies/nowhere")) == (404, "StudyMissing")
        shown = server.get("/v1/studies/second").json()
        assert (shown["strategy"], shown["feedback"], shown["statuses"], shown["paused"]) == (
            "rank-sgd",
            "ranking",
            {},
            False,
        )
    with inside(tmp_path / "runs.db", studies=(STUDY,)) as server:
        assert [study["name"] for study in server.get("/v1/studies").json()["studies"]] == [STUDY]
        assert refusal(server.get("/v1/studies/second")) == (404, "StudyMissing")
        assert refusal(server.post("/v1/studies", {**body, "name": "third"})) == (403, "NotServed")


# -- owners --------------------------------------------------------------------------------------------------------------


def test_history_and_export(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db")) as server:
        server.rate("ann", 6)
        server.undo("ann")
        slate = server.slate("ann")
        server.answer(slate, {"verdict": "all bad", "elapsed_ms": 700})
        found, after = [], None
        while True:
            page = server.get(
                f"{HERE}/history", params={"limit": 2, **({} if after is None else {"after": after})}
            ).json()
            found += page["slates"]
            after = page["after"]
            if after is None:
                break
        assert [slate["query"] for slate in found] == [5, 4, 3, 2, 1, 0]
        taken, last = found[0]["answers"]
        assert taken["withdrawn"] and not taken["applied"] and not last["withdrawn"] and last["applied"]
        assert (last["verdict"], last["elapsed_ms"], last["revision"], last["rater"]) == ("all bad", 700, 2, "ann")
        assert {item["id"] for item in found[0]["items"]} == {name for group in taken["groups"] for name in group}
        assert server.get(found[0]["items"][0]["url"]).status_code == 200
        assert refusal(server.get(f"{HERE}/history", "program")) == (403, "WrongRole")
        document = server.get(f"{HERE}/export?format=json")
        assert 'filename="picture-study.json"' in document.headers["content-disposition"]
        everything = json.loads(document.text)
        assert len(everything["answers"]) == 7 and len(everything["slates"]) == 6
        assert everything["trials"] == [trial.to_json() for trial in server.opt.trials()]
        again = bbopt.Task.from_json(everything["definition"]["task"])
        assert again == server.opt.task
        server.opt.to_csv(tmp_path / "trials.csv")
        assert server.get(f"{HERE}/export").text == (tmp_path / "trials.csv").read_text()
        lines = server.get(f"{HERE}/export?what=answers").text.splitlines()
        size = len(found[0]["items"])
        assert len(lines) == 1 + 7 * size and lines[0].startswith("answer,query,rater,repeat")
        assert [line.split(",")[-1] for line in lines[-size:]] == [""] * size, "a verdict has no groups"
        groups = server.opt.rankings()[0].ranking.groups
        expected = {row: place for place, group in enumerate(groups, 1) for row in group}
        assert [int(line.split(",")[-1]) for line in lines[1 : size + 1]] == [expected[row] for row in range(size)]
        assert server.get(f"{HERE}/export?format=xml").status_code == 422


def test_agreement(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db", picture(2), "random", quorum=2), repeats=0.9) as server:
        for _ in range(8):
            server.rate("ann")
            server.rate("bob", like=lambda params: -taste(params))
        found = server.get(f"{HERE}/agreement")
        assert found.status_code == 200 and found.json() == server.opt.agreement().to_json()
        (pair,) = found.json()["pairs"]
        assert pair["raters"] == ["ann", "bob"] and pair["slates"] > 0 and pair["tau"] == -1.0
        ann = found.json()["raters"][0]
        assert ann["repeats"]["slates"] > 0 and ann["repeats"]["tau"] == 1.0 and ann["zeta"] in (None, 1.0)
    with inside(make(tmp_path / "new.db")) as server:
        assert server.get(f"{HERE}/agreement").json() == {"pairs": [], "w": None, "w_slates": 0, "raters": []}


def test_a_raters_name_is_no_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db")) as server:
        (first, *_) = [trial["number"] for trial in ask(server, count=6)]
        server.post(f"{HERE}/rank", {"order": [[first]], "rater": "=1+1"}, "program")
        assert ",'=1+1," in server.get(f"{HERE}/export?what=answers").text


def test_best_and_earlier_ones(tmp_path: Path) -> None:
    with inside(make(tmp_path / "runs.db")) as server:
        assert server.get(f"{HERE}/best", "ann").json() == {"best": None, "earlier": []}
        server.rate(slates=30)
        mine, all_ = server.get(f"{HERE}/best", "ann").json(), server.get(f"{HERE}/best").json()
        assert mine["best"]["number"] is mine["best"]["params"] is None, "raters see it, and do not read it"
        assert all_["best"]["number"] == server.opt.best().number  # type: ignore[union-attr]
        assert 3 <= len(mine["earlier"]) <= 8
        points = [tuple(server.params(item["id"], "ann").values()) for item in (mine["best"]["item"], *mine["earlier"])]
        assert len(set(points)) == len(points) and server.get(mine["earlier"][-1]["url"], "ann").status_code == 200
        values = [taste(dict(enumerate(point))) for point in points]
        assert values == sorted(values, reverse=True), "a rater without noise never goes back"


def test_several_objectives_have_no_best(tmp_path: Path) -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), objectives=[bbopt.Objective("a"), bbopt.Objective("b")])
    with inside(make(tmp_path / "runs.db", task, "random")) as server:
        (trial,) = ask(server)
        server.post(f"{HERE}/tell", {"number": trial["number"], "values": {"a": 1, "b": 2}}, "program")
        assert server.get(f"{HERE}/best", "program").json() == {"best": None, "earlier": []}


# -- the description -----------------------------------------------------------------------------------------------------


def test_the_description_is_complete(tmp_path: Path) -> None:
    """Every operation says what it does, who may call it, and every status that the gate and the handlers give."""
    with inside(make(tmp_path / "runs.db")) as server:
        document = server.get("/openapi.json", None).json()
    paths = document["paths"]
    assert {
        "/healthz",
        "/v1/studies/{study}/next",
        "/v1/slates/{slate}/answer",
        "/v1/items/{item}",
        "/v1/session",
    } <= set(paths)
    assert not [path for path in paths if not path.startswith("/v1/") and path != "/healthz"], "pages are not described"
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation.get("summary") and operation.get("description"), (method, path)
            statuses = set(operation["responses"])
            assert {"400", "401", "403", "413", "422", "429", "503"} <= statuses, (method, path)
            assert "404" in statuses or "{" not in path
            assert operation.get("security") or path in ("/healthz", "/v1/session"), (method, path)
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    names = {part["$ref"] for part in _references(document)}
    assert names <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(value: Any) -> list[dict[str, str]]:
    if isinstance(value, dict):
        mine = [value] if "$ref" in value else []
        return mine + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []
