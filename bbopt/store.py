"""Where studies live: an append-only log of what was asked and told, in memory or in one SQLite file.

A study is a definition (task, strategy, seed; never changed) and a log of events with consecutive positions. Everything
else (which trials are open, the state of the strategy, the best point) is derived by reading the log. Writing happens in
`writing(study)`: one transaction, in which the writer first reads what others appended, then appends its own event. The
SQLite file uses a write-ahead log, immediate transactions and full sync: once the block ends, the event is on the disk.
"""

from __future__ import annotations

import datetime
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bbopt.errors import NotAStore, StoreError, StoreFull, StoreMissing, StoreTooNew, StudyExists, StudyMissing
from bbopt.packing import pack, unpack
from bbopt.process_name import alive, process_name

APPLICATION = 0x62626F70  # "bbop", written into the file's header
VERSION = 3
"""Of the file. 1: without lazy rows along directions, columns as runs, and events about a part of a query's rows; 2: without
settled queries, details and replacements of rankings, and quorums and steps in the memo. Older ones are read as they are,
and marked when they are opened, so that an older bbopt says that it is too old instead of stumbling over what is new."""
BUSY_SECONDS = 60.0

SCHEMA = """
CREATE TABLE study (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL, definition TEXT NOT NULL) STRICT;
CREATE TABLE log (
    study INTEGER NOT NULL REFERENCES study (id), position INTEGER NOT NULL, time TEXT NOT NULL, writer TEXT NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, block BLOB, PRIMARY KEY (study, position)
) STRICT;
CREATE TABLE asker (study INTEGER PRIMARY KEY REFERENCES study (id), owner TEXT NOT NULL, expires REAL NOT NULL) STRICT;
CREATE TRIGGER log_keeps_rows BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER log_keeps_text BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER log_keeps_order BEFORE INSERT ON log
    WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM log WHERE study = NEW.study)
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER study_keeps_rows BEFORE DELETE ON study BEGIN SELECT RAISE(ABORT, 'a study is never removed'); END;
CREATE TRIGGER study_keeps_text BEFORE UPDATE ON study BEGIN SELECT RAISE(ABORT, 'a definition never changes'); END;
"""


@dataclass(frozen=True)
class Event:
    """One entry of the log. `body` is plain data with arrays; `time` is UTC in ISO 8601."""

    position: int
    time: str
    writer: str
    kind: str
    body: dict[str, Any]


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class Writer(Protocol):
    """Inside one transaction."""

    def read(self, after: int) -> list[Event]:
        """Events at positions above `after`, in order."""
        ...

    def append(self, kind: str, body: dict[str, Any]) -> Event:
        """One more event; visible to others, and durable, when the transaction ends without an error."""
        ...

    def release(self, owner: str) -> None:
        """Give the asker's lock back, with the transaction."""
        ...


class Store(Protocol):
    """What the optimizer needs of a store."""

    def studies(self) -> list[str]: ...
    def create(self, name: str, definition: dict[str, Any]) -> None: ...
    def definition(self, name: str) -> dict[str, Any]: ...
    def read(self, name: str, after: int) -> list[Event]: ...
    def writing(self, name: str) -> Any: ...
    def lock(self, name: str, owner: str, seconds: float) -> bool: ...
    def unlock(self, name: str, owner: str) -> None: ...
    def close(self) -> None: ...


class MemoryStore:
    """Studies that end with the process."""

    def __init__(self) -> None:
        self._definitions: dict[str, dict[str, Any]] = {}
        self._logs: dict[str, list[Event]] = {}
        self._lock = threading.RLock()

    def studies(self) -> list[str]:
        return list(self._definitions)

    def create(self, name: str, definition: dict[str, Any]) -> None:
        self._definitions[name] = definition
        self._logs[name] = []

    def definition(self, name: str) -> dict[str, Any]:
        return self._definitions[name]

    def read(self, name: str, after: int) -> list[Event]:
        with self._lock:
            return self._logs[name][after:]

    @contextmanager
    def writing(self, name: str) -> Iterator[Writer]:
        with self._lock:
            log = self._logs[name]
            before = len(log)
            try:
                yield _MemoryWriter(log)
            except BaseException:
                del log[before:]
                raise

    def lock(self, name: str, owner: str, seconds: float) -> bool:
        return True  # one process, one optimizer: its own lock already serialises asks

    def unlock(self, name: str, owner: str) -> None:
        return None

    def close(self) -> None:
        return None


