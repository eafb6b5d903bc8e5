"""What a person is shown of one point: bytes with a media type, made from whatever a renderer returns.

The type is read from the data, so that a renderer is a plain function: bytes by their first bytes (PNG, JPEG, GIF, WebP,
WAV, MP3, Ogg, FLAC), text by its beginning (SVG, HTML, anything else is plain text). A pair (media type, data) says it
itself, within `KINDS`. Nothing here trusts the data: it is shown in an `<img>`, an `<audio>` or a sandboxed frame, with
the headers of `server.media`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

__all__ = ["KINDS", "LARGEST", "Kind", "RenderFailed", "Renderer", "Rendering", "rendering_of"]

Kind = Literal["image", "audio", "text", "html", "table"]

LARGEST = 8 * 2**20
"""Bytes that one rendering may have: a slate of six is fetched by a phone."""

KINDS: Mapping[str, Kind] = {
    "image/png": "image",
    "image/jpeg": "image",
    "image/gif": "image",
    "image/webp": "image",
    "image/svg+xml": "image",
    "audio/wav": "audio",
    "audio/mpeg": "audio",
    "audio/ogg": "audio",
    "audio/flac": "audio",
    "text/plain": "text",
    "text/html": "html",
}
"""The media types that are shown, and how."""

_ALT: Mapping[Kind, str] = {"image": "picture", "audio": "sound", "text": "text", "html": "page", "table": "table"}
_TEXTS = ("image/svg+xml", "text/plain", "text/html")
_SVG_NAMESPACE = "http://www.w3.org/2000/svg"
_EXPECTED = (
    "expected bytes of a PNG, JPEG, GIF, WebP, WAV, MP3, Ogg or FLAC file, text (SVG, HTML or plain), "
    "or a pair (media type, data)"
)


class RenderFailed(Exception):
    """A point could not be rendered; the text is for the owner's log, not for people who rank."""


@dataclass(frozen=True)
class Rendering:
    """media_type, as in a Content-Type header without parameters; data; alt: what it is, in a word; kind: how a page shows
    it; failed: it only says that there is nothing to show."""

    media_type: str
    data: bytes
    alt: str
    kind: Kind
    failed: bool = False

    @cached_property
    def etag(self) -> str:
        """A strong entity tag of the content, quoted as in the header."""
        return f'"{hashlib.sha256(self.media_type.encode() + bytes(1) + self.data).hexdigest()[:32]}"'


class Renderer(Protocol):
    """Renders points, from any thread. Raises RenderFailed. `close` ends what it started; calls in progress fail."""

    def __call__(self, params: Mapping[str, Any], /) -> Rendering: ...
    def close(self) -> None: ...


def rendering_of(returned: Any) -> Rendering:
    """The rendering that a renderer's return value stands for. Raises RenderFailed, saying what was expected.

    >>> rendering_of("<svg viewBox='0 0 1 1'/>").media_type
    'image/svg+xml'
    >>> rendering_of(b"GIF89a...").kind, rendering_of("three words here").kind
    ('image', 'text')
    """
    match returned:
        case str():
            media_type, data = _type_of_text(returned), returned.encode("utf-8", "replace")
        case bytes() | bytearray() | memoryview():
            data = bytes(returned)
            media_type = _type_of_bytes(data)
        case (str(name), str() | bytes() | bytearray() | memoryview() as content):
            media_type = name.partition(";")[0].strip().lower()
            data = content.encode("utf-8", "replace") if isinstance(content, str) else bytes(content)
        case _:
            raise RenderFailed(f"{_EXPECTED}; got {_short(returned)}")
    if media_type not in KINDS:
        raise RenderFailed(f"expected a media type of {', '.join(KINDS)}; got {media_type!r}")
    if not data.strip():
        raise RenderFailed(f"{_EXPECTED}; got nothing ({len(data)} bytes)")
    if len(data) > LARGEST:
        raise RenderFailed(f"expected at most {LARGEST:,} bytes, got {len(data):,}: make it smaller or compress it")
    if media_type in _TEXTS:
        data = _as_utf8(data, media_type)
    kind = KINDS[media_type]
    return Rendering(media_type, data, _ALT[kind], kind)


def _type_of_bytes(data: bytes) -> str:
    """Media type by the first bytes. Raises RenderFailed where they are none that we know."""
    for magic, media_type in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"ID3", "audio/mpeg"),
    ):
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"WAVE"):
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    # A frame of MPEG audio, layer III: eleven bits of synchronisation, a version that exists, layer bits 01.
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x18 != 0x08 and data[1] & 0x06 == 2:
        return "audio/mpeg"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _type_of_text(data[:4096].decode("utf-8", "replace"))
    raise RenderFailed(f"{_EXPECTED}; got bytes that begin with {data[:12]!r}")


def _type_of_text(text: str) -> str:
    """SVG, HTML or plain, by the first tag; comments, an XML declaration and white space may come before it."""
    rest = text[:65_536].lstrip("\ufeff \t\r\n")
    while prolog := re.match(r"<\?xml.*?\?>\s*|<!--.*?-->\s*", rest, re.DOTALL):
        rest = rest[prolog.end() :]
    if re.match(r"<svg[\s>/]|<!doctype\s+svg", rest, re.IGNORECASE):
        return "image/svg+xml"
    return "text/html" if re.match(r"<[a-z!]", rest, re.IGNORECASE) else "text/plain"


def _as_utf8(data: bytes, media_type: str) -> bytes:
    """Text as UTF-8; an SVG gets the namespace without which a browser shows nothing. Raises RenderFailed."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RenderFailed(f"expected {media_type} in UTF-8, got other bytes ({error})") from None
    if media_type == "image/svg+xml" and _SVG_NAMESPACE not in text:
        text = re.sub(r"<svg(?=[\s>/])", f'<svg xmlns="{_SVG_NAMESPACE}"', text, count=1)
    return text.encode()


def _short(value: Any) -> str:
    """A value in a message: its type, and as much as fits on a line."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"
