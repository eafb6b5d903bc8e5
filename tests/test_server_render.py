"""Renderers: what a user's function may return, how it is found, and that nothing it does harms the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bbopt
from server.render import Renderer, RenderFailed, load_renderer
from server.render_process import RenderProcess
from server.render_table import TableRenderer, number
from server.rendering import KINDS, LARGEST, rendering_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
TASK = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), feedback="ranking")
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


# -- what is returned ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "media_type", "kind"),
    [
        (PNG, "image/png", "image"),
        (bytearray(PNG), "image/png", "image"),
        (b"\xff\xd8\xff\xe0....", "image/jpeg", "image"),
        (b"GIF87a..", "image/gif", "image"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp", "image"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav", "audio"),
        (b"OggS....", "audio/ogg", "audio"),
        (b"ID3\x04....", "audio/mpeg", "audio"),
        (b"\xff\xfb\x90\x64....", "audio/mpeg", "audio"),
        (b"fLaC....", "audio/flac", "audio"),
        ("<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "image"),
        ("\ufeff <?xml version='1.0'?>\n<!-- a > b -->\n<svg/>", "image/svg+xml", "image"),
        (b"<svg viewBox='0 0 1 1'></svg>", "image/svg+xml", "image"),
        ("<!DOCTYPE svg PUBLIC '...'><svg/>", "image/svg+xml", "image"),
        ("<!DOCTYPE html><p>x", "text/html", "html"),
        ("  <p>x</p>", "text/html", "html"),
        ("<svgfoo>", "text/html", "html"),
        ("less is more", "text/plain", "text"),
        ("<3 you", "text/plain", "text"),
        (("image/png", PNG), "image/png", "image"),
        (("Text/Plain; charset=utf-8", "<p>shown as it is</p>"), "text/plain", "text"),
        (["text/html", b"<p>x"], "text/html", "html"),
    ],
)
def test_media_type_by_content(returned: object, media_type: str, kind: str) -> None:
    rendering = rendering_of(returned)
    assert (rendering.media_type, rendering.kind, rendering.failed) == (media_type, kind, False)
    assert rendering.alt


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "expected bytes of a PNG.*got NoneType None"),
        (3.5, "got float 3.5"),
        (b"MZ\x90\x00", "bytes that begin with b'MZ"),
        (b"", "bytes that begin with b''"),
        ("", "got nothing"),
        (" \n", "got nothing"),
        (("application/javascript", "alert(1)"), "expected a media type of .*got 'application/javascript'"),
        (("text/html\r\nSet-Cookie: a=b", "x"), "expected a media type of"),
        (("image/png", 3), "got tuple"),
        (("text/plain", b"\xff\xfe"), "UTF-8"),
        (PNG + bytes(LARGEST), "at most 8,388,608 bytes"),
        ({"media_type": "image/png"}, "got dict"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(returned: object, says: str) -> None:
    with pytest.raises(RenderFailed, match=says):
        rendering_of(returned)


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40), st.tuples(st.text(max_size=12), st.binary(max_size=9))))
def test_anything_becomes_a_listed_type_or_is_refused(returned: bytes | str | tuple[str, bytes]) -> None:
    try:
        rendering = rendering_of(returned)
    except RenderFailed:
        return
    assert KINDS[rendering.media_type] == rendering.kind
    assert rendering.media_type != "image/svg+xml" or b"http://www.w3.org/2000/svg" in rendering.data


def test_an_svg_without_its_namespace_gets_it() -> None:
    """Browsers show nothing of an image/svg+xml without it."""
    data = rendering_of("<?xml version='1.0'?><svg width='3'><svg/></svg>").data.decode()
    assert data == "<?xml version='1.0'?><svg xmlns=\"http://www.w3.org/2000/svg\" width='3'><svg/></svg>"


# -- module:function -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("draw", "expected auto, table, picture or module:function.*got 'draw'"),
        ("a/b:draw", "got 'a/b:draw'"),
        ("mine:draw()", "module:function"),
        ("absent:draw", "no module 'absent' in .* start in the folder"),
        ("mine.absent:draw", "no module 'mine.absent'"),
        ("mine:drew", "no function 'drew' in .*mine.py; did you mean draw"),
        ("mine:colour", "expected a function of one argument.*got 'blue'"),
        ("mine:two", r"expected a function of one argument.*got two\(width, height\)"),
        ("mine:later", "async"),
        ("needy:draw", "needy needs a module that is not installed.*there_is_no_such_module"),
        ("broken:draw", r"importing broken failed\n(.|\n)*ZeroDivisionError"),
        ("leaving:draw", r"importing leaving failed\n(.|\n)*SystemExit"),
        ("dying:draw", "its process ended while it imported the module"),
        ("picture", "none of the picture problems"),
    ],
)
def test_a_spec_that_does_not_work_says_why(spec: str, says: str, folder: Path) -> None:
    (folder / "mine.py").write_text(
        "colour = 'blue'\ndef draw(params): return 'x'\ndef two(width, height): return ''\nasync def later(p): return ''\n"
    )
    (folder / "needy.py").write_text("import there_is_no_such_module\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaving.py").write_text("raise SystemExit\n")
    (folder / "dying.py").write_text("import os; os._exit(3)\n")
    with pytest.raises(bbopt.UsageError, match=says):
        load_renderer(spec, TASK)


def test_the_example_is_found_from_its_folder_and_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Path(__file__).resolve().parent.parent / "examples"
    tree = {"spread": 25.0, "lean": 4.0, "reach": 0.74, "trunk": 66.0, "hue": 110.0}
    shown = set()
    for folder, spec in ((examples, "rank_pictures:picture"), (examples.parent, "examples.rank_pictures:picture")):
        monkeypatch.chdir(folder)
        renderer = load_renderer(spec, TASK)
        shown.add(renderer(tree))
        renderer.close()
    (rendering,) = shown
    assert rendering.media_type == "image/svg+xml" and rendering.data.count(b"<path") == 2**8 - 1


ODD = """
import os, sys, time
def draw(params):
    print("to be seen in the log only")
    x = params["x"]
    if x == 0.1:
        raise ValueError("secret of the owner")
    if x == 0.2:
        while True: pass
    if x == 0.3:
        os._exit(5)
    if x == 0.4:
        sys.exit(0)
    if x == 0.5:
        return 17
    if x == 0.6:
        import helper  # beside it
        return helper.text
    return f"<svg width='{x}' data-pid='{os.getpid()}'/>"
