"""Names of processes, by which a dead one is recognised."""

from __future__ import annotations

import functools
import os
import socket


def process_name() -> str:
    """Who writes: host and process, by which a dead owner is recognised."""
    return f"{_host()}:{os.getpid()}"


@functools.cache
def _host() -> str:
    """Every event names it, and asking the system for it may cost as much as the rest of an event."""
    return socket.gethostname()


def alive(owner: str) -> bool:
    """Whether the process in an owner's name may still run; only a process of this host is known to be dead."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != _host() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
