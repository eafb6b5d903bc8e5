"""What a server is told when it starts. Checked here, once; every other part of the server reads it and trusts it."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bbopt import UsageError

__all__ = ["Config", "is_loopback", "servable"]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Config:
    """Where a server finds its studies, who reaches it, and what it allows.

    store: the file with the studies. studies: the names that are served, empty: all of them, later ones too.
    access: the file with tokens, beside the store (`runs.db.access`) unless given.
    host, port: what is listened on; port 0 is any free one. A host beyond the loopback address needs `allowed_hosts`.
    allowed_hosts: names, with a port or for any, that a request may name as its host besides the loopback names.
    url: how people reach the server where that is not http://host:port, such as https://rank.example.org; its host is
        allowed too.
    renderers: by study, or "*" for the rest: "table", "picture" or "module:function".
    lease_seconds: how long a slate stays with a rater who shows no sign of life.
    deadline_seconds: after so long, a slate that somebody has ranked is settled without the others; None: never.
    repeats: share of slates that a rater is shown a second time, to measure consistency, in [0, 1).
    goal: answers after which a rater is told that it is enough; None: no end.
    max_body: bytes of a request's body. rate_per_minute: requests for each token. strangers_per_minute: refused requests
        without a valid token for each address; ten times as many that are not refused (pages to join on, static files).

    Raises UsageError.
    """

    store: Path
    studies: tuple[str, ...] = ()
    access: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    url: str | None = None
    renderers: Mapping[str, str] = field(default_factory=dict)
    lease_seconds: float = 600.0
    deadline_seconds: float | None = None
    repeats: float = 0.0
    goal: int | None = None
    max_body: int = 256_000
    rate_per_minute: int = 600
    strangers_per_minute: int = 60

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", Path(self.store))
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port: expected 0 to 65535, got {self.port}")
        for name in ("lease_seconds", "deadline_seconds"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name}: expected a positive number of seconds, got {value}")
        if not 0 <= self.repeats < 1:
            raise UsageError(f"repeats: expected a share of slates, at least 0 and below 1, got {self.repeats}")
        for name in ("goal", "max_body", "rate_per_minute", "strangers_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected at least 1, got {value}")
        for allowed in self.allowed_hosts:
            if not allowed or any(letter in allowed for letter in "/@?#* \\"):
                raise UsageError(f"allowed host: expected a name, or name:port, such as rank.example.org; got {allowed!r}")  # fmt: skip
        if self.url is not None:
            object.__setattr__(self, "url", _checked_url(self.url))
        if not is_loopback(self.host) and not self.allowed_hosts and self.url is None:
            raise UsageError(
                f"host {self.host}: others can reach this address, and tokens would cross the network in the clear. Better leave "
                f"the host alone, put a reverse proxy with TLS in front of it and say how people reach that "
                f"(--url https://rank.example.org). To listen there nevertheless, name what people type (--allow-host NAME)"
            )

    @property
    def access_file(self) -> Path:
        """The file with tokens."""
        return self.access or self.store.with_name(self.store.name + ".access")

    @property
    def origin(self) -> str:
        """How links to this server begin."""
        if self.url is not None:
            return self.url
        if is_loopback(self.host):
            return f"http://{_authority(self.host, self.port)}"
        name, port = _split(self.allowed_hosts[0])
        return f"http://{_authority(name, port or self.port)}"

    @property
    def hosts(self) -> frozenset[str]:
        """What a Host header may say, in small letters; a name with `:*` may have any port."""
        names = [*LOOPBACK_NAMES, *([self.host] if is_loopback(self.host) else [])]
        found = {_authority(name, self.port) for name in names}
        if self.url is not None:
            found.add(urlsplit(self.url).netloc)
        for allowed in self.allowed_hosts:
            name, port = _split(allowed)
            found.add(f"{_authority(name, 80)}:*" if port is None else _authority(name, port))
        return frozenset(found)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "rank.example.org")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def servable(study: str) -> bool:
    """Whether a study's name can be a part of an address.

    >>> servable("vessel"), servable("my study"), servable("a/b"), servable("..")
    (True, True, False, False)
    """
    return study not in ("", ".", "..") and study.isprintable() and not set(study) & {"/", "\\"}


def _authority(host: str, port: int) -> str:
    """Host and port as browsers write them: small letters, brackets around IPv6, no port where it is 80."""
    host = host.lower().strip("[]")
    return (f"[{host}]" if ":" in host else host) + ("" if port == 80 else f":{port}")


def _split(allowed: str) -> tuple[str, int | None]:
    """Name and port of `name`, `name:port`, `[::1]` or `[::1]:port`."""
    name, colon, port = allowed.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name, int(port)
    return allowed, None


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise UsageError(f"url: expected how people reach the server, such as https://rank.example.org, got {url!r}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(
            f"url: expected no path, got {url!r}; let the proxy serve this at the root of a name of its own"
        )
    default = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(default)}"
