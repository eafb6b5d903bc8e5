"""What travels as JSON: requests are strict (no unknown fields, no conversions, bounded sizes), responses are complete.

These models are the OpenAPI description's schemas. Times are UTC in ISO 8601; ids of slates and items are opaque.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.ids import PATTERN

Id = Annotated[str, Field(pattern=PATTERN, description="Opaque: 24 letters, digits, - or _.")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Text = Annotated[str, Field(max_length=2000)]
Number = Annotated[int, Field(ge=0, le=2**53, description="Of a trial.")]
Real = Annotated[float, Field(allow_inf_nan=False)]
Values = Annotated[dict[Name, Real], Field(max_length=1000)] | Real
Groups = Annotated[list[Annotated[list[Id], Field(max_length=1000)]], Field(max_length=1000)]
NumberGroups = Annotated[list[Annotated[list[Number], Field(max_length=1000)]], Field(max_length=1000)]
MOST = 500  # rows of one page


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def shown(*examples: dict[str, Any]) -> ConfigDict:
    """The configuration of a request with examples in the description."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": list(examples)})


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


# -- refusals ----------------------------------------------------------------------------------------------------------


class Reason(Reply):
    kind: str = Field(description="A word for programs.", examples=["UnknownTrial"])
    message: str = Field(description="What was expected, what came, what to do.")


class Stored(Reply):
    """The answer that the server has for a slate."""

    groups: list[list[str]]
    unseen: list[str]
    verdict: str | None
    revision: int
    withdrawn: bool = Field(description="Whether it was taken back.")
    recorded: str


class Refusal(BaseModel):
    """The body of every 4xx and 5xx."""

    error: Reason
    stored: Stored | None = Field(None, description="With 409 for an answer: the one that is stored.")


# -- people ------------------------------------------------------------------------------------------------------------


class Item(Reply):
    id: Id
    url: str = Field(examples=["/v1/items/AAAAAAAAAAAAAAAAAAAAAAAA"])
    media_type: str = Field(examples=["image/png"])
    kind: Literal["image", "audio", "text", "html", "table"]
    alt: str


class Slate(Reply):
    id: Id
    items: list[Item] = Field(description="In a random order that stays the same for this rater and slate.")
    lease_expires: str
    revision: int = Field(
        description="The last one stored for it, 0 if there is none; the next answer needs a larger one."
    )
    draft: list[list[str]] | None = Field(description="Groups of the answer that was taken back, as a start.")


class Progress(Reply):
    answers: int = Field(description="Of this rater, repeats included; of all for an owner or a program.")
    answers_all: int
    round: int = Field(description="From 1.")
    tie_rate: float | None = Field(description="Share of this rater's judged pairs that were tied.")
    raters: int = Field(description="People who have answered.")
    open_slates: int
    goal: int | None = Field(description="Answers after which a rater is done.")


class Next(Reply):
    slate: Slate | None
    why: Literal["waiting", "paused", "finished"] | None
    retry_seconds: int
    progress: Progress


class Answer(Request):
    """Without a verdict, `groups` and `unseen` name every item exactly once; with one, both are empty."""

    model_config = shown(
        {
            "groups": [["AAAAAAAAAAAAAAAAAAAAAAAA"], ["BBBBBBBBBBBBBBBBBBBBBBBB", "CCCCCCCCCCCCCCCCCCCCCCCC"]],
            "revision": 1,
            "elapsed_ms": 5300,
        },
        {"verdict": "cannot tell", "revision": 1},
    )

    groups: Groups = Field([], description="Best first; the items of one group are tied.")
    unseen: Annotated[list[Id], Field(max_length=1000)] = Field([], description="Not looked at: no information.")
    verdict: Literal["all bad", "cannot tell", "skip", "broken"] | None = None
    revision: int = Field(ge=1, le=2**31, description="1 for the first answer to a slate; larger for a correction.")
    elapsed_ms: int | None = Field(None, ge=0, le=2**53)


class Receipt(Reply):
    receipt: str
    slate: Id
    revision: int
    recorded: str
    applied: bool = Field(description="False for an answer that came late: recorded, without effect on the search.")
    progress: Progress


class Undo(Request):
    model_config = shown({})
    slate: Id | None = Field(None, description="Default: that of the last standing answer.")
    rater: Name | None = Field(None, description="For owners: whose answer; default: everybody's to this slate.")


class Undone(Reply):
    slate: Slate | None = Field(description="With the old answer as a draft; null for owners.")
    undone: int = Field(description="Answers that were taken back.")


class Lease(Reply):
    lease_expires: str


class BestItem(Reply):
    item: Item
    number: int | None = Field(None, description="Of the trial; null for raters.")
    params: dict[str, Any] | None = Field(None, description="Null for raters.")
    values: dict[str, float] | None = Field(None, description="As told; null before, and for raters.")


class Best(Reply):
    best: BestItem | None
    earlier: list[Item] = Field(description="Winners of earlier rounds, newest first.")


# -- programs ----------------------------------------------------------------------------------------------------------


class Health(Reply):
    ok: bool


class StudyLine(Reply):
    name: str
    feedback: Literal["ranking", "values"]
    strategy: str
    answers: int
    trials: int
    paused: bool


class Studies(Reply):
    studies: list[StudyLine]


class Study(StudyLine):
    task: dict[str, Any] = Field(description="As POST /v1/studies takes it.")
    reason: str = Field(description="Why this strategy.")
    seed: int
    budget: int | None
    quorum: int
    statuses: dict[str, int] = Field(description="Trials by status.")
    progress: Progress


