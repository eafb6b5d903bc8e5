"""Renderings are made once, kept within a bound, and sent with headers under which nothing in them can act."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from server.media import FAILED, OVERHEAD, Media, response
from server.rendering import RenderFailed, Rendering, rendering_of

WAV = b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(88))


class Slow:
    """Counts its calls; the data are as long as asked for."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls, self.closed = seconds, [0] * 100, False

    def __call__(self, params: Mapping[str, Any], /) -> Rendering:
        self.calls[params["i"]] += 1
        time.sleep(self.seconds)
        if params.get("fails"):
            raise RenderFailed(f"the reason, for the owner: {params}")
        if params.get("wrong"):
            raise KeyError("a mistake of ours")
        return Rendering("text/plain", b"x" * params.get("size", 10), "text", "text")

    def close(self) -> None:
        self.closed = True


def test_many_at_once_render_once() -> None:
    renderer = Slow(0.05)
    media = Media(renderer)
    found: list[Rendering] = []
    threads = [threading.Thread(target=lambda: found.append(media.get("a", {"i": 0}))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert renderer.calls[0] == 1 and len(found) == 20 and len(set(map(id, found))) == 1
    media.close()
    assert renderer.closed


def test_coroutines_wait_without_threads_and_may_leave() -> None:
    """200 wait for ten points; those who leave take nothing from the others."""
    renderer = Slow(0.01)
    media = Media(renderer)

    async def everybody() -> None:
        tasks = [asyncio.create_task(media.fetch(i % 10, {"i": i % 10})) for i in range(200)]
        await asyncio.sleep(0.005)
        for task in tasks[:100]:
            task.cancel()
        done = await asyncio.gather(*tasks[100:])
        assert {rendering.data for rendering in done} == {b"x" * 10}
        assert threading.active_count() < 20
        assert await media.fetch(3, {"i": 3}) is media.get(3, {"i": 3})

    asyncio.run(everybody())
    assert renderer.calls[:10] == [1] * 10
    media.close()


def test_the_bound_drops_what_was_not_used_for_longest() -> None:
    renderer = Slow()
    media = Media(renderer, bytes_limit=3 * (OVERHEAD + 100))
    for i in (0, 1, 2):
        media.get(i, {"i": i, "size": 100})
    media.get(0, {"i": 0, "size": 100})
    media.get(3, {"i": 3, "size": 100})
    for i in (0, 2, 3):
        media.get(i, {"i": i, "size": 100})
    assert renderer.calls[:4] == [1, 1, 1, 1]
    media.get(1, {"i": 1, "size": 100})
    assert renderer.calls[1] == 2
    media.get(4, {"i": 4, "size": 9_000})
    assert media.get(4, {"i": 4, "size": 9_000}).data == b"x" * 9_000
    assert renderer.calls[4] == 1, "one that is larger than the bound is kept until the next"
    media.close()


@pytest.mark.parametrize("how", ["fails", "wrong"])
def test_a_failure_is_said_to_people_and_explained_to_the_owner(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Slow()
    media = Media(renderer)
    with caplog.at_level(logging.ERROR, "bbopt.server.render"):
        shown = media.get("a", {"i": 0, how: True})
    assert shown.failed and shown.kind == "text" and b"could not be rendered" in shown.data
    assert ("the reason, for the owner" if how == "fails" else "a mistake of ours") in caplog.text
    assert b"reason" not in shown.data and b"mistake" not in shown.data
    assert media.get("a", {"i": 0}).failed and renderer.calls[0] == 1, "not again at once"
    later = time.monotonic() + 31.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not media.get("a", {"i": 0}).failed
    media.close()


# -- how they are sent ---------------------------------------------------------------------------------------------------


def get(rendering: Rendering, **headers: str) -> Response:
    raw = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    return response(rendering, Request({"type": "http", "method": "GET", "path": "/", "headers": raw}))


def test_headers_keep_it_still() -> None:
    answer = get(rendering_of("<svg onload='alert(1)'><script>alert(1)</script></svg>"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    policy = answer.headers["content-security-policy"].split("; ")
    assert "sandbox" in policy and "default-src 'none'" in policy and not any("script" in part for part in policy)
    assert "frame-ancestors 'self'" in policy and "x-frame-options" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert get(rendering_of("text")).headers["content-type"] == "text/plain; charset=utf-8"
    assert get(FAILED).headers["cache-control"] == "no-store"


def test_a_browser_that_has_it_is_told_so() -> None:
    rendering = rendering_of("text")
    etag = get(rendering).headers["etag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = get(rendering, if_none_match=known)
        assert (answer.status_code, bytes(answer.body), answer.headers["etag"]) == (304, b"", etag)
    assert get(rendering, if_none_match='"other"').status_code == 200
    assert rendering_of(("text/html", "text")).etag != etag, "the type is part of it"


@pytest.mark.parametrize(
    ("header", "status", "start", "stop"),
    [
        ("bytes=0-", 206, 0, 100),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=90-500", 206, 90, 100),
        ("bytes=-5", 206, 95, 100),
        ("bytes=-500", 206, 0, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=999-1000", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=9-8", 200, 0, 100),
        ("bytes=0-1,5-6", 200, 0, 100),
        ("bytes=-", 200, 0, 100),
        ("bytes=a-b", 200, 0, 100),
        ("items=0-1", 200, 0, 100),
        ("bytes=" + "9" * 5_000 + "-", 200, 0, 100),
        ("bytes=٣-٤", 200, 0, 100),
    ],
)
def test_ranges(header: str, status: int, start: int, stop: int) -> None:
    """RFC 9110, section 14."""
    rendering = rendering_of(WAV)
    assert len(rendering.data) == 100
    answer = response(
        rendering,
        Request({"type": "http", "method": "GET", "headers": [(b"range", header.encode("latin-1", "replace"))]}),
    )
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */100"
        return
    assert bytes(answer.body) == WAV[start:stop]
    assert answer.headers["content-length"] == str(stop - start)
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"


def test_a_range_of_another_version_is_not_given() -> None:
    rendering = rendering_of(WAV)
    assert get(rendering, range="bytes=0-1", if_range=rendering.etag).status_code == 206
    assert get(rendering, range="bytes=0-1", if_range='"old"').status_code == 200
