"""What the page of a rater calls: the next slate, its answer, undo, progress, the best so far, and the media."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from server import showing
from server.access import Identity
from server.entry import (
    AGAINST,
    NO_STUDY,
    ItemId,
    SlateId,
    StudyName,
    entered,
    in_turn,
    item_at,
    owners_place,
    slate_at,
)
from server.errors import ApiError
from server.identity import found, require
from server.ids import Place
from server.media import response as media_response
from server.models import Answer, Best, Health, Lease, Next, Progress, Receipt, Refusal, Undo, Undone
from server.rendering import KINDS
from server.rooms import Room
from server.service import (
    RETRY_SECONDS,
    Shown,
    Submission,
    Why,
    heartbeat,
    iso,
    next_asked,
    next_known,
    progress,
    undo,
    undo_for_owner,
)
from server.writer import SECONDS

router = APIRouter(tags=["people"])
Rater = Annotated[Identity, Depends(require("rater"))]
Anyone = Annotated[Identity, Depends(require("rater", "owner", "program"))]

PATIENCE = 5.0  # seconds in line for the strategy, before a page is told to come again
NO_SLATE: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "No such slate, for this token."}}
MEDIA: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture, sound, text or page.", "content": {kind: {} for kind in KINDS}},
    206: {"description": "The part that Range names.", "content": {kind: {} for kind in KINDS}},
    304: {"description": "The browser has it."},
    404: {"model": Refusal, "description": "No such item, for this token."},
    416: {"description": "Range lies outside."},
}


@router.get("/healthz")
async def health() -> Health:
    """Whether the server is up. Needs no token."""
    return Health(ok=True)


@router.get("/v1/studies/{study}/next", response_model=Next, responses={**NO_STUDY, **AGAINST})
async def next_slate(request: Request, study: StudyName, rater: Rater) -> Any:
    """The slate that this rater should rank now.

    The same one until it is answered. Where there is none, `why` says whether to come again (waiting, paused) or that
    the rater is done (finished).
    """
    room = await entered(request, study)

    def known(choose: Callable[[Room, str], Shown | Why | None]) -> tuple[Any, Any, Any]:
        """In one thread: what is shown, its rows, and the progress."""
        found = choose(room, rater.name)
        places = showing.look_up(room, rater.name, found) if isinstance(found, Shown) else None
        return found, places, progress(room, rater.name)

    found, places, far = await run_in_threadpool(known, next_known)
    if found is None:
        found, places, far = await in_turn(room, lambda: known(next_asked), PATIENCE, ("waiting", None, far))
    return {
        "slate": await showing.slate(room, rater.name, found, places) if places is not None else None,
        "why": None if places is not None else found,
        "retry_seconds": RETRY_SECONDS,
        "progress": far,
    }


@router.put("/v1/slates/{slate}/answer", response_model=Receipt, responses={**NO_SLATE, **AGAINST})
async def answer(request: Request, slate: SlateId, body: Answer, _: Rater) -> Any:
    """Record an answer; it is on the disk when this returns.

    Idempotent: the same answer again gives the same receipt. A correction has a larger revision; 409 tells what is stored
    where the revision is an old one, where later answers build on the stored one, or where the slate was taken back.
    """
    room, rater, place = await slate_at(request, slate, "rater")
    done = asyncio.wrap_future(room.writer.submit(Submission(room, rater.name, place, body)))
    try:  # shielded: a reader who leaves does not end what is on its way to the disk
        return await asyncio.wait_for(asyncio.shield(done), SECONDS)
    except TimeoutError:
        raise ApiError(503, "Slow", "the store could not be written in time; send the same again, it is recorded once",
                       headers={"Retry-After": "5"}) from None  # fmt: skip


@router.post("/v1/slates/{slate}/heartbeat", response_model=Lease, responses=NO_SLATE)
async def alive(request: Request, slate: SlateId, _: Rater) -> Any:
    """The rater is still at this slate: it is not given to somebody else for a while."""
    room, rater, place = await slate_at(request, slate, "rater")
    return {"lease_expires": iso(await run_in_threadpool(heartbeat, room, rater.name, place))}


@router.post("/v1/studies/{study}/undo", response_model=Undone, responses={**NO_STUDY, **AGAINST})
async def take_back(
    request: Request,
    study: StudyName,
    body: Undo,
    _: Annotated[Identity, Depends(require("rater", "owner"))],
    cascade: Annotated[bool, Query(description="For owners: take answers that build on it back first.")] = False,
) -> Any:
    """Take an answer back, by default the last one of this rater. The search goes back to where it was before it.

    409 where later answers build on it. Open slates that build on it are cancelled.
    """
    room = await entered(request, study)
    rater, owner = found(request, "rater", study=study), found(request, "owner", study=study)
    mine = room.ids.open("slate", room.name, rater.name, body.slate) if rater and body.slate else None
    as_owner = cascade or body.rater is not None or (body.slate is not None and mine is None)
    if owner is not None and (rater is None or as_owner):  # one browser may be both
        place = None if body.slate is None else owners_place(room, body.slate)
        count = await run_in_threadpool(undo_for_owner, room, place, body.rater, cascade)
        return {"slate": None, "undone": count}
    if cascade or body.rater is not None:
        raise ApiError(403, "WrongRole", "cascade and rater are for owners; take your later answers back one by one")
    if rater is None or (body.slate is not None and mine is None):
        raise ApiError(404, "UnknownSlate", "expected the id of a slate that this token was given, got another")
    name = rater.name

    def back() -> tuple[Shown, int, list[Place]]:
        shown, count = undo(room, name, mine)
        return shown, count, showing.look_up(room, name, shown)

    shown, count, places = await run_in_threadpool(back)
    return {"slate": await showing.slate(room, name, shown, places), "undone": count}


@router.get("/v1/studies/{study}/progress", response_model=Progress, responses=NO_STUDY)
async def how_far(request: Request, study: StudyName, who: Anyone) -> Any:
    """How far the study is; for a rater, their own part of it too."""
    room = await entered(request, study)
    return await run_in_threadpool(progress, room, who.name if who.role == "rater" else None)


@router.get("/v1/studies/{study}/best", response_model=Best, responses=NO_STUDY)
async def best(request: Request, study: StudyName, who: Anyone) -> Any:
    """The best so far and the winners of earlier rounds. Null before any answer, and for several objectives."""
    return await showing.best(await entered(request, study), who)


@router.get("/v1/items/{item}", response_class=Response, responses=MEDIA)
async def item(request: Request, item: ItemId, _: Anyone) -> Response:
    """The picture, sound, text or page of an item: for raters, of those that they were shown."""
    room, _who, place = await item_at(request, item, "rater", "owner", "program")
    point = room.point_known(place)
    number, params = point if point is not None else await run_in_threadpool(room.point, place)
    return media_response(await room.media.fetch(number, params), request)
