"""What the owner's page calls: history, agreement between raters, export. Links and pause are in `server.api_access`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from server import export, showing
from server.access import Identity
from server.entry import NO_STUDY, StudyName, entered, room_of, rooms_of
from server.identity import require
from server.models import Agreement, History

router = APIRouter(tags=["owners"])
Owner = Annotated[Identity, Depends(require("owner"))]
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"text/csv": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}},
    },
    **NO_STUDY,
}


@router.get("/v1/studies/{study}/history", response_model=History, responses=NO_STUDY)
async def history(
    request: Request,
    study: StudyName,
    _: Owner,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="The `after` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    """Slates with what everybody answered, newest first, a page at a time."""
    return await showing.history(await entered(request, study), after, limit)


@router.get("/v1/studies/{study}/agreement", response_model=Agreement, responses=NO_STUDY)
def agreement(request: Request, study: StudyName, _: Owner) -> Any:
    """How far raters agree with each other, and with themselves on slates that they saw twice."""
    return room_of(request, study).opt.agreement().to_json()


@router.get("/v1/studies/{study}/export", response_class=Response, responses=FILE)
def exported(
    request: Request,
    study: StudyName,
    _: Owner,
    format: Literal["csv", "json"] = "csv",
    what: Annotated[Literal["trials", "answers"], Query(description="Of a CSV; JSON has both.")] = "trials",
) -> Response:
    """The study as a file."""
    room = room_of(request, study)
    if format == "json":
        text, name = (
            export.everything(room, rooms_of(request).definition(study)),
            export.filename(study, "study", "json"),
        )
    else:
        text = export.trials_csv(room) if what == "trials" else export.answers_csv(room)
        name = export.filename(study, what, "csv")
    kind = "application/json" if format == "json" else "text/csv; charset=utf-8"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type=kind, headers=headers)
