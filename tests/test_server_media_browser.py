"""What a real browser does with renderings that would like to act: it shows them, and they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pages_kit import chromium
from starlette.requests import Request

import bbopt
from server.media import response
from server.render_table import TableRenderer
from server.rendering import Rendering, rendering_of

ORIGIN = "http://rank.test"
ACT = "document.title='acted'; try { top.document.title='acted' } catch {} fetch('http://rank.test/told')"
SCRIPT = f"<script>{ACT}</script>"
XSS = f'{SCRIPT}"\'><img src=x onerror="{ACT}"><a href="javascript:{ACT}">'
PAGE = f"""<!doctype html><title>still</title><iframe sandbox src="{ORIGIN}/item"></iframe><img src="{ORIGIN}/item">"""
POLICY = "default-src 'none'; frame-src 'self'; img-src 'self'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@contextmanager
def serving(browser: Any, rendering: Rendering, asked: list[str]) -> Iterator[Any]:
    """A browser's page, for whose origin `/` shows a rendering in a frame and as a picture, and `/item` is the rendering."""
    sent = response(rendering, Request({"type": "http", "method": "GET", "path": "/item", "headers": []}))

    def answer(route: Any) -> None:
        asked.append(route.request.url.removeprefix(ORIGIN))
        if asked[-1] == "/item":
            route.fulfill(status=200, headers=dict(sent.headers), body=bytes(sent.body))
        else:
            route.fulfill(status=200, headers={"Content-Security-Policy": POLICY}, content_type="text/html", body=PAGE)

    page = browser.new_page()
    page.route("**/*", answer)
    yield page
    page.close()


SPACE = bbopt.Space({XSS: bbopt.Categorical([XSS])})
RENDERINGS = {
    "html": rendering_of(f"<p>shown</p>{XSS}<meta http-equiv='refresh' content='0;url={ORIGIN}/told'>"),
    "svg": rendering_of(f"<svg><text>shown</text>{SCRIPT}<foreignObject>{XSS}</foreignObject></svg>"),
    "table": TableRenderer(bbopt.Task(SPACE))({XSS: XSS}),
}


@pytest.mark.parametrize("kind", RENDERINGS)
def test_nothing_in_it_acts(kind: str, browser: Any) -> None:
    """Neither in the page's frame and picture, nor opened by itself."""
    asked: list[str] = []
    with serving(browser, RENDERINGS[kind], asked) as page:
        page.goto(f"{ORIGIN}/")
        page.wait_for_load_state("networkidle")
        (frame,) = page.main_frame.child_frames
        text = frame.evaluate("document.documentElement.textContent")  # the test may look where the frame cannot
        assert ("<script>" if kind == "table" else "shown") in text, "the frame is shown"
        assert page.title() == "still"
        page.goto(f"{ORIGIN}/item")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.title") != "acted"
    assert "/told" not in asked
    assert asked.count("/item") >= 2