"""


def test_a_renderer_cannot_harm_the_server(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Raises, loops for ever, ends its process, returns nonsense: each time it is said, and the next point is rendered."""
    (folder / "odd.py").write_text(ODD)
    (folder / "helper.py").write_text("text = 'beside'")
    before = list(sys.path)
    renderer = load_renderer("odd:draw", TASK, seconds=0.5)
    try:
        first = renderer({"x": 0.9})
        assert first.kind == "image"
        assert str(os.getpid()).encode() not in first.data, "it runs in a process of its own"
        assert renderer({"x": 0.9}) == first, "in the same process again"
        for x, says in ((0.1, "ValueError: secret"), (0.5, "got int 17")):
            with pytest.raises(RenderFailed, match=says):
                renderer({"x": x})
        assert renderer({"x": 0.6}).data == b"beside"
        assert renderer({"x": 0.9}) == first, "an exception does not end it"
        for x, says in ((0.2, "no result after 0.5 s"), (0.3, "its process ended"), (0.4, "its process ended")):
            with pytest.raises(RenderFailed, match=says):
                renderer({"x": x})
        assert renderer({"x": 0.9}).kind == "image"
    finally:
        renderer.close()
    with pytest.raises(RenderFailed, match="closing"):
        renderer({"x": 0.9})
    assert sys.path == before, "the server's own search path is left alone"
    assert capfd.readouterr().out == "", "standard output is for the links that the server prints"


