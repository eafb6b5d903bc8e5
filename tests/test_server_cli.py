"""`bbopt serve` from a shell: what it prints, what it refuses, how it ends. With real processes, sockets and signals."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cli_shell import make_store, refused, run
from server_live import Live, serving

import bbopt

FOOD: dict[str, Any] = {"space": {"salt": {"type": "Float", "low": 0, "high": 1}, "heat": {"type": "Float", "low": 0, "high": 1}},
                        "objectives": [{"name": "taste", "maximize": True}], "feedback": "ranking"}  # fmt: skip


def kitchen(folder: Path) -> Path:
    """A store with a study that is ranked, `soup`, beside `beam` and `curve`."""
    path = make_store(folder)
    task = bbopt.Task.from_json(FOOD)
    bbopt.Optimizer(task, "random", store=path, name="soup").close()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kitchen(tmp_path_factory.mktemp("kitchen"))


@pytest.fixture(scope="module")
def live(store: Path) -> Iterator[Live]:
    with serving(store, "--rater", "ann", "--rater", "bob") as server:
        yield server


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_what_it_prints(live: Live, store: Path) -> None:
    facts = live.facts
    assert set(facts) == {"format", "url", "store", "studies", "owner", "raters"}
    assert facts["url"].startswith("http://127.0.0.1:") and facts["store"] == str(store)
    assert facts["studies"] == ["beam", "curve", "soup"]
    assert [(link["study"], link["name"]) for link in facts["raters"]] == [("soup", "ann"), ("soup", "bob")]
    for link in (facts["owner"], *facts["raters"]):
        assert link["url"] == f"{facts['url']}/join#{link['token']}"
        days = (time.mktime(time.strptime(link["expires"][:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) / 86400
        assert 28.9 < days < 31.1


def test_its_links_let_people_in(live: Live) -> None:
    page, _, token = live.link("ann").partition("#")
    with live.client() as browser:
        assert browser.get("/healthz").json() == {"ok": True}
        join = browser.get(page)
        assert join.status_code == 200 and "text/html" in join.headers["content-type"]
        assert browser.get("/v1/session").status_code == 401
        joined = browser.post("/v1/session", json={"token": token}, headers={"Origin": live.url})
        assert joined.json() == {
            "role": "rater",
            "study": "soup",
            "name": "ann",
            "expires": live.facts["raters"][0]["expires"],
        }
        cookie = joined.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=259"))
        assert browser.get("/v1/session").json()["name"] == "ann"
        assert browser.get("/rate/soup").status_code == 200
        assert browser.get("/v1/studies/soup/next").json()["slate"]["items"]
        assert browser.get("/v1/studies/beam/next").status_code == 404
        assert browser.delete("/v1/session", headers={"Origin": live.url}).status_code == 204
        assert browser.get("/v1/session").status_code == 401
    with live.client(live.owner) as owner:
        assert {study["name"] for study in owner.get("/v1/studies").json()["studies"]} == {"beam", "curve", "soup"}
        links = owner.get("/v1/studies/soup/links").json()["links"]
        assert [(link["name"], link["standing"]) for link in links] == [("ann", True), ("bob", True)]


@pytest.mark.usefixtures("no_start")
def test_it_is_the_only_server_of_its_store(live: Live, store: Path) -> None:
    text = refused(1, "serve", "--store", store, "--port", 0)
    assert f"another server (process {live.process.pid}) has it" in text and "Traceback" not in text
    assert run("list", store).exit_code == 0, "commands may use the store beside it"


@pytest.mark.usefixtures("no_start")
def test_a_port_that_is_taken(live: Live, tmp_path: Path) -> None:
    other = kitchen(tmp_path)
    text = refused(1, "serve", "--store", other, "--port", live.port)
    assert f"UsageError: port {live.port} of 127.0.0.1 is in use; choose another by --port" in text
    assert not other.with_name("runs.db.serving").exists() and not other.with_name("runs.db.access").exists()


def test_headers_that_never_end_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow headers, a byte at a time, also after a whole request; with half a second in place of fifteen."""
    monkeypatch.setattr("server.run.HEADER_SECONDS", 0.5)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    from server import run as module

    with module.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        ready = threading.Event()
        settings = uvicorn.Config(app, http=module._Protocol, ws="none", lifespan="off", log_config=None)
        server = module._Server(settings, ready.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert ready.wait(10)
            for before in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
                    line.sendall(before)
                    assert not before or line.recv(1000).startswith(b"HTTP/1.1 204")
                    start = time.monotonic()
                    with contextlib.suppress(ConnectionError):
                        for letter in b"GET / HTTP/1.1\r\nX-Slow: " + b"y" * 1000:
                            line.sendall(bytes([letter]))
                            time.sleep(0.05)
                    assert time.monotonic() - start < 10, "the line was cut, not read to its end"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def test_z_ctrl_c_ends_it_at_once_and_the_next_one_goes_on(live: Live, store: Path, tmp_path: Path) -> None:
    """Last, for it ends the server that the others use. A connection is open, and half a request is under way."""
    token = live.rater("ann")
    with live.client(token) as client, socket.create_connection(("127.0.0.1", live.port)) as slow:
        shown = client.get("/v1/studies/soup/next").json()["slate"]
        slow.sendall(b"POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
        start = time.monotonic()
        assert live.stop(signal.SIGINT) == 130
        assert time.monotonic() - start < 6
    time.sleep(0.05)
    assert live.log.splitlines()[-1] == "interrupted" and "Traceback" not in live.log
    assert all(link["token"] not in live.log for link in (live.facts["owner"], *live.facts["raters"]))
    assert not store.with_name("runs.db.serving").exists()
    file = tmp_path / "links.json"
    with serving(store, "--rater", "ann", "--study", "soup", "--links", file) as again:
        assert again.facts["studies"] == ["soup"]
        assert "token" not in json.dumps(again.facts) and "join" not in json.dumps(again.facts)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        kept = json.loads(file.read_text())
        new = kept["raters"][0]["token"]
        assert kept["owner"]["url"].startswith(again.url) and new != token
        for one in (token, new):  # a link holds over a restart, and both are the same person
            with again.client(one) as client:
                assert client.get("/v1/studies/soup/next").json()["slate"]["items"] == shown["items"]
        assert again.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
        assert "Traceback" not in again.log


SLOW = """
import sys, threading, time, urllib.request
from pathlib import Path
import bbopt
from bbopt.strategies.random_search import RandomSearch
from server.config import Config
from server.run import serve

RandomSearch.ask = lambda *_: (print("thinking", flush=True), time.sleep(100))

def started(config, access):
    _, token = access.issue("rater", "soup", "ann")
    request = urllib.request.Request(f"{config.origin}/v1/studies/soup/next", headers={"Authorization": f"Bearer {token}"})
    threading.Thread(target=lambda: urllib.request.urlopen(request), daemon=True).start()

serve(Config(Path(sys.argv[1]), port=0), started)
"""


def test_ctrl_c_does_not_wait_for_a_strategy_that_thinks(tmp_path: Path) -> None:
    path = kitchen(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None and child.stderr is not None
            assert child.stdout.readline() == "thinking\n"
            start = time.monotonic()
            child.send_signal(signal.SIGINT)
            assert child.wait(timeout=30) == 130
            assert time.monotonic() - start < 15
            assert "ended while a strategy was thinking" in child.stderr.read()
        finally:
            child.kill()
    with bbopt.Optimizer.open(path, "soup") as opt:
        assert len(opt.ask(3)) == 3, "the lock of the one who thought is free"


def test_the_demo_is_ready_to_click(tmp_path: Path) -> None:
    start = time.monotonic()
    with serving(None, "--demo", cwd=tmp_path) as server:
        assert time.monotonic() - start < 60
        assert server.facts["store"] == "demo.db" and server.facts["studies"] == ["landscape"]
        with server.client(server.rater("you")) as client:
            items = client.get("/v1/studies/landscape/next").json()["slate"]["items"]
            picture = client.get(items[0]["url"])
            assert picture.headers["content-type"].startswith("image/") and len(picture.content) > 1000


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that should have been refused would run for ever."""
    monkeypatch.setattr("server.run._Server.run", lambda *_, **__: pytest.fail("it started"))


@pytest.mark.usefixtures("no_start")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--study", "soop"), "StudyMissing: expected a study 'soop' in .*did you mean soup?"),
        (("--study", "xyz"), "it has beam, curve, soup"),
        (("--renderer", "sop=table"), "did you mean soup?"),
        (("--renderer", "no_such_module:draw"), "no module 'no_such_module'"),
        (("--renderer", "tabel"), "renderer"),
        (("--study", "beam", "--rater", "ann"), "expected a study that is ranked, got beam"),
        (("--rater", "ann/bob"), 'without "/"'),
        (("--host", "0.0.0.0"), "reverse proxy with TLS"),
        (("--host", "no.such.host.invalid", "--allow-host", "x"), "expected an address of this machine"),
        (("--host", "192.0.2.1", "--allow-host", "x"), "cannot listen at 192.0.2.1"),
        (("--url", "rank.example.org"), "such as https://rank.example.org"),
        (("--access", "no/such/folder"), "check the folder"),
        (("--access", "runs.db"), "database of something else|expected a file that only you can read"),
    ],
)
def test_refusals(tmp_path: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    kitchen(tmp_path)
    text = refused(1, "serve", "--store", "runs.db", "--port", 0, *words)
    assert re.search(message.replace("?", r"\?"), text), text
    assert not (tmp_path / "runs.db.serving").exists()


@pytest.mark.usefixtures("no_start")
def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected --store FILE, or --demo" in refused(2, "serve")
    assert "StoreMissing: expected a store at runs.db" in refused(1, "serve", "--store", "runs.db")
    (tmp_path / "text").write_text("no store")
    assert "NotAStore" in refused(1, "serve", "--store", "text")
    assert "got none in 'soup='" in refused(2, "serve", "--store", "text", "--renderer", "soup=")
    assert "several" in refused(2, "serve", "--store", "text", "--renderer", "table", "--renderer", "picture")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.usefixtures("no_start")
def test_a_study_whose_name_is_no_part_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(bbopt.SQLiteStore(path)) as file:
        bbopt.Optimizer(bbopt.Task.from_json(FOOD), "random", store=file, name="a/b")
    assert "which addresses cannot hold; got 'a/b'" in refused(1, "serve", "--store", path, "--study", "a/b")
    text = refused(1, "serve", "--store", path, "--rater", "ann")
    assert "'a/b' is left out" in text and "got none" in text


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("server", "uvicorn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    text = refused(1, "serve", "--store", make_store(tmp_path))
    assert (
        text
        == "MissingPackage: bbopt serve needs the package uvicorn, which is not installed: pip install 'bbopt[server]'\n"
    )


def test_help_says_how_to_begin() -> None:
    text = run("serve", "--help").stdout
    assert "bbopt serve --demo" in text and "--rater ann --rater bob" in text and "--url https://" in text
