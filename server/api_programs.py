"""What programs call: ask, tell, fail, rank, and what the study knows; a worker in any language that speaks HTTP can do it.

The calls are those of `bbopt.Optimizer`, with its words and its meaning: telling the same result twice is a no-op, a lost
trial goes out again, a trial's number never changes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool

import bbopt
from server.access import Identity
from server.entry import AGAINST, NO_STUDY, StudyName, check_goes_on, entered, in_turn, room_of, rooms_of, with_attempt
from server.errors import ApiError
from server.identity import require
from server.models import (
    MOST,
    Ask,
    Cancel,
    Enqueue,
    Fail,
    NewStudy,
    OneTrial,
    Rank,
    Studies,
    Study,
    Tell,
    TrialPage,
    Trials,
)
from server.rooms import Room, Rooms
from server.service import progress

router = APIRouter(tags=["programs"])
Program = Annotated[Identity, Depends(require("program", "owner"))]
Owner = Annotated[Identity, Depends(require("owner"))]
Status = Annotated[str | None, Query(pattern="^(queued|open|ok|lost|impossible|cancelled|ranked)$")]

LOOKED = 5_000  # trials that one page with a status looks through
LARGEST = 1_000_000  # numbers in a point of a study that is made over HTTP
KEYS = 10_000  # idempotency keys that are remembered


class Keys:
    """Answers by idempotency key, so that a repeated ask gets the same trials; a repetition that is early waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, ...], Future[Any]] = OrderedDict()

    def once(self, key: tuple[str, ...], work: Any) -> Any:
        """The result of `work` for this key, computed once; an error is not remembered."""
        with self._lock:
            future = self._known.get(key)
            first = future is None
            if future is None:
                future = self._known[key] = Future()
                while len(self._known) > KEYS:
                    self._known.popitem(last=False)
        if first:
            try:
                future.set_result(work())
            except BaseException as error:
                with self._lock:
                    self._known.pop(key, None)
                future.set_exception(error)
        return future.result()


# -- studies -----------------------------------------------------------------------------------------------------------


def _line(rooms: Rooms, name: str) -> dict[str, Any]:
    room, strategy = rooms.get(name), rooms.definition(name)["strategy"]
    return {
        "name": name,
        "feedback": room.opt.task.feedback,
        "strategy": strategy.get("name") or strategy["class"],
        "answers": len(room.opt.rankings()),
        "trials": sum(room.opt.statuses().values()),
        "paused": room.paused,
    }


def _study(rooms: Rooms, room: Room) -> dict[str, Any]:
    opt = room.opt
    return {
        **_line(rooms, room.name),
        "task": opt.task.to_json(),
        "reason": opt.reason,
        "seed": opt.seed,
        "budget": opt.budget,
        "quorum": opt.quorum,
        "statuses": opt.statuses(),
        "progress": progress(room, None),
    }


@router.get("/v1/studies", response_model=Studies)
def studies(request: Request, who: Program) -> Any:
    """The studies that this token opens. One whose strategy's code is not on the server is left out."""
    rooms, found = rooms_of(request), []
    for name in rooms.names():
        if who.study in (None, name):
            try:
                found.append(_line(rooms, name))
            except ApiError:
                continue
    return {"studies": found}


@router.post("/v1/studies", status_code=201, response_model=Study, responses=AGAINST)
def create(request: Request, body: NewStudy, _: Owner) -> Any:
    """Make a study in the store."""
    task = bbopt.Task.from_json(_small(body.task))
    rooms = rooms_of(request)
    room = rooms.create(body.name, task, strategy=body.strategy, seed=body.seed, budget=body.budget, quorum=body.quorum)
    return _study(rooms, room)


def _small(task: dict[str, Any]) -> dict[str, Any]:
    """The same task, unless its points are too long for JSON. Raises ApiError before anything of that size is made."""
    space = task.get("space")
    size = 0
    for parameter in space.values() if isinstance(space, dict) else ():
        shape = parameter.get("shape") if isinstance(parameter, dict) else None
        numbers = 1
        for length in shape if isinstance(shape, list) else [shape]:
            numbers *= length if isinstance(length, int) and length > 0 else 1
        size += numbers
    if size > LARGEST:
        raise ApiError(
            422, "TooLarge", f"expected points of at most {LARGEST} numbers, got {size}; make it from Python"
        )
    return task


@router.get("/v1/studies/{study}", response_model=Study, responses=NO_STUDY)
def show(request: Request, study: StudyName, _: Program) -> Any:
    """A study: its task, its strategy, and how far it is."""
    return _study(rooms_of(request), room_of(request, study))


# -- asking ------------------------------------------------------------------------------------------------------------


