"""`bbopt serve` as a process: started, killed and started again on the same store and port, with what it has used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ServerProcess"]

START_SECONDS = 60.0


class ServerProcess:
    """The server of a store, on the loopback address. raters: a link is made for each at the first start.

    Attributes: `port`, `owner` (its token), `tokens` (by rater), `cpu_seconds` of all processes that have ended.
    """

    def __init__(self, store: Path, raters: Sequence[str] = (), *options: str) -> None:
        self.store, self.options = store, options
        self.port, self.owner = 0, ""
        self.tokens: dict[str, str] = {}
        self.cpu_seconds = 0.0
        self.log = store.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        document = self.start(*[word for rater in raters for word in ("--rater", rater)])
        self.owner = document["owner"]["token"]
        self.tokens = {link["name"]: link["token"] for link in document["raters"]}

    def start(self, *more: str) -> dict[str, Any]:
        """Start it and wait until it listens. Returns what it printed. Raises RuntimeError with its log where it does not."""
        words = ["serve", "--store", str(self.store), "--port", str(self.port), "--json", *self.options, *more]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bbopt.cli", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line.strip():
            self._process.kill()
            self._process.wait()
            raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")
        document: dict[str, Any] = json.loads(line)
        self.port = int(document["url"].rpartition(":")[2])
        return document

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ctrl-C."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self.cpu_seconds += self.cpu()
        self._process.send_signal(how)
        try:
            self._process.wait(30.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def cpu(self) -> float:
        """CPU seconds of the running process, without that of its renderer. 0 where there is no /proc."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0

    def resident(self) -> float:
        """MiB of memory that the running process has. 0 where there is no /proc."""
        fields = self._proc("statm").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if fields else 0.0

    def _proc(self, name: str) -> str:
        try:
            return Path(f"/proc/{self._process.pid}/{name}").read_text() if self._process is not None else ""
        except OSError:
            return ""
