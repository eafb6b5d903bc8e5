"""What the pages are before any script runs: status, escaping, headers, refusals as pages, files, colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import bbopt
import server.pages
from bbopt.report.theme import css_variables
from server.app import create_app
from server.config import Config

ODD = "<b>x & 'y'"
STATIC = Path(server.pages.__file__).parent / "static"
TEMPLATES = STATIC.parent / "templates"
HTML = {"Accept": "text/html,application/xhtml+xml", "Origin": "http://127.0.0.1:8000"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1), y=bbopt.Float(0, 1)), feedback="ranking")
    for name in ("plain", ODD):
        bbopt.Optimizer(task, "rank-sgd", store=tmp_path / "runs.db", name=name).close()
    app = create_app(Config(tmp_path / "runs.db"))
    with TestClient(app, base_url="http://127.0.0.1:8000", headers=HTML) as client:
        client.access = app.app.state.access  # type: ignore[attr-defined]
        yield client


def sign_in(client: TestClient, role: str, study: str | None, name: str) -> None:
    _, token = client.access.issue(role, study, name)  # type: ignore[attr-defined]
    assert client.post("/v1/session", json={"token": token}).status_code == 200


def test_everybody_sees_what_this_is_and_how_to_join(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "open the link that you were given" in page.text
    assert "plain" not in page.text  # studies are nobody's business
    assert client.get("/join").status_code == 200
    for path in ("/rate/plain", "/studies/plain"):
        refusal = client.get(path)
        assert (refusal.status_code, refusal.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "needs a link" in refusal.text


def test_a_rater_has_one_page(client: TestClient) -> None:
    sign_in(client, "rater", "plain", "ann")
    first = client.get("/", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/rate/plain")
    assert client.get("/rate/plain").status_code == 200
    assert client.get("/rate/" + quote(ODD)).status_code == 401  # another study: its link is needed
    assert client.get("/studies/plain").status_code == 401


def test_an_owner_has_studies_and_no_rating_page(client: TestClient) -> None:
    sign_in(client, "owner", None, "owner")
    assert "/static/home.js" in client.get("/").text
    assert client.get("/studies/plain").status_code == 200
    assert client.get("/studies/none").status_code == 404
    refusal = client.get("/rate/plain")
    assert refusal.status_code == 403
    assert 'href="/studies/plain"' in refusal.text


def test_names_are_escaped(client: TestClient) -> None:
    sign_in(client, "owner", None, "owner")
    sign_in(client, "rater", ODD, "ann")
    for path in ("/studies/", "/rate/"):
        page = client.get(path + quote(ODD))
        assert page.status_code == 200
        assert "<b>x" not in page.text
        assert "&lt;b&gt;x &amp; &#39;y&#39;" in page.text


def test_refusals_are_pages_for_readers_and_json_for_programs(client: TestClient) -> None:
    page = client.get("/nowhere/<script>")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing here" in page.text
    assert "<script>" not in page.text
    assert client.get("/nowhere", headers={"Accept": "application/json"}).json()["error"]["kind"] == "NotFound"
    for path in ("/v1/nowhere", "/static/nowhere.js"):
        assert client.get(path).json()["error"]["kind"] == "NotFound"
    assert client.post("/join", json={}).json()["error"]["kind"] == "MethodNotAllowed"


def test_pages_allow_this_host_alone_and_are_not_kept(client: TestClient) -> None:
    page = client.get("/join")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    script = client.get("/static/rate.js")
    assert script.status_code == 200
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"
    assert client.get("/static/../pages.py").status_code == 404
    assert client.get("/static/%2e%2e/pages.py").status_code == 404


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_templates_have_no_inline_script_or_style_and_name_files_that_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\son\w+\s*=|\sstyle\s*=|<style|javascript:|https?://|\|\s*safe", text)
    assert all(re.search(r"<script[^>]*\ssrc=", tag) for tag in re.findall(r"<script[^>]*>", text))
    for name in re.findall(r"/static/([\w.]+)", text):
        assert (STATIC / name).is_file()


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_scripts_build_no_markup_from_text_and_import_files_that_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?://(?!www\.w3\.org)", text
    )
    for name in re.findall(r'from "\./([\w.]+)"', text):
        assert (STATIC / name).is_file()
    assert len(text.splitlines()) < 400


def test_the_colours_are_those_of_the_reports() -> None:
    text = (STATIC / "theme.css").read_text("utf-8")
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    for declarations, css in zip(css_variables(), (light, dark), strict=True):
        theirs = dict(re.findall(r"--([\w]+): (#\w+);", declarations))
        ours = dict(re.findall(r"--([\w]+): (#\w+);", css))
        shared = theirs.keys() & ours.keys()
        assert {"ink", "muted", "grid", "wash", "paper", "series0", "series1", "series2"} <= shared
        assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