@router.post("/v1/studies/{study}/ask", response_model=Trials, responses={**NO_STUDY, **AGAINST})
async def ask(
    request: Request,
    study: StudyName,
    body: Ask,
    who: Program,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", min_length=1, max_length=200, description="The same key gets the same trials, as long as the server runs."),
    ] = None,
) -> Any:  # fmt: skip
    """Points to evaluate. 409 Waiting: open trials must be answered first; Exhausted: none are left; Paused."""
    room = await entered(request, study)

    def work() -> list[int]:
        check_goes_on(room)
        trials = room.opt.ask(body.count, fewer=body.fewer, fixed=body.fixed, context=body.context, lease=body.lease,
                              deadline=body.deadline, owner=body.owner or f"{who.role}:{who.name}")  # fmt: skip
        return [trial.number for trial in trials]

    def trials() -> dict[str, Any]:
        numbers = work() if key is None else request.app.state.keys.once((room.name, who.link_id, key), work)
        return {"trials": [room.opt.trial(number).to_json() for number in numbers]}

    return await in_turn(room, trials, None)


@router.post("/v1/studies/{study}/enqueue", status_code=201, response_model=OneTrial, responses=NO_STUDY)
def enqueue(request: Request, study: StudyName, body: Enqueue, _: Program) -> Any:
    """Put a point in front: the next ask hands it out."""
    return _trial(room_of(request, study).opt.enqueue(body.params))


@router.post("/v1/studies/{study}/cancel", response_model=OneTrial, responses={**NO_STUDY, **AGAINST})
def cancel(request: Request, study: StudyName, body: Cancel, _: Program) -> Any:
    """Take an open or queued trial out: nobody will answer it."""
    opt = room_of(request, study).opt
    opt.cancel(body.number)
    return _trial(opt.trial(body.number))


def _trial(trial: bbopt.Trial) -> dict[str, Any]:
    return {"trial": trial.to_json()}


# -- telling -----------------------------------------------------------------------------------------------------------


@router.post("/v1/studies/{study}/tell", response_model=OneTrial, responses={**NO_STUDY, **AGAINST})
def tell(request: Request, study: StudyName, body: Tell, _: Program) -> Any:
    """Record a result; it is on the disk when this returns. The same result again is a no-op, another one is 409."""
    opt = room_of(request, study).opt
    opt.tell(with_attempt(body.number, body.attempt), body.values, std=body.std, cost=body.cost, gradient=body.gradient)
    return _trial(opt.trial(body.number))


@router.post("/v1/studies/{study}/fail", response_model=OneTrial, responses={**NO_STUDY, **AGAINST})
def fail(request: Request, study: StudyName, body: Fail, _: Program) -> Any:
    """Record that a trial has no result: lost, it goes out again; or impossible, this point cannot work."""
    opt = room_of(request, study).opt
    opt.fail(with_attempt(body.number, body.attempt), body.reason, impossible=body.impossible)
    return _trial(opt.trial(body.number))


@router.post("/v1/studies/{study}/rank", response_model=Trials, responses={**NO_STUDY, **AGAINST})
async def rank(request: Request, study: StudyName, body: Rank, who: Program) -> Any:
    """Record an order of the trials of one query, best first. The same again is a no-op, another one of this rater is 409."""
    room = await entered(request, study)

    def work() -> None:
        room.opt.rank(
            body.order,
            unseen=body.unseen,
            rater=body.rater,
            verdict=body.verdict,
            details={"by": f"{who.role}:{who.name}"},
        )

    def trials() -> dict[str, Any]:
        room.writer.wait(work)
        named = [number for group in body.order for number in group] + body.unseen
        return {"trials": [room.opt.trial(number).to_json() for number in sorted(named)]}

    return await run_in_threadpool(trials)


# -- looking -----------------------------------------------------------------------------------------------------------


@router.get("/v1/studies/{study}/trials", response_model=TrialPage, responses=NO_STUDY)
def trials(
    request: Request,
    study: StudyName,
    _: Program,
    after: Annotated[int, Query(ge=-1, le=2**53, description="The `after` of the page before; -1 to begin.")] = -1,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    status: Status = None,
) -> Any:
    """Trials by number, a page at a time."""
    opt = room_of(request, study).opt
    total, number = sum(opt.statuses().values()), after
    found: list[dict[str, Any]] = []
    last = min(total - 1, after + (limit if status is None else LOOKED))
    while number < last and len(found) < limit:
        number += 1
        trial = opt.trial(number)
        if status is None or trial.status == status:
            found.append(trial.to_json())
    return {"trials": found, "after": number if number < total - 1 else None}


@router.get("/v1/studies/{study}/trials/{number}", response_model=OneTrial, responses=NO_STUDY)
def trial(request: Request, study: StudyName, number: int, _: Program) -> Any:
    """One trial."""
    return _trial(room_of(request, study).opt.trial(number))
