"""Tokens: who they let in, until when, what is kept of them, and the file they are kept in."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bbopt
from server.access import Access, LinkExists, LinkMissing
from server.identity import cookie_name


class Clock:
    """Seconds since 1970, moved by hand."""

    now = 1.7e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def another() -> Iterator[Callable[..., Access]]:
    """Opens a file of tokens; closed after the test."""
    with contextlib.ExitStack() as stack:

        def opened(path: Path, clock: Callable[[], float] = time.time) -> Access:
            return stack.enter_context(contextlib.closing(Access(path, clock)))

        yield opened


@pytest.fixture
def access(tmp_path: Path, clock: Clock, another: Callable[..., Access]) -> Access:
    return another(tmp_path / "runs.db.access", clock)


def test_a_token_says_whose_it_is(access: Access) -> None:
    for role, study, name, prefix in (("owner", None, "me", "bbo_"), ("program", "s", "worker", "bbp_"), ("rater", "s", "ann", "bbr_")):  # fmt: skip
        link, token = access.issue(role, study, name)
        assert token.startswith(prefix) and len(token.split("_", 2)[2]) == 43, "256 bits in base64"
        identity = access.identify(token)
        assert identity is not None
        assert (identity.role, identity.study, identity.name, identity.link_id) == (role, study, name, link.id)
        assert link.standing and link.expires is None and link.created == "2023-11-14T22:13:20+00:00"


def test_tokens_do_not_repeat_and_are_not_kept(access: Access) -> None:
    tokens = [access.issue("program", "s", f"worker {number}")[1] for number in range(20)]
    assert len({token.split("_", 2)[2] for token in tokens}) == 20
    files = b"".join(path.read_bytes() for path in access.path.parent.iterdir())
    for token in tokens:
        assert token.split("_", 2)[2].encode() not in files
        assert token.split("_", 2)[1].encode() in files, "the id is, so the search above looks at the right files"


def test_anything_else_is_nobody(access: Access) -> None:
    _, token = access.issue("owner", None, "me")
    prefix, identifier, secret = token.split("_", 2)
    flipped = ("B" if secret[0] != "B" else "C") + secret[1:]
    for wrong in ("", "_", "__", token[:-1], token + "x", token.upper(), f"bbr_{identifier}_{secret}", f"{prefix}__{secret}",
                  f"{prefix}_{identifier}_", f"{prefix}_{identifier}_{flipped}", secret, identifier, " " + token, token + "\n",
                  f"{prefix}_' OR 1=1 --_{secret}", "\ud800", "\x00", "é" * 500):  # fmt: skip
        assert access.identify(wrong) is None, wrong
    assert access.identify(token) is not None


@given(st.text(max_size=80))
def test_no_text_is_a_token_by_chance(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "shared.access"
    access = Access(path)
    if not access.links():
        access.issue("owner", None, "me")
    assert access.identify(text) is None
    assert access.identify(f"bbo_{access.links()[0].id}_{text}") is None
    access.close()


def test_a_token_of_no_link_and_a_wrong_secret_cost_the_same_comparison(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Time is no test here; that the same comparison, of constant time, runs in both cases is."""
    import hmac

    compared = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return original(one, other)

    original = hmac.compare_digest
    _, token = access.issue("owner", None, "me")
    monkeypatch.setattr("server.access.hmac.compare_digest", watched)
    for wrong in (token[:-1] + "!", "bbo_0000000000000000_" + token.split("_", 2)[2], "nothing like it"):
        assert access.identify(wrong) is None
    assert compared == [(32, 32)] * 3


def test_it_ends_when_it_expires(access: Access, clock: Clock) -> None:
    link, token = access.issue("rater", "s", "ann", seconds=60)
    clock.now += 59.9
    identity = access.identify(token)
    assert identity is not None and identity.expires == link.expires == "2023-11-14T22:14:20+00:00"
    assert access.seconds_left(identity) == 0
    clock.now += 0.1
    assert access.identify(token) is None
    assert [link.standing for link in access.links()] == [False]


def test_it_ends_at_once_when_it_is_revoked_by_another_process_too(
    access: Access, another: Callable[..., Access]
) -> None:
    link, token = access.issue("rater", "s", "ann")
    other = another(access.path)
    assert other.identify(token) is not None
    revoked = access.revoke(link.id)
    assert revoked.revoked is not None and not revoked.standing
    assert other.identify(token) is None and access.identify(token) is None
    assert access.revoke(link.id) == revoked, "the time of the first revocation stays"
    with pytest.raises(LinkMissing, match="id of a link"):
        access.revoke("no-such")


