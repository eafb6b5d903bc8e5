"""Slates, points and answers as JSON: what a viewer sees of them, with the viewer's own opaque ids.

A viewer is a rater's name, or "/owner" for those who see everything (no rater's name has a slash).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from server.access import Identity
from server.best import Favourite
from server.ids import Place
from server.ledger import BEST, FIRST, Ledger, person, phase_of
from server.rooms import Room
from server.service import Shown, iso, slate_id, stored_answer

ALL = "/owner"


def viewer_of(identity: Identity) -> str:
    """Under whose ids somebody sees things."""
    return identity.name if identity.role == "rater" else ALL


async def items(room: Room, viewer: str, places: Sequence[Place]) -> list[dict[str, Any]]:
    """Points as they are shown. Renders those that were not rendered yet, without holding a thread."""
    known = [room.point_known(place) for place in places]
    if None in known:
        points: Sequence[Any] = await run_in_threadpool(lambda: [room.point(place) for place in places])
    else:
        points = known
    renderings = await asyncio.gather(*(room.media.fetch(number, params) for number, params in points))
    ids = [room.ids.seal("item", room.name, viewer, place) for place in places]
    return [
        {
            "id": name,
            "url": f"/v1/items/{name}",
            "media_type": rendering.media_type,
            "kind": rendering.kind,
            "alt": rendering.alt,
        }
        for name, rendering in zip(ids, renderings, strict=True)
    ]


def places_of(room: Room, rater: str, at: Place) -> list[Place]:
    """The rows of a slate in the rater's order: a random one, which stays the same."""
    size = len(room.slate(at.query).numbers)
    return [Place(at.query, row, at.look) for row in room.ids.shuffled(size, room.name, at.query, rater, at.look)]


def look_up(room: Room, rater: str, shown: Shown) -> list[Place]:
    """What `slate` will need of the study: for the thread in which the slate was chosen, so that nothing waits later."""
    places = places_of(room, rater, shown.place)
    for place in places:
        room.point(place)
    return places


async def slate(room: Room, rater: str, shown: Shown, places: Sequence[Place]) -> dict[str, Any]:
    """A slate as its rater sees it."""
    at = shown.place

    def item(row: int) -> str:
        return room.ids.seal("item", room.name, rater, Place(at.query, row, at.look))

    return {
        "id": slate_id(room, rater, at),
        "items": await items(room, rater, places),
        "lease_expires": iso(shown.expires),
        "revision": shown.revision,
        "draft": None if shown.draft is None else [[item(row) for row in group] for group in shown.draft],
    }


async def best(room: Room, identity: Identity) -> dict[str, Any]:
    """The best point and those of earlier rounds; raters see them, others may also read them."""
    viewer = viewer_of(identity)

    def look() -> tuple[Favourite, list[Place], dict[str, Any]]:
        if room.opt.task.m > 1:
            return Favourite(None, ()), [], {}
        found = room.favourites.now()
        places = [room.place(number, BEST) for number in (found.best, *found.earlier) if number is not None]
        if found.best is None or identity.role == "rater":
            return found, places, {}
        trial = room.opt.trial(found.best).to_json()
        return (
            found,
            places,
            {"number": found.best, "params": {**trial["params"], **trial["context"]}, "values": trial["values"]},
        )

    found, places, known = await run_in_threadpool(look)
    shown = await items(room, viewer, places)
    if found.best is None:
        return {"best": None, "earlier": []}
    nothing = {"number": None, "params": None, "values": None}
    return {"best": {"item": shown[0], **nothing, **known}, "earlier": shown[1:]}


async def history(room: Room, after: int | None, limit: int) -> dict[str, Any]:
    """Slates with their answers, newest first; `after` is the end of the page before."""
    ledger: Ledger = await run_in_threadpool(room.ledger)
    queries = [
        slate.query for slate in (ledger.slates if after is None else ledger.slates[:after]) if len(slate.numbers) > 1
    ]
    page = queries[::-1][:limit]
    answers: dict[int, list[dict[str, Any]]] = {query: [] for query in page}
    for answer in ledger.answers:
        if answer.query in answers:
            answers[answer.query].append(_answer(room, answer))
    slates = []
    for query in page:
        slate = ledger.slates[query]
        places = [Place(query, row, FIRST) for row in range(len(slate.numbers))]
        shown = await items(room, ALL, places)
        slates.append({
            "slate": slate_id(room, ALL, Place(query)),
            "query": query,
            "first": slate.numbers[0],
            "size": len(slate.numbers),
            "phase": phase_of(slate),
            "asked": slate.asked,
            "owner": slate.owner,
            "quorum": slate.quorum,
            "closed": slate.answered,
            "cancelled": slate.cancelled,
            "items": [{**item, "number": number} for item, number in zip(shown, slate.numbers, strict=True)],
            "answers": answers[query],
        })  # fmt: skip
    return {"slates": slates, "after": page[-1] if len(queries) > len(page) else None}


def _answer(room: Room, answer: Any) -> dict[str, Any]:
    """An answer in the owner's ids: those of the first look, so that repeats can be compared."""
    elapsed = answer.details.get("elapsed_ms")
    rater, look = person(answer.rater)
    return {
        **stored_answer(room, ALL, answer, FIRST),
        "rater": rater,
        "repeat": look != FIRST,
        "elapsed_ms": elapsed if isinstance(elapsed, int) else None,
        "applied": answer.applied,
    }
