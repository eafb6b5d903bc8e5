"""Who may do what: tokens of owners, programs and raters, in a file beside the store.

A token is `bbo_` (owner), `bbp_` (program) or `bbr_` (rater), the id of its link, and 256 random bits. It is shown once, when
it is issued; the file keeps its SHA-256 alone, so whoever reads the file cannot use it to get in. (A slow hash is for
passwords: nobody guesses 256 bits.) The link is looked up by its id, which is no secret, and hashes are compared in constant
time. Revocation and pause are read from the file at each request: they hold at once, in every process.

The file also keeps one random key, from which `secret` derives the keys of other parts (the order of a slate's items, their
opaque ids), so that these are the same after a restart.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bbopt import NotAStore, StoreError, StoreFull, StoreTooNew, UnknownTrial, UsageError

__all__ = ["Access", "Identity", "Link", "LinkExists", "LinkMissing", "Role", "check_name"]

Role = Literal["owner", "program", "rater"]

APPLICATION = 0x62626163  # "bbac", written into the file's header
VERSION = 1
BUSY_SECONDS = 10.0
SECRET_BYTES = 32  # of a token, and of the file's own key
NAME_LENGTH = 64
YEAR = 365 * 24 * 3600  # seconds
PREFIXES: dict[str, str] = {"owner": "bbo", "program": "bbp", "rater": "bbr"}

SCHEMA = (
    """CREATE TABLE link (
        id TEXT PRIMARY KEY, role TEXT NOT NULL, study TEXT, name TEXT NOT NULL, hash BLOB NOT NULL,
        created REAL NOT NULL, expires REAL, revoked REAL
    ) STRICT""",
    "CREATE TABLE paused (study TEXT PRIMARY KEY) STRICT",
    "CREATE TABLE master (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL) STRICT",
)


class LinkExists(UsageError):
    """A rater of this name has a link to this study already."""


class LinkMissing(UnknownTrial):
    """No link has this id."""


@dataclass(frozen=True)
class Identity:
    """Whose token a request carries. `study` is the only one it opens; None, for owners: every one."""

    role: Role
    study: str | None
    name: str
    link_id: str
    expires: str | None


@dataclass(frozen=True)
class Link:
    """What is known of an issued token, which is not the token. Times are UTC in ISO 8601."""

    id: str
    role: Role
    study: str | None
    name: str
    created: str
    expires: str | None
    revoked: str | None
    standing: bool
    """Whether it lets anybody in now: neither revoked nor expired."""


class Access:
    """The tokens and secrets of a server, in one file that only its user can read (mode 0600).

    Safe to use from several threads and processes. `clock` gives the seconds since 1970. Raises NotAStore, StoreTooNew,
    StoreFull or StoreError where the file cannot be used, and UsageError where others could read it.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._mutex = threading.Lock()
        self._reading = threading.Lock()
        with self._errors():
            self._make_private()
            self._connection = self._connect()
            self._reader = self._connect()  # of its own, so that no request waits while a link is written
            try:
                self._prepare()
                (self._key,) = self._reader.execute("SELECT key FROM master").fetchone()
            except BaseException:
                self.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _make_private(self) -> None:
        """An empty file that only its user can read, before SQLite writes anything; or a check of the one that is there."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            if mode & 0o077:
                raise UsageError(
                    f"{self.path}: expected a file that only you can read, got mode {mode:04o}; chmod 600 it (and its -wal and "
                    f"-shm), or remove it: all links then end"
                ) from None
        except OSError as error:
            raise StoreError(f"cannot make {self.path} ({error.strerror}); check the folder, or choose another file by --access") from error  # fmt: skip

    def _prepare(self) -> None:
        connection = self._connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and tables:
            raise NotAStore(f"expected a file of access tokens at {self.path}, got a database of something else; choose another by --access")  # fmt: skip
        if version > VERSION:
            raise StoreTooNew(f"{self.path} has format {version}, this bbopt reads up to {VERSION}: it was written by a newer bbopt; update bbopt, or remove the file: all links then end")  # fmt: skip
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO master VALUES (1, ?)", (secrets.token_bytes(SECRET_BYTES),))
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as bbopt's, with what to do."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error).lower()
            if "full" in text:
                raise StoreFull(f"no space left for {self.path}; free some space and repeat the call") from error
            if "not a database" in text or "malformed" in text:
                raise NotAStore(f"expected a file of access tokens at {self.path}, the file is something else or damaged ({error})") from error  # fmt: skip
            if "closed" in text:
                raise StoreError(f"{self.path} was closed by this object") from error
            raise StoreError(f"cannot use {self.path} or its folder ({error}); check the permissions, or choose another by --access") from error  # fmt: skip

    def issue(
        self, role: Role, study: str | None, name: str, seconds: float | None = None, again: bool = False
    ) -> tuple[Link, str]:
        """A new link, and its token, which nobody can be told a second time.

        study: what it opens; None, for owners alone: everything. name: who it is for; raters' answers are stored under it.
        seconds: until it ends; None: never. again: one more link for a rater who has one, the same person to the study.
        Raises LinkExists, or UsageError.
        """
        if role not in PREFIXES:
            raise UsageError(f"role: expected one of {', '.join(PREFIXES)}, got {role!r}")
        if (study is None) != (role == "owner"):
            raise UsageError(f"study: expected {'none for an owner, who sees all' if role == 'owner' else f'the one that a {role} takes part in'}, got {study!r}")  # fmt: skip
        check_name(name)
        if seconds is not None and not 0 < seconds < 1e10:
            raise UsageError(f"seconds: expected how long the link holds, got {seconds}")
        now = self._clock()
        identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(SECRET_BYTES)
        expires = None if seconds is None else now + seconds
        with self._mutex, self._errors(), self._transaction():
            if role == "rater" and not again:
                standing = "study = ? AND name = ? AND revoked IS NULL AND (expires IS NULL OR expires > ?)"
                if self._connection.execute(f"SELECT 1 FROM link WHERE role = 'rater' AND {standing}", (study, name, now)).fetchone():  # fmt: skip
                    raise LinkExists(f"{name} has a link to {study} already; revoke that first, choose another name, or ask for one more with again")  # fmt: skip
            row = (identifier, role, study, name, _hash(secret), now, expires, None)
            self._connection.execute("INSERT INTO link VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return _link(
            (identifier, role, study, name, now, expires, None), now
        ), f"{PREFIXES[role]}_{identifier}_{secret}"

    def links(self, study: str | None = None) -> list[Link]:
        """All that were ever issued, oldest first; those of one study, if given."""
        with self._reading, self._errors():
            rows = self._reader.execute(
                "SELECT id, role, study, name, created, expires, revoked FROM link "
                "WHERE ?1 IS NULL OR study = ?1 ORDER BY created, rowid",
                (study,),
            ).fetchall()
        now = self._clock()
        return [_link(row, now) for row in rows]

    def revoke(self, link_id: str) -> Link:
        """End a link, at once; one that has ended stays as it is. Raises LinkMissing."""
        with self._mutex, self._errors():
            now = self._clock()
            with self._transaction():
                self._connection.execute("UPDATE link SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, link_id))
            row = self._connection.execute(
                "SELECT id, role, study, name, created, expires, revoked FROM link WHERE id = ?", (link_id,)
            ).fetchone()
        if row is None:
            raise LinkMissing(f"expected the id of a link, got {link_id!r}; GET the links of the study for theirs")
        return _link(row, now)

    def identify(self, token: str) -> Identity | None:
        """Whose token this is; None if it is nobody's, or has ended."""
        prefix, _, rest = token.partition("_")
        identifier, _, secret = rest.partition("_")
        with self._reading, self._errors():
            row = self._reader.execute(
                "SELECT role, study, name, hash, expires, revoked FROM link WHERE id = ?", (identifier,)
            ).fetchone()
        role, study, name, kept, expires, revoked = row or ("", None, "", b"", None, None)
        same = hmac.compare_digest(_hash(secret), kept or bytes(32))
        if not (row and same and prefix == PREFIXES[role]) or revoked is not None:
            return None
        if expires is not None and expires <= self._clock():
            return None
        return Identity(cast(Role, role), study, name, identifier, _iso(expires))

    def seconds_left(self, identity: Identity) -> int:
        """How long an identity's token still holds; as long as a year for one that does not end."""
        if identity.expires is None:
            return YEAR
        return max(0, int(datetime.datetime.fromisoformat(identity.expires).timestamp() - self._clock()))

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only this file gives, the same after a restart; others for every purpose."""
        return hmac.digest(self._key, purpose.encode(), "sha256")

    def paused(self, study: str) -> bool:
        """Whether the owner has stopped handing out slates."""
        with self._reading, self._errors():
            return self._reader.execute("SELECT 1 FROM paused WHERE study = ?", (study,)).fetchone() is not None

    def pause(self, study: str, paused: bool) -> None:
        """Stop handing out slates, or go on; said twice is said once."""
        statement = "INSERT OR IGNORE INTO paused VALUES (?)" if paused else "DELETE FROM paused WHERE study = ?"
        with self._mutex, self._errors(), self._transaction():
            self._connection.execute(statement, (study,))

    def close(self) -> None:
        with self._mutex, self._reading:
            self._reader.close()
            self._connection.close()


def check_name(name: str) -> None:
    """Whether a link may be for this name. Raises UsageError."""
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable() or "/" in name or name != name.strip():
        raise UsageError(f'name: expected 1 to {NAME_LENGTH} characters without "/", line breaks, or blanks around it; got {name!r}')  # fmt: skip


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _link(row: tuple[str, str, str | None, str, float, float | None, float | None], now: float) -> Link:
    identifier, role, study, name, created, expires, revoked = row
    standing = revoked is None and (expires is None or expires > now)
    made = _iso(created)
    assert made is not None
    return Link(identifier, cast(Role, role), study, name, made, _iso(expires), _iso(revoked), standing)
