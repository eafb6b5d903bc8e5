"""Pictures of every page at the width of a telephone and of a desktop: `python tests/pages_shots.py FOLDER`.

The study is one of landscapes that two simulated people have ranked for a while, so that nothing on the pages is empty.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pages_kit import DESKTOP, PHONE, chromium, page_in
from server_live import Live, serving

import bbopt

STUDY = "landscape"
LOOKS = {
    "desktop": DESKTOP,
    "desktop-dark": DESKTOP | {"color_scheme": "dark"},
    "phone": PHONE,
    "phone-light": PHONE | {"color_scheme": "light"},
}


def prepare(store: Path, rounds: int = 3) -> None:
    """A study with answers of two people, both of whom rank the slates that need two."""
    problem = bbopt.problems.get(STUDY)
    opt = bbopt.Optimizer(problem.task, "rank-sgd", seed=4, store=store, name=STUDY, quorum=2)
    rng = np.random.default_rng(5)
    people = {
        "bob": bbopt.problems.Person.of(problem, level=0.3),
        "eve": bbopt.problems.Person.of(problem, level=0.6, form="bins 2-2-2"),
    }
    for _ in range(rounds):
        query = opt.ask_query(6)
        for name, person in people.items():
            if opt.slates()[-1].open:
                person.answer(opt, query, rng, rater=name)
    opt.close()


def wide(page: Any) -> None:
    """Nothing sticks out at the side."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def rating(page: Any, live: Live, shot: Any, rater: str) -> None:
    page.goto(live.link(rater))
    page.wait_for_selector("#go:visible")
    shot("start")
    page.click("#go")
    page.wait_for_selector(".card[data-bin=fine]")
    page.wait_for_timeout(700)  # until all that is on the screen counts as seen
    shot("rate-fresh")
    cards = page.locator(".card")
    cards.nth(1).locator(".look").click()
    cards.nth(2).locator(".look").click()
    page.keyboard.press("=")
    cards.nth(0).locator(".look").click()
    cards.nth(3).locator(".small.worst").click()
    page.mouse.move(1, 1)
    page.evaluate("window.scrollTo(0, 0)")
    shot("rate-placed")
    if not page.evaluate("matchMedia('(pointer: coarse)').matches"):
        box = cards.nth(4).bounding_box()
        page.mouse.move(box["x"] + 80, box["y"] + 60)
        page.mouse.down()
        thumb = page.locator(".bin.best .thumb").last.bounding_box()
        page.mouse.move(thumb["x"] + 30, thumb["y"] + 20, steps=5)
        shot("rate-dragging")
        page.keyboard.press("Escape")
        page.mouse.up()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shot("rate-foot")
    cards.nth(1).locator(".small.zoom").click()
    shot("zoom-one")
    page.locator(".letters .chip").nth(2).click()
    page.wait_for_timeout(100)
    shot("zoom-two")
    page.keyboard.press("Escape")
    page.click("#ask")
    if page.locator("#help summary").is_visible():
        page.click("#help summary")
    shot("help")
    page.keyboard.press("Escape")
    page.click("#best summary")
    page.wait_for_function("() => document.querySelector('#best .now img')?.naturalWidth > 0")
    page.locator("#best .now").scroll_into_view_if_needed()
    shot("best")
    page.click("#best summary")
    page.evaluate("window.scrollTo(0, 0)")
    page.context.set_offline(True)
    page.click("#send")
    page.wait_for_selector("#notice:visible")
    shot("rate-offline")
    page.complaints.clear()
    page.context.set_offline(False)
    page.wait_for_selector("#notice", state="hidden")
    page.wait_for_selector("#end:visible")
    page.wait_for_function("() => document.querySelector('#best .now img')?.naturalWidth > 0")
    shot("end")


def owning(page: Any, live: Live, shot: Any, name: str) -> None:
    page.goto(live.link())
    page.wait_for_selector("#studies table")
    shot("home")
    page.click(f"text={STUDY}")
    page.wait_for_selector("#agreement table")
    page.wait_for_function("() => document.querySelector('#best figure img')?.naturalWidth > 0")
    page.fill("#name", name)
    page.click("#add button")
    page.wait_for_selector("#made input")
    shot("study")
    shot("study-whole", full_page=True)
    page.click("#pause")
    page.wait_for_selector("#state:text-is('paused')")


def take(folder: Path, looks: tuple[str, ...] = tuple(LOOKS)) -> list[Path]:
    """Take them all. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    raters = [word for look in looks for word in ("--rater", look)]
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        store = Path(home) / "runs.db"
        prepare(store)
        with serving(store, *raters, "--goal", "1") as live:
            for look in looks:
                with page_in(browser, **LOOKS[look]) as page:

                    def shot(name: str, page: Any = page, look: str = look, **options: Any) -> None:
                        wide(page)
                        taken.append(folder / f"{name}-{look}.png")
                        page.screenshot(path=taken[-1], **options)

                    for name, path in (("welcome", "/"), ("refused", "/rate/x"), ("missing", "/x"), ("join", "/join")):
                        page.goto(live.url + path)
                        page.wait_for_load_state()
                        shot(name)
                    page.complaints.clear()  # 401 and 404
                    rating(page, live, shot, look)
                    owning(page, live, shot, f"carl-{look}")
                    page.goto(page.locator("#made input").input_value())
                    page.wait_for_selector("#why:has-text('paused')")
                    shot("paused")
                    page.goto(f"{live.url}/studies/{STUDY}")
                    page.click("#pause:text-is('Go on')")
                    page.wait_for_selector("#state:text-is('running')")
    return taken


if __name__ == "__main__":
    for file in take(Path(sys.argv[1])):
        print(file)
