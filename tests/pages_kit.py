"""Chromium before a served study, and a person with a known taste who looks at the pictures and ranks by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bbopt

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [  # without them Chromium calls home at every start
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
]
DESKTOP = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: install the package chromium to see the pages rendered")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def page_in(browser: Any, **options: Any) -> Iterator[Any]:
    """A page of a fresh session. At the end, anything that Chromium complained of fails the test: errors of scripts, what
    the content policy refused, requests that failed, requests to other hosts. `page.complaints` can be cleared on the way.
    """
    context = browser.new_context(**(options or DESKTOP))
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.complaints = []
    page.hosts = set()
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    yield page
    assert not page.complaints, "\n".join(page.complaints)
    assert all(host.startswith("127.0.0.1:") for host in page.hosts)
    context.close()


class Person:
    """Ranks in a page of a study of pictures, by the problem's own utility, which the study does not know.

    It knows a picture by its bytes: what the server shows for a trial is what the problem draws for it.
    """

    def __init__(self, page: Any, store: Path, problem: bbopt.problems.Problem, name: str) -> None:
        draw = bbopt.problems.renderer_for(problem.task)
        assert draw is not None
        self.page, self.problem, self.draw = page, problem, draw
        self.opt = bbopt.Optimizer.open(store, name)
        self.drawn: dict[int, bytes] = {}
        self.numbers: dict[str, int] = {}  # by item
        self.items: list[str] = []

    def join(self, link: str) -> None:
        self.page.goto(link)
        self.page.wait_for_selector("#go:visible, #cards .look:visible")
        if self.page.locator("#go").is_visible():
            self.page.click("#go")

    def picture(self, number: int) -> bytes:
        if number not in self.drawn:
            drawn = self.draw(self.opt.trial(number).params)
            self.drawn[number] = drawn.encode() if isinstance(drawn, str) else drawn
        return self.drawn[number]

    def look(self, everything: bool = True) -> list[str]:
        """Wait for a slate that was not here before, and know its pictures. Returns the items, best first."""
        self.page.wait_for_function(
            "before => document.body?.dataset.view === 'slate' && document.querySelector('.card')?.dataset.item !== before",
            arg=self.items[0] if self.items else "",
        )
        return self.know(everything)

    def know(self, everything: bool = True) -> list[str]:
        """The items on the page, best first; with `everything`, once all of them count as seen."""
        self.items = self.page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.item)")
        if everything:
            self.page.wait_for_function("() => !document.querySelector('.card[data-bin=unseen]')")
        if not set(self.items) <= set(self.numbers):
            origin = self.page.url.partition("/rate")[0]
            shown = [self.page.context.request.get(f"{origin}/v1/items/{item}").body() for item in self.items]
            slates = (
                {self.picture(number): number for number in slate.numbers} for slate in reversed(self.opt.slates())
            )
            here = next(slate for slate in slates if set(slate) == set(shown))  # the newest: pictures may come again
            self.numbers.update({item: here[picture] for item, picture in zip(self.items, shown, strict=True)})
        return sorted(self.items, key=self.liking, reverse=True)

    def liking(self, item: str) -> float:
        return self.problem(self.opt.trial(self.numbers[item]).params)[self.problem.task.objectives[0].name]

    def card(self, item: str) -> Any:
        return self.page.locator(f'.card[data-item="{item}"]')

    def click(self, *items: str) -> None:
        for item in items:
            self.card(item).locator(".look").click()

    def focus(self, item: str) -> None:
        """Go there by arrow keys."""
        for _ in range(2 * len(self.items)):
            at = self.page.evaluate("() => document.activeElement.closest('.card')?.dataset.item ?? null")
            if at == item:
                return
            forward = at is None or self.items.index(at) < self.items.index(item)
            self.page.keyboard.press("ArrowRight" if forward else "ArrowLeft")
        raise AssertionError(f"the arrow keys never came to {item}")

    def press(self, item: str, key: str) -> None:
        self.focus(item)
        self.page.keyboard.press(key)

    def drag(self, item: str, to: str, x: float = 0.5) -> None:
        """By mouse, from the card to the point at the share x of the width of what the selector finds."""
        start, end = self.card(item).locator(".look").bounding_box(), self.page.locator(to).bounding_box()
        mouse = self.page.mouse
        mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        mouse.down()
        mouse.move(end["x"] + end["width"] * x, end["y"] + end["height"] * 0.6, steps=4)
        mouse.up()

    def thumb(self, item: str) -> str:
        return f'.bin.best .thumb[data-item="{item}"]'

    def send(self) -> None:
        self.page.keyboard.press("Enter")

    def of(self, *groups: list[str]) -> list[set[int]]:
        """Groups of items as sets of trial numbers."""
        return [{self.numbers[item] for item in group} for group in groups]


def said(answer: bbopt.Ranked) -> list[set[int]]:
    """The groups of a stored answer as sets of trial numbers."""
    return [{answer.first + row for row in group} for group in answer.ranking.groups]