class _MemoryWriter:
    def __init__(self, log: list[Event]) -> None:
        self._log = log

    def read(self, after: int) -> list[Event]:
        return self._log[after:]

    def append(self, kind: str, body: dict[str, Any]) -> Event:
        event = Event(len(self._log) + 1, utc_now(), "", kind, body)
        self._log.append(event)
        return event

    def release(self, owner: str) -> None:
        return None


class SQLiteStore:
    """Studies in one file, shared by any number of processes of one host.

    `create=False` refuses a path without a file. Raises StoreMissing, NotAStore, StoreTooNew, StoreFull or StoreError.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool = True) -> None:
        self.path = Path(path)
        self._mutex = threading.RLock()
        if not create and not self.path.exists():
            raise StoreMissing(f"expected a store at {self.path}, there is no such file; check the path, or create a study first")  # fmt: skip
        if not self.path.parent.is_dir():
            raise StoreMissing(f"expected a folder at {self.path.parent} to keep the store in; make it first")
        self._ids: dict[str, int] = {}
        self._link: sqlite3.Connection | None = None
        self._heard: Callable[[str], Any] | None = None
        self._closed = False
        with self._errors():
            self._connect()
        _STORES.add(self)

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this process; made anew after a fork."""
        return self._link or self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path} was closed by this object; open the study again")
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        connection.set_trace_callback(self._heard)
        self._link = connection
        return connection

    def _hang_up(self) -> None:
        """Close the connection; the next call makes a new one."""
        if self._link is not None and not self._link.in_transaction:
            self._link.close()
            self._link = None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and tables:
            raise NotAStore(f"expected a bbopt store at {self.path}, got a database of something else; choose another path")  # fmt: skip
        if version > VERSION:
            raise StoreTooNew(
                f"{self.path} has format {version}, this bbopt reads up to {VERSION}: it was written by a newer bbopt; update bbopt to open it"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if application != APPLICATION or not tables:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in SCHEMA.split(";\n"):
                        if statement.strip():
                            connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            except BaseException:
                _rollback(connection)
                raise
        elif version < VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours, with what to do."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error).lower()
            if "full" in text:
                raise StoreFull(f"no space left for {self.path}: this operation left no trace, everything told before is safe; free some space and repeat it") from error  # fmt: skip
            if "not a database" in text or "malformed" in text:
                raise NotAStore(f"expected a bbopt store at {self.path}, the file is something else or damaged ({error})") from error  # fmt: skip
            if "readonly" in text or "unable to open" in text:
                raise StoreError(f"cannot write to {self.path} or its folder ({error}); check the permissions, or choose another path") from error  # fmt: skip
            if "locked" in text or "busy" in text:
                raise StoreError(f"another process held {self.path} for over {BUSY_SECONDS:.0f} seconds; nothing was written, repeat the call") from error  # fmt: skip
            raise StoreError(f"{self.path}: {error}; nothing was written by this call") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, self._errors():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _rollback(connection)
                raise

    def _study(self, name: str) -> int:
        if name not in self._ids:
            row = self._connection.execute("SELECT id FROM study WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise StudyMissing(
                    f"expected a study {name!r} in {self.path}; it has {', '.join(self.studies()) or 'none'}"
                )
            self._ids[name] = row[0]
        return self._ids[name]

    def studies(self) -> list[str]:
        """Names, in the order of their creation."""
        with self._mutex, self._errors():
            return [name for (name,) in self._connection.execute("SELECT name FROM study ORDER BY id")]

    def create(self, name: str, definition: dict[str, Any]) -> None:
        """A new study. Raises StudyExists if the name is taken."""
        text, _ = pack(definition)
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM study WHERE name = ?", (name,)).fetchone():
                raise StudyExists(f"{self.path} has a study {name!r} already; choose another name, or go on with it by Optimizer.open or Optimizer.create_or_open")  # fmt: skip
            connection.execute(
                "INSERT INTO study (name, created, definition) VALUES (?, ?, ?)", (name, utc_now(), text)
            )

    def definition(self, name: str) -> dict[str, Any]:
        with self._mutex, self._errors():
            study = self._study(name)
            (text,) = self._connection.execute("SELECT definition FROM study WHERE id = ?", (study,)).fetchone()
        document: dict[str, Any] = unpack(text, None)
        return document

    def read(self, name: str, after: int) -> list[Event]:
        with self._mutex, self._errors():
            return _read(self._connection, self._study(name), after)

    @contextmanager
    def writing(self, name: str) -> Iterator[Writer]:
        with self._transaction() as connection:
            yield _SQLiteWriter(connection, self._study(name))

    def lock(self, name: str, owner: str, seconds: float) -> bool:
        """Take the study's asker's lock, unless a living process holds it. It expires after `seconds`."""
        with self._transaction() as connection:
            study = self._study(name)
            row = connection.execute("SELECT owner, expires FROM asker WHERE study = ?", (study,)).fetchone()
            now = time.time()
            if row and row[0] != owner and row[1] > now and alive(row[0]):
                return False
            connection.execute("INSERT OR REPLACE INTO asker VALUES (?, ?, ?)", (study, owner, now + seconds))
            return True

    def unlock(self, name: str, owner: str) -> None:
        with self.writing(name) as writer:
            writer.release(owner)

    def trace(self, heard: Callable[[str], Any] | None) -> None:
        """Have every SQL statement told to `heard`, for tests and benchmarks that count commits; None ends it."""
        with self._mutex:
            self._heard = heard
            self._connection.set_trace_callback(heard)

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            if self._link is not None:
                self._link.close()
                self._link = None


class _SQLiteWriter:
    def __init__(self, connection: sqlite3.Connection, study: int) -> None:
        self._connection = connection
        self._study = study

    def read(self, after: int) -> list[Event]:
        return _read(self._connection, self._study, after)

    def append(self, kind: str, body: dict[str, Any]) -> Event:
        (last,) = self._connection.execute("SELECT max(position) FROM log WHERE study = ?", (self._study,)).fetchone()
        text, block = pack(body)
        event = Event((last or 0) + 1, utc_now(), process_name(), kind, unpack(text, block))
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._study, event.position, event.time, event.writer, kind, text, block),
        )
        return event

    def release(self, owner: str) -> None:
        self._connection.execute("DELETE FROM asker WHERE study = ? AND owner = ?", (self._study, owner))


def _read(connection: sqlite3.Connection, study: int, after: int) -> list[Event]:
    rows = connection.execute(
        "SELECT position, time, writer, kind, body, block FROM log WHERE study = ? AND position > ? ORDER BY position",
        (study, after),
    )
    return [Event(p, t, w, kind, unpack(body, block)) for p, t, w, kind, body, block in rows]


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


_STORES: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()


def _before_fork() -> None:
    """No connection crosses a fork: the child would believe that it holds its parent's locks, and what it writes would be
    lost once the parent closes the file. Both sides connect anew when they need to."""
    for store in sorted(_STORES, key=id):
        store._mutex.acquire()
        store._hang_up()


def _after_fork(child: bool) -> None:
    for store in sorted(_STORES, key=id):
        store._link = None if child else store._link
        store._mutex.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=lambda: _after_fork(False), after_in_child=lambda: _after_fork(True)
    )