def test_it_ends_when_idle_and_comes_back(folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    renderer = RenderProcess("odd:draw", TASK, idle=0.2)
    try:
        first = renderer({"x": 0.9})
        deadline = time.monotonic() + 20.0
        while renderer._running() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert renderer._running() is None
        assert renderer({"x": 0.9}) != first, "another process"
        (folder / "odd.py").unlink()
        while renderer._running() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(RenderFailed, match="no module 'odd'"):
            renderer({"x": 0.9})
    finally:
        renderer.close()


def test_close_ends_a_rendering_in_progress(folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    renderer = load_renderer("odd:draw", TASK, seconds=60.0)
    said: list[str] = []

    def render() -> None:
        try:
            renderer({"x": 0.2})
        except RenderFailed as error:
            said.append(str(error))

    thread = threading.Thread(target=render)
    thread.start()
    time.sleep(0.2)
    renderer.close()
    thread.join(20.0)
    assert len(said) == 1 and not thread.is_alive()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the process in /proc")
def test_it_does_not_outlive_a_killed_server(folder: Path) -> None:
    """In the middle of an endless rendering, too."""
    (folder / "odd.py").write_text(ODD)
    (folder / "host.py").write_text(
        "import bbopt, threading\nfrom server.render import load_renderer\n"
        "if __name__ == '__main__':\n"
        "    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)))\n"
        "    renderer = load_renderer('odd:draw', task, seconds=100.0)\n"
        "    print(renderer._process.pid, flush=True)\n"
        "    renderer({'x': 0.2})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    host = subprocess.Popen([sys.executable, "host.py"], stdout=subprocess.PIPE, text=True, env=environment)
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    time.sleep(0.3)
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 20.0
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- the table -----------------------------------------------------------------------------------------------------------


class _Document(HTMLParser):
    """Tags, and the text of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip()


def table(renderer: Renderer, params: dict[str, object]) -> _Document:
    rendering = renderer(params)
    assert (rendering.media_type, rendering.kind) == ("text/html", "table")
    return _Document(rendering.data.decode())


def test_table_shows_what_the_point_has() -> None:
    space = bbopt.Space(
        steel=bbopt.Categorical(["S235", "S355"]),
        bolts=bbopt.Int(2, 12),
        width=bbopt.Float(0.001, 1000, log=True),
        coating=bbopt.Float(0, 1, when="steel == 'S355'"),
        small=bbopt.Float(0, 1, shape=(3,)),
        weights=bbopt.Float(scale=1.0, shape=(40, 50)),
        glued=bbopt.Categorical([True, False, None, {"a": [1]}]),
        note=bbopt.Categorical(["word " * 1000, "b"]),
    )
    renderer = load_renderer("table", bbopt.Task(space))
    params = {"steel": "S235", "bolts": 7, "width": 1.0, "small": np.array([0.5, 0.25, 1.0]),
              "weights": np.linspace(-1, 1, 2000).reshape(40, 50), "glued": True, "note": "word " * 1000}  # fmt: skip
    found = table(renderer, params)
    pairs = dict(zip(found.cells[::2], found.cells[1::2], strict=True))
    assert list(pairs) == ["steel", "bolts", "width", "small", "weights", "glued", "note"], "no inactive parameter"
    assert pairs["steel"] == "S235" and pairs["bolts"] == "7" and pairs["width"] == "1" and pairs["glued"] == "yes"
    assert pairs["small"] == "0.5, 0.25, 1"
    assert pairs["weights"] == "40 × 50 numbers: −1 to 1, median 0"
    assert pairs["note"].endswith("(5,000 characters)") and len(pairs["note"]) < 2_100
    styles = [value for name, value in found.attributes if name == "style"]
    assert styles == ["width:50.0%", "width:50.0%"], "bolts in the middle, width in the middle of its log axis"
    assert table(renderer, {**params, "glued": {"a": [1]}}).cells[-3] == '{"a": [1]}'


def test_table_of_many_parameters_is_cut() -> None:
    space = bbopt.Space({f"x{i}": bbopt.Float(0, 1) for i in range(1_000)})
    found = table(TableRenderer(bbopt.Task(space)), {f"x{i}": 0.5 for i in range(1_000)})
    assert len(found.cells) == 401 and found.cells[-1] == "and 800 more"


@given(name=st.text(min_size=1, max_size=30), value=st.text(max_size=60))
def test_table_escapes_everything(name: str, value: str) -> None:
    renderer = TableRenderer(bbopt.Task(bbopt.Space({name: bbopt.Categorical([value, XSS + value])})))
    plain = table(TableRenderer(bbopt.Task(bbopt.Space(a=bbopt.Categorical(["b"])))), {"a": "b"})
    for shown in (value, XSS + value):
        assert table(renderer, {name: shown}).tags == plain.tags, "text became markup"


@pytest.mark.parametrize("where", ["name", "value", "nested"])
def test_no_script_from_parameters(where: str) -> None:
    name = XSS if where == "name" else "a"
    value: object = {"name": "b", "value": XSS, "nested": [{XSS: XSS}]}[where]
    renderer = TableRenderer(bbopt.Task(bbopt.Space({name: bbopt.Categorical([value])})))
    found = table(renderer, {name: value})
    assert not {"script", "img"} & set(found.tags)
    assert any("<script>alert(1)</script>" in cell for cell in found.cells), "shown as text"


@given(st.floats(-1e300, 1e300))
def test_numbers_keep_four_digits(value: float) -> None:
    shown = float(number(value).replace("−", "-").replace(",", ""))
    assert abs(shown - value) <= 5.1e-4 * abs(value)
