"""People rank in real headless Chromium; what they did is what the store then holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages_kit import PHONE, Person, chromium, page_in, said
from server_live import Live, serving

import bbopt


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def problem() -> bbopt.problems.Problem:
    return bbopt.problems.get("landscape")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, problem: bbopt.problems.Problem) -> Path:
    """A store with a study of pictures for each test: a server takes seconds to start."""
    path = tmp_path_factory.mktemp("pages") / "runs.db"
    for name in ("ten", "phone", "tabs", "owned"):
        bbopt.Optimizer(problem.task, "rank-sgd", seed=3, store=path, name=name).close()
    return path


@pytest.fixture(scope="module")
def live(store: Path) -> Iterator[Live]:
    with serving(store, "--rater", "ann", "--renderer", "picture") as server:
        yield server


def test_ten_slates_by_drag_click_and_keyboard(
    browser: Any, live: Live, store: Path, problem: bbopt.problems.Problem
) -> None:
    expected: list[tuple[list[set[int]], dict[str, Any]]] = []
    with page_in(browser) as page:
        ann = Person(page, store, problem, "ten")
        ann.join(live.link("ann", "ten"))
        assert page.url == f"{live.url}/rate/ten"  # the token has left the address bar

        order = ann.look()  # 1: click from best to worst
        first = list(order)
        ann.click(*order)
        page.click("#send")
        expected.append((ann.of(*([item] for item in order)), {"revision": 1}))

        order = ann.look()  # 2: by keyboard; digits give places, 0 is worst, the rest stays in between
        ann.press(order[1], "1")
        ann.press(order[0], "1")  # moves the other one to the second place
        ann.press(order[2], "+")
        ann.press(order[-1], "0")
        ann.send()
        expected.append((ann.of(order[:1], order[1:2], order[2:3], order[3:-1], order[-1:]), {}))

        order = ann.look()  # 3: drag into Best, to a place in it, onto another for a tie, and into Worst
        ann.drag(order[1], ".bin.best")
        ann.drag(order[0], ann.thumb(order[1]), x=0.05)  # before it
        ann.drag(order[2], ann.thumb(order[1]))  # onto it: a tie
        ann.drag(order[-1], ".bin.worst")
        page.dblclick("#send")  # still one answer
        expected.append((ann.of(order[:1], order[1:3], order[3:-1], order[-1:]), {}))

        order = ann.look()  # 4: ties by the key, and by the switch for clicks
        ann.click(order[0])
        ann.press(order[1], "=")
        page.click("#tie")
        ann.click(order[2])
        page.click("#tie")
        ann.click(order[3])
        ann.send()
        expected.append((ann.of(order[:3], order[3:4], order[4:]), {}))

        ann.look()  # 5: skip, from the keyboard
        page.keyboard.press("s")
        expected.append(([], {"kind": "skip"}))

        order = ann.look()  # 6: send, take back, correct
        ann.click(order[-1])
        ann.send()
        ann.look()
        page.keyboard.press("u")
        page.wait_for_function(
            "item => document.querySelector(`.card[data-item='${item}'][data-bin=best]`)", arg=order[-1]
        )
        ann.know()
        ann.click(order[-1], order[0], order[1])  # the old answer is there to start from; a click takes it back
        ann.send()
        expected.append((ann.of(order[:1], order[1:2], order[2:]), {"revision": 2}))

        order = ann.look()  # 7: a reload in the middle
        ann.click(order[0])
        ann.card(order[-1]).locator(".small.worst").click()
        page.reload()
        page.wait_for_selector(".card[data-bin=worst]")
        ann.know()
        ann.click(order[1])
        ann.send()
        expected.append((ann.of(order[:1], order[1:2], order[2:-1], order[-1:]), {}))

        order = ann.look()  # 8: the connection is lost, and comes back
        ann.click(*order[:2])
        page.context.set_offline(True)
        ann.send()
        page.wait_for_selector("#notice:has-text('No connection')")
        assert page.locator("#send").is_disabled()  # one answer, sent once
        page.complaints.clear()  # Chromium reports the request that failed
        page.context.set_offline(False)
        expected.append((ann.of(order[:1], order[1:2], order[2:]), {}))

        order = ann.look()  # 9: the answer arrives, its receipt is lost, and the page is reloaded before it can repeat
        ann.click(*order[:3])
        lost: list[int] = []

        def lose(route: Any) -> None:
            lost.append(route.fetch().status)
            route.abort()

        page.route("**/answer", lose)
        ann.send()
        page.wait_for_selector("#notice:has-text('No connection')")
        assert lost[0] == 200
        page.complaints.clear()
        page.unroute("**/answer")
        page.reload()
        expected.append((ann.of(order[:1], order[1:2], order[2:3], order[3:]), {}))

        ann.look()  # 10: no order at all
        page.click("[data-verdict='cannot tell']")
        expected.append(([], {}))
        ann.look()
        assert page.locator("#progress .answers b").inner_text() == "10"

        page.click("#best summary")
        page.wait_for_function("() => document.querySelector('#best .now img')?.naturalWidth > 0")
    with live.client(live.owner) as owner:
        best = owner.get("/v1/studies/ten/best").json()["best"]
    opt = bbopt.Optimizer.open(store, "ten")
    stored = opt.rankings()
    assert [said(answer) for answer in stored] == [groups for groups, _ in expected]
    for answer, (_, details) in zip(stored, expected, strict=True):
        assert answer.rater == "ann"
        assert answer.details.items() >= details.items()
        assert 0 < answer.details["elapsed_ms"] < 120_000
        assert not answer.ranking.unseen or answer.details["kind"] == "skip"
    assert stored[-1].ranking.verdict == "cannot tell"
    assert problem(best["params"])["liking"] > max(
        problem(opt.trial(ann.numbers[item]).params)["liking"] for item in first
    )


def test_a_phone_drags_by_touch_and_leaves_unseen_what_it_never_showed(
    browser: Any, live: Live, store: Path, problem: bbopt.problems.Problem
) -> None:
    with page_in(browser, **PHONE | {"viewport": {"width": 360, "height": 560}}) as page:
        ann = Person(page, store, problem, "phone")
        ann.join(live.link("ann", "phone"))
        ann.look(everything=False)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        shown = page.evaluate(
            """() => [...document.querySelectorAll('.card')].filter(card => {
                const box = card.querySelector('.body').getBoundingClientRect();
                return (box.top + box.bottom) / 2 < document.querySelector('#dock').getBoundingClientRect().top;
            }).length"""
        )
        assert 2 <= shown < len(ann.items)  # the rest is below the edge
        seen, rest = ann.items[:shown], ann.items[shown:]
        page.wait_for_function("n => document.querySelectorAll('.card:not([data-bin=unseen])').length === n", arg=shown)
        touch = page.context.new_cdp_session(page)

        def finger(kind: str, x: float = 0.0, y: float = 0.0) -> None:
            points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        for item, to in ((seen[1], ".bin.best"), (seen[0], ".bin.worst")):
            box, end = ann.card(item).locator(".look").bounding_box(), page.locator(to).bounding_box()
            finger("touchStart", box["x"] + 60, box["y"] + 60)
            page.wait_for_selector(".ghost")  # the finger rests, and the card comes along
            for share in (0.5, 1.0):
                finger("touchMove", box["x"] + 60 + share * (end["x"] + 40 - box["x"] - 60), box["y"] + 60 + share * (end["y"] + 25 - box["y"] - 60))  # fmt: skip
            finger("touchEnd")
        assert page.evaluate("window.scrollY") == 0
        page.tap("#send")
        ann.look(everything=False)
    stored = bbopt.Optimizer.open(store, "phone").rankings()
    assert [said(answer) for answer in stored] == [[group for group in ann.of(seen[1:2], seen[2:], seen[:1]) if group]]
    assert {stored[0].first + row for row in stored[0].ranking.unseen} == {ann.numbers[item] for item in rest}


def test_two_windows_and_a_revoked_link_lose_and_double_nothing(
    browser: Any, live: Live, store: Path, problem: bbopt.problems.Problem
) -> None:
    with page_in(browser) as page, live.client(live.owner) as owner:
        ann = Person(page, store, problem, "tabs")
        ann.join(live.link("ann", "tabs"))
        order = ann.look()
        other = page.context.new_page()
        other.goto(page.url)
        other.wait_for_selector(".card[data-bin=fine]")
        ann.click(*order[:2])
        ann.send()
        first = ann.of(order[:1], order[1:2], order[2:])
        order = ann.look()
        other.click(".card >> nth=3 >> .look")  # the same slate, in the other window
        other.click("#send")
        other.wait_for_selector("#notice:has-text('answered in another window')")
        other.wait_for_function("item => document.querySelector('.card')?.dataset.item === item", arg=ann.items[0])
        other.close()

        link = next(link for link in owner.get("/v1/studies/tabs/links").json()["links"] if link["name"] == "ann")
        assert owner.delete(f"/v1/studies/tabs/links/{link['id']}").status_code == 204
        ann.click(*order[:3])
        ann.send()
        page.wait_for_selector("#lost:has-text('kept on this device')")
        page.complaints.clear()  # the 401
        again = owner.post("/v1/studies/tabs/links", json={"name": "ann", "seconds": 600})
        page.goto(again.json()["url"])
        ann.look()
    stored = bbopt.Optimizer.open(store, "tabs").rankings(withdrawn=True)
    assert [said(answer) for answer in stored] == [first, ann.of(order[:1], order[1:2], order[2:3], order[3:])]


def test_an_owner_watches_makes_and_revokes_links_and_pauses(
    browser: Any, live: Live, store: Path, problem: bbopt.problems.Problem
) -> None:
    with page_in(browser) as page:
        ann = Person(page, store, problem, "owned")
        ann.join(live.link("ann", "owned"))
        order = ann.look()
        ann.click(*order[:2])
        ann.send()
        ann.look()
        page.goto(live.link())  # the owner's, in the same browser
        page.click("text=owned")
        page.wait_for_selector("#history .answers li")
        letters = page.locator("#history .answers .order b").all_inner_texts()
        assert len(letters) == len(order)
        assert page.locator("#numbers div:has(dt:text-is('answers')) dd").inner_text() == "1"
        page.wait_for_function("() => document.querySelector('#best figure img')?.naturalWidth > 0")
        assert page.locator("#best .params tr").count() == 12

        page.fill("#name", "bob")
        page.click("#add button")
        link = page.locator("#made input").input_value()
        assert link.startswith(f"{live.url}/join#")
        page.fill("#name", "bob")  # a second one is asked about
        page.click("#add button")
        page.click("#made button:has-text('one more')")
        page.wait_for_selector("#made input")
        page.complaints.clear()  # Chromium reports every answer of 409

        with page_in(browser) as other:
            other.goto(link)
            other.wait_for_selector("#go:visible")
            page.click("#pause")
            page.wait_for_selector("#state:text-is('paused')")
            other.reload()
            other.wait_for_selector("#why:has-text('paused')")
            page.click("#pause")
            other.wait_for_selector("#go:visible")  # it goes on by itself

        bob = page.locator("#links tr:has(th:text-is('bob'))").last
        bob.locator("button").click()
        bob.locator("button:text-is('Revoke now?')").click()
        page.wait_for_selector("#links tr.gone")
        with page_in(browser) as other:
            other.goto(link)
            other.wait_for_selector("h1:has-text('does not work')")
            other.complaints.clear()  # the 401
        with page.expect_download() as download:
            page.click("#csv")
        assert download.value.path().read_text().startswith("number,")
