"""`bbopt serve` as a process of its own, for tests that need real sockets, a browser, or a server that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cli_shell import SHELL, document

START_SECONDS = 60.0
STOP_SECONDS = 15.0


@dataclass
class Live:
    """A server that answers requests. `facts` is what it printed: url, store, studies, owner, raters."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    errors: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def owner(self) -> str:
        """The owner's token."""
        return str(self.facts["owner"]["token"])

    def link(self, name: str = "", study: str | None = None) -> str:
        """The link of a rater, of the owner without a name."""
        return str(self._of(name, study)["url"])

    def rater(self, name: str, study: str | None = None) -> str:
        """The token of a rater."""
        return str(self._of(name, study)["token"])

    def _of(self, name: str, study: str | None) -> dict[str, Any]:
        if not name:
            return dict(self.facts["owner"])
        fits = (link for link in self.facts["raters"] if link["name"] == name and study in (None, link["study"]))
        return dict(next(fits))

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """A client that sends this token (None: none); close it, or use it in `with`."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False, **options)

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it by a signal. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=STOP_SECONDS)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return "".join(self.errors)


@contextmanager
def serving(store: Path | None, *words: object, **options: Any) -> Iterator[Live]:
    """A server on this store, on a free port, with further words of the command line. It is killed at the end of the block.

    `options` go to `subprocess.Popen`, such as cwd and env.
    """
    given = [] if store is None else ["--store", str(store)]
    process = subprocess.Popen(
        [*SHELL, "serve", "--json", "--port", "0", *given, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"env": {**os.environ, "OMP_NUM_THREADS": "1"}, **options},
    )
    assert process.stdout is not None
    errors: list[str] = []
    listener = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    listener.start()
    watch = threading.Timer(START_SECONDS, process.kill)
    watch.start()
    try:
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            process.wait(timeout=STOP_SECONDS)
            listener.join(timeout=STOP_SECONDS)
            raise AssertionError(f"bbopt serve ended with status {process.returncode}: {''.join(errors)}")
        yield Live(process, document(line), errors)
    finally:
        watch.cancel()
        process.kill()
        process.wait(timeout=STOP_SECONDS)
        listener.join(timeout=STOP_SECONDS)
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()
