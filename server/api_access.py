"""Sessions of browsers, links of raters and programs, and the owner's pause."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from server.access import NAME_LENGTH, YEAR, Access, Identity, Link, LinkExists, LinkMissing, Role
from server.config import Config
from server.entry import AGAINST
from server.errors import ApiError
from server.identity import SCOPE_KEY, Presented, cookie_name, found, refused, require
from server.models import Refusal

__all__ = ["join_url", "router"]

router = APIRouter(tags=["access"])
Owner = Annotated[Identity, Depends(require("owner"))]


NO_SESSION: dict[int | str, dict[str, Any]] = {
    404: {"model": Refusal, "description": "No token of this role and study."}
}


class Token(BaseModel):
    """What stands after the # of a link."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=200)


class Session(BaseModel):
    """Whose token a browser has."""

    role: Role
    study: str | None = Field(description="The study that it opens; null for an owner, who sees all.")
    name: str
    expires: str | None = Field(description="UTC, ISO 8601; null: never.")


class LinkFacts(BaseModel):
    """What is known of a link: not its token, of which only a hash is kept. Times are UTC in ISO 8601."""

    id: str
    role: Role
    study: str | None
    name: str
    created: str
    expires: str | None
    revoked: str | None
    standing: bool = Field(description="Whether it lets anybody in now.")


class Links(BaseModel):
    links: list[LinkFacts] = Field(description="Oldest first.")


class NewLink(BaseModel):
    """Whom a link is for."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=NAME_LENGTH, description="Answers are stored under it.")
    role: Literal["rater", "program"] = "rater"
    seconds: int | None = Field(None, gt=0, le=10 * YEAR, description="How long it holds; null: until it is revoked.")
    again: bool = Field(False, description="One more link for a rater who has one: the same person to the study.")


class IssuedLink(BaseModel):
    """A new link. Its token cannot be read again."""

    link: LinkFacts
    token: str
    url: str | None = Field(description="What a rater opens; null for programs, which send the token.")


class Pause(BaseModel):
    """Whether slates are handed out."""

    model_config = ConfigDict(extra="forbid")
    paused: bool


def join_url(config: Config, token: str) -> str:
    """A link that signs a browser in. The token stands after the #, so browsers send it to nobody.

    >>> from pathlib import Path
    >>> join_url(Config(Path("runs.db"), port=8000), "bbr_1_x")
    'http://127.0.0.1:8000/join#bbr_1_x'
    """
    return f"{config.origin}/join#{token}"


@router.post("/v1/session")
async def sign_in(body: Token, request: Request, response: Response) -> Session:
    """Keep a token as a cookie that pages cannot read and other sites cannot send."""
    access, config = _parts(request)
    identity = access.identify(body.token)
    if identity is None:
        raise refused(True)
    secure = (request.headers.get("origin") or config.url or "").startswith("https:")
    response.set_cookie(
        cookie_name(config.port, identity.role, identity.study),
        body.token,
        max_age=access.seconds_left(identity),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return _session(identity)


@router.get("/v1/session", responses=NO_SESSION)
async def session(
    request: Request,
    _: Annotated[Identity, Depends(require())],
    role: Role | None = None,
    study: str | None = None,
) -> Session:
    """Whose token came with this request; where a browser has several, that of this role and study, else a rater's first."""
    identity = found(request, "rater", study=study) or found(request, study=study)
    if identity is None:
        raise ApiError(404, "SessionMissing", "expected a role and a study that one of these tokens is for, got others")
    return _session(identity)


@router.delete("/v1/session", status_code=204)
async def sign_out(request: Request, role: Role | None = None, study: str | None = None) -> Response:
    """Forget the tokens of this browser, or those of one role or study. Their links stay; see DELETE on links."""
    _, config = _parts(request)
    presented: Presented = request.scope[SCOPE_KEY]
    names = {name for name in request.cookies if name.startswith(f"bbopt_{config.port}_")}
    if role is not None or study is not None:
        fits = [i for i in presented.identities if role in (None, i.role) and study in (None, i.study)]
        names &= {cookie_name(config.port, identity.role, identity.study) for identity in fits}
    response = Response(status_code=204)
    for name in sorted(names):
        response.delete_cookie(name, path="/", httponly=True, samesite="strict")
    return response


@router.get("/v1/links")
def all_links(request: Request, who: Owner) -> Links:
    """Every link that was ever issued, owners' own too."""
    return _links(_parts(request)[0].links())


@router.delete("/v1/links/{link}", status_code=204)
def revoke(link: str, request: Request, who: Owner) -> Response:
    """End a link, at once, for whoever has it open."""
    _parts(request)[0].revoke(link)
    return Response(status_code=204)


@router.get("/v1/studies/{study}/links")
def links(study: str, request: Request, who: Owner) -> Links:
    """The links of a study, the ended ones too."""
    _must_exist(request, study)
    return _links(_parts(request)[0].links(study))


@router.post("/v1/studies/{study}/links", status_code=201, responses=AGAINST)
def issue(study: str, body: NewLink, request: Request, who: Owner) -> IssuedLink:
    """A link for a rater, or a token for a program. It is shown this once."""
    _must_exist(request, study)
    access, config = _parts(request)
    try:
        link, token = access.issue(body.role, study, body.name, body.seconds, body.again)
    except LinkExists as error:
        raise ApiError(409, "LinkExists", str(error)) from error
    return IssuedLink(link=_facts(link), token=token, url=join_url(config, token) if body.role == "rater" else None)


@router.delete("/v1/studies/{study}/links/{link}", status_code=204)
def revoke_of(study: str, link: str, request: Request, who: Owner) -> Response:
    """End a link of this study, at once, for whoever has it open."""
    _must_exist(request, study)
    access, _ = _parts(request)
    if link not in {known.id for known in access.links(study)}:
        raise LinkMissing(f"expected the id of a link to {study}, got {link!r}; GET the links of the study for theirs")
    access.revoke(link)
    return Response(status_code=204)


@router.post("/v1/studies/{study}/pause")
def pause(study: str, body: Pause, request: Request, who: Owner) -> Pause:
    """Stop handing out slates, or go on. Answers to slates that are out still count."""
    _must_exist(request, study)
    _parts(request)[0].pause(study, body.paused)
    return body


def _parts(request: Request) -> tuple[Access, Config]:
    state: Any = request.app.state
    return state.access, state.config


def _must_exist(request: Request, study: str) -> None:
    """Raises StudyMissing."""
    request.app.state.rooms.definition(study)


def _session(identity: Identity) -> Session:
    return Session(role=identity.role, study=identity.study, name=identity.name, expires=identity.expires)


def _facts(link: Link) -> LinkFacts:
    return LinkFacts(**vars(link))


def _links(links: list[Link]) -> Links:
    return Links(links=[_facts(link) for link in links])
