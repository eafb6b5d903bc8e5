"""The pages: where a link is opened, where slates are ranked, and what the owner sees.

A page is a shell without data: its scripts (server/static, plain modules) fetch everything from the same interface that
programs use. Templates escape what they are given; the gate's content policy lets neither inline scripts nor other hosts in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from server.identity import found

__all__ = ["error_page", "router", "static_files"]

HERE = Path(__file__).parent
NOT_PAGES = ("/v1", "/static", "/healthz", "/openapi.json")
"""What begins so is for programs; a browser gets JSON there too."""

HEADS = {
    400: "This request cannot be read",
    401: "This page needs a link",
    403: "This page is for others",
    404: "There is nothing here",
    405: "This page is only for reading",
    413: "That was too much",
    429: "Too many requests",
    503: "The store cannot be reached",
}
ASK = "Open the link that you were given once more, or ask the owner of the study for a new one."

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)  # fmt: skip

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


class _Static(StaticFiles):
    """Files that a browser asks for again each time, by their tag: after an update none is older than the others."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def static_files() -> StaticFiles:
    """The scripts, styles and pictures of the pages, for `/static`."""
    return _Static(directory=HERE / "static")


def error_page(request: Request, status: int, kind: str, message: str) -> HTMLResponse | None:
    """A refusal for somebody who reads; None where it is for a program, which wants JSON."""
    path = request.url.path
    if any(path == start or path.startswith(start + "/") for start in NOT_PAGES):
        return None
    if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", ""):
        return None
    if (status, kind) == (404, "NotFound"):
        message = "The address may be incomplete, or from an older version."
    head = HEADS.get(status, "Something went wrong" if status >= 500 else "This cannot be done")
    return _message(status, head, ASK if status in (401, 403) else message, kind=kind)


@router.get("/")
def home(request: Request) -> Response:
    """Studies for an owner; a rater goes to the study; what this is for everybody else."""
    if found(request, "owner") is not None:
        return _page("home.html")
    rater = found(request, "rater")
    if rater is not None and rater.study is not None:
        return RedirectResponse(request.url_for("rate", study=rater.study).path, status_code=303)
    return _page("welcome.html")


@router.get("/join")
def join() -> Response:
    """Where links lead. The token is behind the #, so it does not come here; a script sends it."""
    return _page("join.html")


@router.get("/rate/{study}")
def rate(request: Request, study: str) -> Response:
    """Where a rater ranks."""
    if found(request, "rater", study=study) is None:
        if found(request, "owner") is None:
            return _message(401, HEADS[401], "Ranking is for those who were given a link to this study.", ASK)
        return _message(
            403,
            "Raters have links of their own",
            "You are here as the owner. To rank yourself, make a rater's link on the study's page and open it: this browser "
            "can be both.",
            link=(request.url_for("study", study=study).path, "To the study"),
        )
    if study not in request.app.state.rooms.names():
        return _missing()
    return _page("rate.html", study=study)


@router.get("/studies/{study}", name="study")
def owner_page(request: Request, study: str) -> Response:
    """What the owner of a study sees."""
    if found(request, "owner") is None:
        return _message(401, HEADS[401], "This page is for the owner of the study.", ASK)
    if study not in request.app.state.rooms.names():
        return _missing()
    return _page("study.html", study=study)


def _missing() -> HTMLResponse:
    return _message(
        404, HEADS[404], "This server has no such study. It may have another name, or another store is served."
    )


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(**values), status, {"Cache-Control": "no-store"})


def _message(status: int, head: str, *texts: str, kind: str = "", link: tuple[str, str] | None = None) -> HTMLResponse:
    return _page("message.html", status, head=head, texts=texts, code=status, kind=kind, link=link)
