"""A server, its store and others on it: restarts, two servers at once, group commit, a full disk, what fails at the start."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contract.toys import Population
from server_inside import STUDY, inside, kinds, make, picture, refusal, shown

import bbopt
import server as package


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db")


# -- restarts ------------------------------------------------------------------------------------------------------------


def test_a_restart_in_the_middle_changes_nothing(store: Path) -> None:
    with inside(store) as server:
        server.rate(slates=3)
        slate = server.slate()
        receipt = server.answer(slate, {"verdict": "cannot tell"}).json()
        open_slate = server.slate()
        server.undo()
        state = server.strategy_state()
    with inside(store) as server:
        assert server.strategy_state() == state
        again = server.slate()
        assert (again["id"], shown(again), again["revision"]) == (slate["id"], shown(slate), 1)
        assert refusal(server.answer(open_slate, {"verdict": "skip"})) == (409, "SlateGone")
        assert server.answer(again, {"verdict": "cannot tell"}).json()["receipt"] != receipt["receipt"]
    with inside(store) as server:
        replayed = server.put(f"/v1/slates/{slate['id']}/answer", {"verdict": "cannot tell", "revision": 2})
        assert replayed.status_code == 200 and server.room.ledger().total == 4


def test_two_servers_on_one_store(store: Path) -> None:
    """Each sees at once what the other wrote; an answer that reaches both is recorded once."""
    with inside(store) as one, inside(store) as two:
        slate = one.slate()
        assert two.slate()["id"] == slate["id"]
        body = {"groups": one.order(slate, "ann"), "revision": 1}
        path = f"/v1/slates/{slate['id']}/answer"
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: (one, two)[i % 2].put(path, body), range(40)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["receipt"] for answer in answers}) == 1
        assert kinds(one.opt) == ["ask", "rank"]
        assert refusal(two.put(path, {"verdict": "skip", "revision": 1})) == (409, "Conflict")
        two.undo()
        assert one.slate()["draft"] is not None
        for _ in range(5):
            one.rate(), two.rate()
        assert one.strategy_state() == two.strategy_state() and one.room.ledger().total == 10


def test_examples_in_the_servers_docstrings_run() -> None:
    modules = [module.name for module in pkgutil.iter_modules(package.__path__, "server.")]
    assert "server.ids" in modules
    for name in modules:
        assert not doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed, name


def test_another_program_on_the_same_store(store: Path) -> None:
    """What the command line does meanwhile is seen at once: an answer for somebody, and one that is taken back."""
    with inside(store) as server, bbopt.Optimizer.open(store, STUDY) as other:
        slate = server.slate()
        other.rank(list(other.slates()[0].numbers), rater="by hand")
        late = server.answer(slate, {"verdict": "all bad"}).json()
        assert not late["applied"] and late["progress"]["raters"] == 2
        other.retract(0, rater="by hand")
        other.retract(0, rater="ann")
        again = server.slate()
        assert again["id"] == slate["id"] and again["revision"] == 1
        other.rank(list(other.slates()[0].numbers), rater="ann")
        stands = server.answer(again, {"verdict": "all bad"})
        assert stands.status_code == 200 and stands.json()["revision"] == 2, "it corrects what was given by hand"
        assert kinds(other).count("rank") == 4


# -- the writer ----------------------------------------------------------------------------------------------------------


def test_answers_that_arrive_together_are_committed_together(store: Path) -> None:
    raters = [f"rater {i}" for i in range(12)]
    with inside(store) as server:
        slates = {who: server.slate(who) for who in raters}
        busy, go_on = threading.Event(), threading.Event()
        server.room.writer.submit(lambda: (busy.set(), go_on.wait(30)))
        assert busy.wait(30)
        with ThreadPoolExecutor(len(raters)) as pool:
            sent = [pool.submit(server.answer, slates[who], {"verdict": "cannot tell"}, who) for who in raters]
            while server.room.writer._jobs.qsize() < len(raters):
                time.sleep(0.005)
            before = len(server.opt.history())
            go_on.set()
            assert {answer.result().status_code for answer in sent} == {200}
        assert server.room.writer._commits == 1 and len(server.opt.history()) == before + len(raters)


def test_a_store_that_cannot_be_written(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, nothing acknowledged, and the same answer again is taken once there is space."""

    def full(_: Any) -> Any:
        raise bbopt.StoreFull("no space left: free some and repeat it")

    with inside(store) as server:
        slate = server.slate()
        body = {"groups": server.order(slate, "ann")}
        writing = server.room.writer._write
        server.room.writer._write = full
        refused = server.answer(slate, body)
        assert refusal(refused) == (503, "StoreFull") and refused.headers["retry-after"]
        server.room.writer._write = writing
        assert server.answer(slate, body).status_code == 200 and kinds(server.opt) == ["ask", "rank"]


# -- starting ------------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_known_at_the_start(store: Path) -> None:
    for options, error in (
        ({"renderers": {"*": "no_such_module:draw"}}, bbopt.UsageError),
        ({"renderers": {"nowhere": "table"}}, bbopt.StudyMissing),
        ({"studies": ("nowhere",)}, bbopt.StudyMissing),
    ):
        with pytest.raises(error), inside(store, **options):
            pass


def test_a_study_whose_strategy_is_not_here(store: Path) -> None:
    bbopt.Optimizer(picture(), Population(), store=store, name="own").close()
    with inside(store, renderers={}) as server:
        assert [study["name"] for study in server.get("/v1/studies").json()["studies"]] == [STUDY]
        assert refusal(server.get("/v1/studies/own")) == (409, "NotServed")
