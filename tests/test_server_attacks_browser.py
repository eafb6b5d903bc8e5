"""Scripts that a renderer, a parameter or a name carries along, in real headless Chromium: none of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacked_server import NAME, attacked
from pages_kit import chromium


def test_no_script_runs(tmp_path: Path) -> None:
    """What a renderer, a parameter, a study's and a rater's name carry along, in every place that shows them."""
    heard: list[str] = []
    blocked: list[str] = []
    with attacked(tmp_path) as world, chromium() as browser:
        world.call("POST", f"/v1/studies/{NAME}/links", "owner", json={"name": "<img src=x onerror=alert(5)>"})
        page = browser.new_page()
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: blocked.append(message.text))
        for who in ("owner", "ann", "eve", "joe"):
            joined = page.request.post(
                f"{world.url}/v1/session", data={"token": world.tokens[who]}, headers={"Origin": world.url}
            )
            assert joined.ok
        html, svg = (world.slate(who, study)["items"][0]["url"] for who, study in (("eve", "salad"), ("joe", "vector")))
        for path, shown in (
            ("/", f"text={NAME}"),
            (f"/studies/{NAME}", f"text={NAME}"),
            ("/rate/soup", ".card iframe"),
            ("/rate/vector", ".card img"),
            ("/rate/salad", ".card iframe"),
            (f"{svg}?role=rater", "svg"),
            (f"{html}?role=rater", "form"),
        ):
            blocked.clear()
            page.goto(world.url + path)
            if path.startswith("/rate/"):
                page.wait_for_selector("#go:visible, .card:visible")
                if page.locator("#go").is_visible():
                    page.click("#go")
            page.wait_for_selector(shown, state="attached")
            page.wait_for_timeout(200)
            if path == "/rate/salad" or "/items/" in path:  # the script was there
                for _ in range(300):
                    if any("Blocked script" in text or "Content Security Policy" in text for text in blocked):
                        break
                    page.wait_for_timeout(100)
                else:
                    pytest.fail(f"{path}: nothing was blocked, {blocked}")
            assert not heard, (path, heard)
        browser.close()
