"""Renderings that are made once, and how they are sent.

A point is rendered when it is first shown and kept in memory, whoever asks and however many at once. The answer to a
request never changes, so that browsers keep it; it carries a policy under which nothing in it can run, load or navigate,
also when it is opened by itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.rendering import Renderer, RenderFailed, Rendering

__all__ = ["CONTENT_POLICY", "Media", "response"]

CONTENT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
FAILED = Rendering("text/plain", b"This one could not be rendered.", "not rendered", "text", failed=True)
RETRY_SECONDS = 30.0
"""A point that could not be rendered is tried again after this time: the reason may have gone away."""

_log = logging.getLogger("bbopt.server.render")


class Media:
    """The renderings of a study. Thread-safe. bytes_limit: data kept in memory, at least the last one.

    One rendering is made at a time, in a thread of its own, so that a slow renderer occupies none that answers others.
    """

    def __init__(self, renderer: Renderer, bytes_limit: int = 64 * 2**20) -> None:
        self._renderer, self._limit = renderer, bytes_limit
        self._worker = ThreadPoolExecutor(1, "render")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[Rendering]] = OrderedDict()  # least recently used first
        self._retry: dict[Hashable, float] = {}  # of failed ones: when to try again
        self._bytes = 0

    def get(self, key: Hashable, params: Mapping[str, Any]) -> Rendering:
        """The rendering of the point that `key` names; waits while it is made. One that failed has `failed` set, and says
        so in words for people; the reason is in the log."""
        return self._of(key, params).result()

    async def fetch(self, key: Hashable, params: Mapping[str, Any]) -> Rendering:
        """`get` for coroutines: waits without a thread."""
        future = self._of(key, params)
        # Shielded: others wait for the same one, and a reader who leaves must not cancel it for them.
        return future.result() if future.done() else await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Ends the renderer. What is waiting comes back as failed."""
        self._renderer.close()
        self._worker.shutdown(wait=True)

    def _of(self, key: Hashable, params: Mapping[str, Any]) -> Future[Rendering]:
        with self._lock:
            future = self._kept.get(key)
            if future is not None and time.monotonic() < self._retry.get(key, float("inf")):
                self._kept.move_to_end(key)
                return future
            self._drop(key)
            self._kept[key] = future = self._worker.submit(self._render, key, params)
            return future

    def _drop(self, key: Hashable) -> None:
        self._retry.pop(key, None)
        future = self._kept.pop(key, None)
        if future is not None:
            self._bytes -= len(future.result().data)

    def _render(self, key: Hashable, params: Mapping[str, Any]) -> Rendering:
        try:
            rendering = self._renderer(params)
        except RenderFailed as error:
            _log.error("%s", error)
            rendering = FAILED
        except Exception:
            _log.exception("a renderer failed")
            rendering = FAILED
        with self._lock:
            self._bytes += len(rendering.data)
            if rendering.failed:
                self._retry[key] = time.monotonic() + RETRY_SECONDS
            while self._bytes > self._limit:
                oldest = next((old for old, future in self._kept.items() if old != key and future.done()), None)
                if oldest is None:
                    break
                self._drop(oldest)
        return rendering


def response(rendering: Rendering, request: Request) -> Response:
    """The answer to a GET: 200, 206 for a byte range (players of audio seek by it), 304 where the browser has it, 416."""
    textual = rendering.media_type.startswith("text/")
    headers = {
        "Content-Type": f"{rendering.media_type}; charset=utf-8" if textual else rendering.media_type,
        "Cache-Control": "no-store" if rendering.failed else "private, max-age=31536000, immutable",
        "ETag": rendering.etag,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": CONTENT_POLICY,
        "Content-Disposition": "inline",
        "Referrer-Policy": "no-referrer",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if rendering.etag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    size = len(rendering.data)
    span = _range(request.headers.get("range", ""), size)
    if span is None or request.headers.get("if-range", rendering.etag) != rendering.etag:
        return Response(rendering.data, headers=headers)
    start, stop = span
    if start >= stop:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(rendering.data[start:stop], status_code=206, headers=headers)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of a single byte range, empty where it lies outside; None for what is to be ignored (RFC 9110, 14.2:
    other units, several ranges, nonsense)."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.replace(" ", ""), re.ASCII)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size
