"""Who is asking: the token of a request, from `Authorization: Bearer` or from a cookie, and what it opens.

The cookie holds the token itself, so that there is one thing to revoke and nothing more to store; pages cannot read it
(HttpOnly) and other sites cannot send it (SameSite=Strict). There is one for every role and study, since an owner may rate in
the same browser, and the port is a part of its name, since browsers do not tell the servers of one host apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from server.access import Access, Identity, Role
from server.errors import ApiError

__all__ = ["Presented", "cookie_name", "found", "present", "require"]

COOKIES = 8  # that one request may have looked up
SCOPE_KEY = "bbopt.presented"

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of an owner, a program or a rater. Browsers send it as a cookie instead, see POST /v1/session; "
    "where one has several, ?role=rater or ?role=owner in any address picks.",
)


class Presented:
    """The tokens that came with a request: whether there were any, by which way, and whose they are."""

    def __init__(self, identities: tuple[Identity, ...], any_token: bool, by_cookie: bool) -> None:
        self.identities = identities
        self.any_token = any_token
        self.by_cookie = by_cookie


def cookie_name(port: int, role: Role, study: str | None) -> str:
    """The cookie of one role in one study, for the server at one port.

    >>> cookie_name(8000, "owner", None), cookie_name(8000, "rater", "sunset")
    ('bbopt_8000_owner', 'bbopt_8000_rater_0829103205fb')
    """
    key = "" if study is None else "_" + hashlib.sha256(study.encode()).hexdigest()[:12]
    return f"bbopt_{port}_{role}{key}"


def present(headers: Headers, access: Access, port: int) -> Presented:
    """Whose tokens these headers carry. With an Authorization header, cookies are not looked at."""
    given = headers.getlist("authorization")
    if given:
        scheme, _, token = given[0].partition(" ")
        valid = len(given) == 1 and scheme.lower() == "bearer"
        identity = access.identify(token.strip()) if valid else None
        return Presented((identity,) if identity else (), True, False)
    cookies = cookie_parser("; ".join(headers.getlist("cookie")))
    ours = [(name, token) for name, token in cookies.items() if name.startswith(f"bbopt_{port}_")][:COOKIES]
    identities = []
    for name, token in ours:
        identity = access.identify(token)
        if identity is not None and name == cookie_name(port, identity.role, identity.study):
            identities.append(identity)
    return Presented(tuple(sorted(identities, key=lambda identity: identity.role)), bool(ours), bool(ours))


def found(request: Request, *roles: Role, study: str | None = None) -> Identity | None:
    """Who is asking, in one of these roles (none given: any), with access to this study (None: to some); None: nobody.

    A browser may have several tokens: with `?role=rater` in the address only those of that role count, else owners' come first.
    """
    presented: Presented = request.scope[SCOPE_KEY]
    wanted = request.query_params.get("role")
    for identity in presented.identities:
        if wanted is not None and identity.role != wanted:
            continue
        if (not roles or identity.role in roles) and (study is None or identity.study in (None, study)):
            return identity
    return None


def require(*roles: Role) -> Callable[..., Awaitable[Identity]]:
    """A dependency that gives who is asking, in one of these roles (none given: any).

    A `study` in the path must be one that the token opens: for raters and programs, others do not exist. Raises ApiError: 401
    without a valid token, 403 in another role, 404 for another study.
    """

    async def who(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
    ) -> Identity:
        presented: Presented = request.scope[SCOPE_KEY]
        if not presented.identities:
            raise refused(presented.any_token)
        if found(request, *roles) is None:
            has = tuple(dict.fromkeys(identity.role for identity in presented.identities))
            wanted = roles or (request.query_params.get("role", ""),)
            raise ApiError(403, "WrongRole", f"expected the token of {_one_of(wanted)}, got that of {_one_of(has)}")
        study: Any = request.path_params.get("study")
        identity = found(request, *roles, study=study)
        if identity is None:
            raise ApiError(404, "StudyMissing", f"expected a study that this token opens, got {study!r}")
        return identity

    return who


def refused(any_token: bool) -> ApiError:
    """401, for a token that is none, or for none at all."""
    challenge = {"WWW-Authenticate": "Bearer"}
    if any_token:
        message = "expected a token that holds, got one that is unknown, has expired or was revoked; ask for a new link"
        return ApiError(401, "TokenRefused", message, headers=challenge)
    message = "expected a token (Authorization: Bearer TOKEN), got none; open the link that you were given, or use its part after #"
    return ApiError(401, "TokenMissing", message, headers=challenge)


def _one_of(roles: tuple[str, ...]) -> str:
    return " or ".join(f"an {role[:20]}" if role == "owner" else f"a {role[:20]}" for role in roles)
