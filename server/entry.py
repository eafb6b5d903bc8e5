"""What endpoints begin with: from a request to the room, the place and the person that it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

import bbopt
from server.access import Identity, Role
from server.errors import ApiError
from server.identity import SCOPE_KEY, Presented
from server.ids import PATTERN, Place
from server.models import Refusal
from server.rooms import Room, Rooms
from server.showing import ALL, viewer_of

SlateId = Annotated[str, Path(pattern=PATTERN, description="Of a slate, as `next` gave it.")]
ItemId = Annotated[str, Path(pattern=PATTERN, description="Of an item.")]
StudyName = Annotated[str, Path(min_length=1, max_length=150, description="Name of a study.")]

NO_STUDY: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "No such study, for this token."}}
AGAINST: dict[int | str, dict[str, Any]] = {409: {"model": Refusal, "description": "What is stored stands against it."}}


def rooms_of(request: Request) -> Rooms:
    rooms: Rooms = request.app.state.rooms
    return rooms


def room_of(request: Request, study: str) -> Room:
    """The room of a study; opening it may take seconds, so this is for threads."""
    return rooms_of(request).get(study)


async def entered(request: Request, study: str) -> Room:
    """The same, for coroutines."""
    rooms = rooms_of(request)
    room = rooms.opened(study)
    return room if room is not None else await run_in_threadpool(rooms.get, study)


async def in_turn(room: Room, work: Callable[[], Any], patience: float | None, instead: Any = None) -> Any:
    """Run what may wait for the study's strategy in one of the few threads that do; `instead` after `patience` seconds in
    line, None: no end."""
    result: Any = instead
    with anyio.move_on_after(patience):
        result = await anyio.to_thread.run_sync(work, limiter=room.askers)
    return result


async def slate_at(request: Request, slate: str, *roles: Role) -> tuple[Room, Identity, Place]:
    """The slate of an id, for whichever of this request's tokens it was made. Raises ApiError 404."""
    return await _at(request, "slate", slate, roles)


async def item_at(request: Request, item: str, *roles: Role) -> tuple[Room, Identity, Place]:
    """The item of an id, in the same way. Raises ApiError 404."""
    return await _at(request, "item", item, roles)


async def _at(request: Request, kind: str, name: str, roles: tuple[Role, ...]) -> tuple[Room, Identity, Place]:
    presented: Presented = request.scope[SCOPE_KEY]
    rooms = rooms_of(request)
    for identity in presented.identities:
        if identity.role not in roles:
            continue
        studies = [identity.study] if identity.study is not None else await run_in_threadpool(rooms.names)
        for study in studies:
            place = rooms.ids.open(kind, study, viewer_of(identity), name)
            if place is not None:
                return await entered(request, study), identity, place
    hint = "get the next slate" if kind == "slate" else "only what you were shown can be fetched"
    raise ApiError(
        404,
        f"Unknown{kind.capitalize()}",
        f"expected the id of a {kind} that this token was given, got another; {hint}",
    )


def owners_place(room: Room, slate: str) -> Place:
    """The slate of an id in the history. Raises ApiError 404."""
    place = room.ids.open("slate", room.name, ALL, slate)
    if place is None:
        raise ApiError(404, "UnknownSlate", "expected the id of a slate from this study's history, got another")
    return place


def check_goes_on(room: Room) -> None:
    """Raises ApiError where the owner has paused the study."""
    if room.paused:
        raise ApiError(
            409, "Paused", f"the study {room.name!r} is paused by its owner; ask again later, answers are taken"
        )


def with_attempt(number: int, attempt: int | None) -> bbopt.Trial | int:
    """A trial as the core's tell and fail take it: with the attempt where the program said which."""
    return number if attempt is None else bbopt.Trial(number, {}, attempt=attempt)
