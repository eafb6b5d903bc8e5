"""Names of slates and items that say nothing: who sees one learns neither a trial's number nor which row is the incumbent.

An id is a synthetic-IV encryption (the idea of RFC 5297, from HMAC-SHA256 alone) of (query, row, look) under a key of the
study and of whoever it is shown to. It is a function of these and of the server's secret, so nothing has to be stored, it
is the same after a restart, and one that was not given out to this person for this study is recognised as forged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_TAG, _PLAIN = 9, 9  # bytes; together 24 letters
PATTERN = r"^[A-Za-z0-9_-]{24}$"
_SHAPE = re.compile(PATTERN)


@dataclass(frozen=True)
class Place:
    """A slate, or a row of one: query id, row, look (0: the first one, 1: shown again, 2: as one of the best)."""

    query: int
    row: int = 0
    look: int = 0


class Ids:
    """Ids and keyed chances of one server. `secret` is 16 bytes or more.

    >>> ids = Ids(b"0123456789abcdef")
    >>> name = ids.seal("item", "picture", "ann", Place(3, 2))
    >>> len(name), ids.open("item", "picture", "ann", name), ids.open("item", "picture", "bob", name)
    (24, Place(query=3, row=2, look=0), None)
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._key = lru_cache(maxsize=4096)(self._key_of)

    def _key_of(self, *names: str) -> bytes:
        return self._hash(self._secret, json.dumps(names).encode())

    @staticmethod
    def _hash(key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, hashlib.sha256)

    def seal(self, kind: str, study: str, viewer: str, place: Place) -> str:
        """The id of a place, of this kind ("slate" or "item"), for this viewer of this study."""
        key = self._key(kind, study, viewer)
        plain = place.query.to_bytes(5, "big") + place.row.to_bytes(3, "big") + place.look.to_bytes(1, "big")
        tag = self._hash(key, b"tag" + plain)[:_TAG]
        mask = self._hash(key, b"mask" + tag)[:_PLAIN]
        return base64.urlsafe_b64encode(tag + bytes(a ^ b for a, b in zip(plain, mask, strict=True))).decode()

    def open(self, kind: str, study: str, viewer: str, name: str) -> Place | None:
        """The place behind an id, None for one that this viewer was never given."""
        if not _SHAPE.match(name):
            return None
        raw = base64.urlsafe_b64decode(name)
        key = self._key(kind, study, viewer)
        tag, hidden = raw[:_TAG], raw[_TAG:]
        mask = self._hash(key, b"mask" + tag)[:_PLAIN]
        plain = bytes(a ^ b for a, b in zip(hidden, mask, strict=True))
        if not hmac.compare_digest(tag, self._hash(key, b"tag" + plain)[:_TAG]):
            return None
        return Place(int.from_bytes(plain[:5], "big"), int.from_bytes(plain[5:8], "big"), plain[8])

    def chance(self, *parts: Any) -> float:
        """A number in [0, 1) that is a function of the secret and of these parts (text and whole numbers)."""
        digest = self._hash(self._secret, b"chance" + json.dumps(parts).encode())
        return float(int.from_bytes(digest[:6], "big") / 2**48)

    def shuffled(self, rows: int, *parts: Any) -> list[int]:
        """The rows 0 to rows - 1 in an order that is a function of the secret and of these parts.

        >>> sorted(Ids(b"0123456789abcdef").shuffled(4, "picture", 0, "ann"))
        [0, 1, 2, 3]
        """
        return sorted(range(rows), key=lambda row: self.chance("order", *parts, row))

    def receipt(self, *parts: Any) -> str:
        """A short proof that something was recorded: a function of the secret and of what it is."""
        digest = self._hash(self._secret, b"receipt" + json.dumps(parts).encode())
        return base64.urlsafe_b64encode(digest[:12]).decode()