class NewStudy(Request):
    model_config = shown(
        {
            "name": "vessel",
            "task": {"space": {"x": {"type": "Float", "low": 0, "high": 1}}, "objectives": [{"name": "cost"}]},
            "strategy": "auto",
        }
    )
    name: Name
    task: dict[str, Any] = Field(
        description="Space, objectives, constraints, where, feedback, as bbopt's Task.to_json gives them.",
    )
    strategy: Name = "auto"
    seed: int = Field(0, ge=0, le=2**53)
    budget: int | None = Field(None, ge=1, le=2**53)
    quorum: int = Field(1, ge=1, le=1000)


class Trial(Reply):
    number: int
    params: dict[str, Any]
    attempt: int
    status: Literal["queued", "open", "ok", "lost", "impossible", "cancelled", "ranked"]
    context: dict[str, Any]
    values: dict[str, float] | None
    std: dict[str, float]
    cost: float | None
    gradient: dict[str, dict[str, Any]]
    feasible: bool | None
    owner: str
    reason: str
    seconds: float | None
    note: str
    query: int


class OneTrial(Reply):
    trial: Trial


class Trials(Reply):
    trials: list[Trial]


class TrialPage(Trials):
    after: int | None = Field(description="For the next page; null at the end. A page may be short where few match.")


class Ask(Request):
    model_config = shown({"count": 2}, {"count": 4, "fewer": True, "lease": 3600.0})
    count: int = Field(1, ge=1, le=MOST)
    fewer: bool = Field(False, description="Take what there is, at least one.")
    fixed: Annotated[dict[Name, Any], Field(max_length=1000)] = Field({}, description="Values that these trials keep.")
    context: Annotated[dict[Name, Any], Field(max_length=1000)] = Field({}, description="Of the context parameters.")
    lease: float | None = Field(None, gt=0, le=1e9, description="Seconds after which an open trial goes out again.")
    deadline: float | None = Field(
        None, gt=0, le=1e9, description="Seconds that the choice may take; the note says what was left out."
    )
    owner: Name | None = Field(None, description="Who works on them; default: the program's name.")


class Tell(Request):
    model_config = shown(
        {"number": 0, "values": {"cost": 3.1}}, {"number": 0, "values": 3.1, "std": 0.1, "cost": 12.5, "attempt": 1}
    )
    number: Number
    values: Values = Field(description="By metric; a bare number for a single one.")
    std: Values | None = Field(None, description="Standard errors.")
    cost: Real | None = None
    gradient: Annotated[dict[Name, Any], Field(max_length=1000)] | None = Field(
        None, description="Derivatives by parameter, or by metric and parameter."
    )
    attempt: int | None = Field(None, ge=1, le=2**31)


class Fail(Request):
    model_config = shown({"number": 0, "reason": "the mesh did not close", "impossible": True})
    number: Number
    reason: Text = ""
    impossible: bool = False
    attempt: int | None = Field(None, ge=1, le=2**31)


class Rank(Request):
    model_config = shown({"order": [[2], [0, 1]], "unseen": [3], "rater": "metric"})
    order: NumberGroups = Field(description="Best first; the trials of one group are tied. Unlisted ones are worse.")
    unseen: Annotated[list[Number], Field(max_length=1000)] = []
    rater: Annotated[str, Field(max_length=100)] = ""
    verdict: Literal["all bad", "cannot tell"] | None = None


class Enqueue(Request):
    model_config = shown({"params": {"x": 0.5}})
    params: Annotated[dict[Name, Any], Field(max_length=1000)]


class Cancel(Request):
    model_config = shown({"number": 0})
    number: Number


# -- owners ------------------------------------------------------------------------------------------------------------


class HistoryItem(Item):
    number: int


class HistoryAnswer(Reply):
    rater: str
    repeat: bool = Field(description="A second look at a slate that was answered before.")
    groups: list[list[str]]
    unseen: list[str]
    verdict: str | None
    recorded: str
    elapsed_ms: int | None
    revision: int
    applied: bool
    withdrawn: bool


class HistorySlate(Reply):
    slate: Id
    query: int
    first: int
    size: int
    phase: str | None
    asked: str
    owner: str
    quorum: int
    closed: bool
    cancelled: bool
    items: list[HistoryItem]
    answers: list[HistoryAnswer]


class History(Reply):
    slates: list[HistorySlate] = Field(description="Newest first.")
    after: int | None = Field(description="For the next page; null at the end.")


class Pair(Reply):
    raters: list[str]
    slates: int = Field(description="That both ranked.")
    tau: float | None = Field(
        description="Kendall's tau-b over the pairs of items that both looked at; null where one tied all."
    )


class Repeats(Reply):
    slates: int
    tau: float | None = Field(description="Kendall's tau-b between the two looks.")


class RaterFacts(Reply):
    rater: str
    answers: int
    tie_rate: float | None
    triads: int = Field(description="Closed by judgements from several slates.")
    circular_triads: int
    zeta: float | None = Field(
        description="Kendall's coefficient of consistency, 1 without circular triads; null without triads."
    )
    repeats: Repeats | None = Field(description="Slates that were seen twice.")


class Agreement(Reply):
    pairs: list[Pair]
    w: float | None = Field(
        description="Kendall's coefficient of concordance, null where no slate was ranked in full by two."
    )
    w_slates: int
    raters: list[RaterFacts]
