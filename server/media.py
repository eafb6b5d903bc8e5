"""Renderings that are made once, and how they are sent.

A point is rendered when it is first shown and kept in memory, whoever asks and however many at once. The answer to a
request never changes, so that browsers keep it; it carries a policy under which nothing in it can run, load or navigate,
also when it is opened by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
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

OVERHEAD = 1024
"""Bytes of memory that an entry takes beside its data."""

_log = logging.getLogger("bbopt.server.render")


class Media:
    """The renderings of a study. Thread-safe. bytes_limit: of what is kept in memory, at least the last one.

    One rendering is made at a time, in a thread of its own, so that a slow renderer occupies none that answers others.
    """

    def __init__(self, renderer: Renderer, bytes_limit: int = 64 * 2**20) -> None:
        self._renderer, self._limit = renderer, bytes_limit
        self._worker = ThreadPoolExecutor(1, "render")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Rendering, float]] = (
            OrderedDict()
        )  # until when; least recently used first
        self._coming: dict[Hashable, Future[Rendering]] = {}
        self._bytes = 0

    def get(self, key: Hashable, params: Mapping[str, Any]) -> Rendering:
        """The rendering of the point that `key` names; waits while it is made. One that failed has `failed` set, and says
        so in words for people; the reason is in the log."""
        found = self._of(key, params)
        return found if isinstance(found, Rendering) else found.result()

    async def fetch(self, key: Hashable, params: Mapping[str, Any]) -> Rendering:
        """`get` for coroutines: waits without a thread."""
        found = self._of(key, params)
        # Shielded: others wait for the same one, and a reader who leaves must not cancel it for them.
        return found if isinstance(found, Rendering) else await asyncio.shield(asyncio.wrap_future(found))

    def close(self) -> None:
        """Ends the renderer. What is waiting comes back as failed."""
        self._renderer.close()
        self._worker.shutdown(wait=True)

    def _of(self, key: Hashable, params: Mapping[str, Any]) -> Rendering | Future[Rendering]:
        with self._lock:
            if key in self._kept:
                rendering, until = self._kept[key]
                if time.monotonic() < until:
                    self._kept.move_to_end(key)
                    return rendering
                self._drop(key)
            if key not in self._coming:
                self._coming[key] = self._worker.submit(self._render, key, params)
            return self._coming[key]

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
            self._coming.pop(key, None)
            self._kept[key] = rendering, time.monotonic() + RETRY_SECONDS if rendering.failed else math.inf
            self._bytes += OVERHEAD + len(rendering.data)
            while self._bytes > self._limit and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))
        return rendering

    def _drop(self, key: Hashable) -> None:
        rendering, _ = self._kept.pop(key)
        self._bytes -= OVERHEAD + len(rendering.data)


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
