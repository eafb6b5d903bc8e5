"""Sounds, pages and tables in Chromium, waiting for others, and the pure functions behind the rating page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages_kit import chromium, page_in
from server_live import Live, serving

import bbopt

STATIC = Path(__file__).parent.parent / "server" / "static"
EVIL = """
def draw(params):
    return (
        "<!doctype html><title>x</title><p>" + str(params["x"])
        + "<script>parent.document.title = 'taken'; parent.postMessage('taken', '*')</script>"
        + "<img src=x onerror=\\"parent.document.title='taken'\\"><form action='/v1/session' method=post><input name=token></form>"
    )
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a study of sounds, one whose renderer writes scripts, and one whose slates need two raters."""
    home = tmp_path_factory.mktemp("kinds")
    (home / "evil_renderer.py").write_text(EVIL)
    pair = bbopt.Space({"x": bbopt.Float(0, 1), "<img src=x onerror=alert(1)>": bbopt.Float(0, 1)})
    plain = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1)), feedback="ranking")
    store = home / "runs.db"
    bbopt.Optimizer(bbopt.problems.get("tone").task, "rank-sgd", store=store, name="tone").close()
    bbopt.Optimizer(bbopt.Task(pair, feedback="ranking"), "rank-sgd", store=store, name="odd").close()
    bbopt.Optimizer(plain, "cmaes", store=store, name="two", quorum=2).close()
    words = (
        "--rater",
        "ann",
        "--rater",
        "bob",
        "--goal",
        "2",
        "--renderer",
        "odd=evil_renderer:draw",
        "--renderer",
        "two=table",
    )
    with serving(store, *words, cwd=home) as server:
        server.facts["store"] = str(store)
        yield server


@pytest.fixture
def module(browser: Any) -> Iterator[Any]:
    """A function that runs JavaScript with a module of the pages as `m`; there is no server."""
    with page_in(browser) as page:

        def answer(route: Any) -> None:
            path = STATIC / route.request.url.rpartition("/")[2]
            if path.suffix == ".js":
                route.fulfill(path=path, content_type="text/javascript")
            else:
                route.fulfill(body="<!doctype html><title>x</title>", content_type="text/html")

        page.route("**/*", answer)
        page.goto("http://127.0.0.1:9/")
        yield lambda name, script: page.evaluate(
            f"async () => {{ const m = await import('/static/{name}'); {script} }}"
        )


def test_steps_of_an_answer(module: Any) -> None:
    groups = module(
        "answer.js",
        """
        const items = ["a", "b", "c", "d", "e", "f"];
        let s = items.slice(0, 5).reduce(m.see, m.empty());
        const out = [m.groupsOf(s, items), m.ready(s)];
        s = m.append(m.append(s, "c"), "a"); out.push(s.best);
        s = m.rank(s, "b", 1); out.push(s.best);
        s = m.equal(s, "d"); out.push(s.best);
        s = m.equal(s, "a"); out.push(s.best);
        s = m.insert(s, "a", 3); out.push(s.best);
        s = m.insert(s, "c", 0); out.push(s.best);
        s = m.toWorst(s, "c"); out.push(m.groupsOf(s, items));
        s = m.equal(s, "e"); out.push(m.groupsOf(s, items));
        s = m.toUnseen(m.toFine(s, "a"), "d"); out.push(m.groupsOf(s, items));
        return out;
        """,
    )
    assert groups == [
        {"groups": [["a", "b", "c", "d", "e"]], "unseen": ["f"]},
        False,
        [["c"], ["a"]],
        [["b"], ["c"], ["a"]],  # a digit moves the others down
        [["b", "d"], ["c"], ["a"]],  # = ties with what was placed last
        [["b", "d"], ["c", "a"]],  # and, for one that has a place, with the rank above
        [["b", "d"], ["c"], ["a"]],
        [["c"], ["b", "d"], ["a"]],
        {"groups": [["b", "d"], ["a"], ["e"], ["c"]], "unseen": ["f"]},
        {"groups": [["b", "d"], ["a"], ["c", "e"]], "unseen": ["f"]},
        {"groups": [["b"], ["a"], ["c", "e"]], "unseen": ["d", "f"]},
    ]


def test_any_steps_name_every_item_once_and_drafts_come_back(module: Any) -> None:
    wrong = module(
        "answer.js",
        """
        let seed = 7;
        const draw = (n) => (seed = (seed * 48271) % 2147483647) % n;
        const items = [..."abcdefgh"];
        const steps = [m.see, m.append, m.equal, m.toWorst, m.toFine, m.toUnseen,
            (s, x) => m.rank(s, x, 1 + draw(9)), (s, x) => m.insert(s, x, draw(s.best.length + 1)), (s, x) => m.join(s, x, items[draw(8)])];
        const sorted = (groups) => JSON.stringify(groups.map((group) => [...group].sort()));
        let s = m.empty();
        for (let k = 0; k < 5000; k += 1) {
            s = k % 40 ? steps[draw(steps.length)](s, items[draw(8)]) : m.empty();
            const { groups, unseen } = m.groupsOf(s, items);
            if ([...groups.flat(), ...unseen].sort().join("") !== items.join("") || groups.some((group) => !group.length)) return [k, s];
            const again = m.groupsOf(m.fromGroups(groups, items), items);
            if (sorted(again.groups) !== sorted(groups) || [...again.unseen].sort().join() !== [...unseen].sort().join()) return [k, groups, again];
        }
        return null;
        """,
    )
    assert wrong is None


def test_what_an_answer_tells(module: Any) -> None:
    """facts: eff of the rank-based gradient for full orders, bins, best alone (2/√π and tabulated normal scores)."""
    shapes = [[1] * 8, [2, 4, 2], [1, 6, 1], [1, 1, 1, 5], [1] * 15, [5, 5, 5], [3, 9, 3], [1, 14]]
    found = module("info.js", f"return [...{shapes}.map(m.eff), m.eff([4]), m.eff([])];")
    assert found[:8] == pytest.approx([5.93, 5.2, 4.05, 4.5, 12.5, 10.6, 10.3, 3.23], rel=0.02)
    assert found[8:] == [0, 0]


def test_cards_fill_the_window(module: Any) -> None:
    """All cards on the screen where they stay large enough, else as many columns as fit."""
    found = module(
        "fit.js",
        "return [[6, 1248, 620, 4/3, 175], [8, 1248, 620, 4/3, 175], [6, 1248, 560, 0.72, 148], [30, 1248, 560, 4/3, 175]].map((a) => m.columns(...a).columns);",
    )
    assert found == [3, 4, 6, 6]


def stored(live: Live, study: str) -> list[bbopt.Ranked]:
    return bbopt.Optimizer.open(live.facts["store"], study).rankings()


def test_sounds_count_as_seen_once_they_were_played(browser: Any, live: Live) -> None:
    with page_in(browser) as page:
        page.goto(live.link("ann", "tone"))
        page.click("#go")
        page.wait_for_selector(".card.audio")
        assert page.locator(".card[data-bin=unseen]").count() == page.locator(".card").count()
        page.focus(".card >> nth=2 >> .look")
        page.keyboard.press(" ")  # plays
        page.wait_for_selector(".card[data-bin=fine]")
        page.keyboard.press("0")
        page.click("#send")  # one alone says nothing, so it is not sent
        page.wait_for_selector("#notice:has-text('look at the others')")
        page.click(".card >> nth=0 >> .look")  # placing one is a word on it, heard or not
        page.click("#send")
        page.wait_for_function("() => document.querySelector('#progress .answers b').textContent === '1 of 2'")
    (answer,) = stored(live, "tone")
    assert [len(group) for group in answer.ranking.groups] == [1, 1]
    assert len(answer.ranking.unseen) == answer.size - 2


def test_what_a_renderer_writes_runs_nowhere(browser: Any, live: Live) -> None:
    with page_in(browser) as page:
        page.goto(live.link("ann", "odd"))
        page.wait_for_selector("#go:visible")
        page.evaluate("addEventListener('message', () => (document.title = 'taken'))")
        page.click("#go")
        page.wait_for_selector(".card.html iframe")
        page.wait_for_function("() => !document.querySelector('.card[data-bin=unseen]')")
        page.click(".card >> nth=1 >> .look")  # over the frame
        page.wait_for_selector(".card[data-bin=best]")
        assert page.title() == "Rank · odd"
        page.goto(live.link())
        page.click("text=odd")
        page.wait_for_selector("#history iframe")
        page.wait_for_timeout(200)
        assert page.title() == "odd · bbopt"
        assert page.complaints  # Chromium says of each frame that its script was blocked
        assert all("sandbox" in text or "Content Security Policy" in text for text in page.complaints), page.complaints
        page.complaints.clear()


def test_who_waits_for_others_goes_on_by_itself_until_the_goal(browser: Any, live: Live) -> None:
    with page_in(browser) as page:

        def rank() -> None:
            page.wait_for_selector(".card.table iframe")
            page.wait_for_function("() => !document.querySelector('.card[data-bin=unseen]')")
            page.keyboard.press("1")  # the first card has the focus
            page.wait_for_selector("#live:has-text('A: place 1 of 1')")
            page.keyboard.press("Enter")

        page.goto(live.link("ann", "two"))
        page.click("#go")
        rank()
        page.wait_for_selector("#why:has-text('depends on others')")
        with live.client(live.rater("bob", "two")) as bob:
            slate = bob.get("/v1/studies/two/next").json()["slate"]
            groups = [[item["id"]] for item in slate["items"]]
            reply = bob.put(f"/v1/slates/{slate['id']}/answer", json={"groups": groups, "revision": 1})
            assert reply.status_code == 200
        rank()
        page.wait_for_selector("#end:visible")
        page.click("#end .back")  # the last word may still be changed
        page.wait_for_selector(".card[data-bin=best]")
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        page.wait_for_selector("#end:visible")
    answers = stored(live, "two")
    assert answers[-1].details["revision"] == 2
    assert [len(group) for group in answers[-1].ranking.groups] == [answers[-1].size - 1, 1]
    assert [(answer.rater, len(answer.ranking.groups)) for answer in answers] == [
        ("ann", 2),
        ("bob", len(groups)),
        ("ann", 2),
    ]