def test_one_name_is_one_person(access: Access, clock: Clock) -> None:
    first, _ = access.issue("rater", "s", "ann", seconds=60)
    with pytest.raises(LinkExists, match="ann has a link to s"):
        access.issue("rater", "s", "ann")
    access.issue("rater", "t", "ann")
    access.issue("program", "s", "ann")
    _, more = access.issue("rater", "s", "ann", again=True)
    assert access.identify(more) is not None
    assert len(access.links("s")) == 3 and len(access.links()) == 4
    access.issue("rater", "s", "bob", seconds=60)
    clock.now += 60
    access.issue("rater", "s", "bob")  # the first has ended
    access.revoke(access.links("s")[-1].id)
    access.issue("rater", "s", "bob")
    assert access.links("s")[0].id == first.id, "oldest first"


@pytest.mark.parametrize(
    ("role", "study", "name", "seconds"),
    [
        ("rater", None, "ann", None),
        ("program", None, "worker", None),
        ("owner", "s", "me", None),
        ("king", None, "me", None),
        ("rater", "s", "", None),
        ("rater", "s", "ann/repeat", None),
        ("rater", "s", " ann", None),
        ("rater", "s", "ann\n", None),
        ("rater", "s", "a\x00b", None),
        ("rater", "s", "a" * 65, None),
        ("rater", "s", "ann", 0),
        ("rater", "s", "ann", float("nan")),
        ("rater", "s", "ann", float("inf")),
    ],
)
def test_what_is_no_link(access: Access, role: str, study: str | None, name: str, seconds: float | None) -> None:
    with pytest.raises(bbopt.UsageError, match="expected"):
        access.issue(role, study, name, seconds)  # type: ignore[arg-type]
    assert access.links() == []


def test_secrets_are_of_the_file_and_the_purpose(
    access: Access, tmp_path: Path, another: Callable[..., Access]
) -> None:
    assert len(access.secret("items")) == 32
    assert access.secret("items") == another(access.path).secret("items") != access.secret("order")
    assert another(tmp_path / "other").secret("items") != access.secret("items")


def test_pause(access: Access, another: Callable[..., Access]) -> None:
    assert not access.paused("s")
    for _ in range(2):
        access.pause("s", True)
        assert access.paused("s") and not access.paused("t") and another(access.path).paused("s")
    for _ in range(2):
        access.pause("s", False)
        assert not access.paused("s")


def test_many_threads(access: Access) -> None:
    _, token = access.issue("owner", None, "me")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                link, mine = access.issue("rater", "s", f"rater {number}.{step}")
                assert access.identify(mine) is not None and access.identify(token) is not None
                access.revoke(link.id)
                assert access.identify(mine) is None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert len(access.links("s")) == 40


# -- the file ----------------------------------------------------------------------------------------------------------


def test_only_its_user_can_read_it(access: Access) -> None:
    access.issue("owner", None, "me")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in access.path.parent.iterdir()}
    assert modes == dict.fromkeys(("runs.db.access", "runs.db.access-wal", "runs.db.access-shm"), 0o600)


def test_one_that_others_can_read_is_refused(access: Access) -> None:
    access.close()
    access.path.chmod(0o644)
    with pytest.raises(bbopt.UsageError, match="mode 0644; chmod 600"):
        Access(access.path)


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    bbopt.SQLiteStore(store).close()
    text = tmp_path / "text"
    text.write_text("not a database, and longer than a header would be " * 20)
    for path in (store, text):
        path.chmod(0o600)
        before = path.read_bytes()
        with pytest.raises(bbopt.NotAStore, match="access tokens"):
            Access(path)
        assert path.read_bytes() == before


def test_a_newer_one_is_refused(access: Access) -> None:
    access.close()
    connection = sqlite3.connect(access.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(bbopt.StoreTooNew, match="format 99"):
        Access(access.path)


def test_an_empty_file_becomes_one(tmp_path: Path, another: Callable[..., Access]) -> None:
    """A process that died between making the file and writing to it leaves an empty one."""
    path = tmp_path / "a"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    _, token = another(path).issue("owner", None, "me")
    assert another(path).identify(token) is not None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(bbopt.StoreError, match="check the folder"):
        Access(tmp_path / "no" / "such")
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(bbopt.StoreError, match="cannot use"):
        Access(tmp_path / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written(access: Access) -> None:
    access.close()
    access.path.chmod(0o400)
    with pytest.raises(bbopt.StoreError, match="check the permissions"):
        Access(access.path)


def test_a_closed_one_says_so(access: Access) -> None:
    access.close()
    with pytest.raises(bbopt.StoreError, match="closed"):
        access.identify("x")


def test_cookies_of_servers_roles_and_studies_are_apart() -> None:
    names = {
        cookie_name(port, role, study)
        for port in (8000, 8001)
        for role, study in (("owner", None), ("rater", "s"), ("rater", "t"), ("program", "s"))
    }
    assert len(names) == 8
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in (*names, cookie_name(1, "rater", "sternenhimmel über ö")))  # fmt: skip
