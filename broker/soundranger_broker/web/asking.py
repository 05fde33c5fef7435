"""What the API can be asked: times, boxes, names, and where a page begins; all of it described for OpenAPI."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from soundranger_broker.storage.reading import Page, Wanted
from soundranger_broker.storage.store import Verdict
from soundranger_node.messages import EventStatus
from soundranger_node.utc import utc_ns

# The most that a database's integer holds: times beyond it, or before 1970, are beyond or before all that is stored.
MOST_NS: Final = 2**63 - 1
# What JSON's numbers hold exactly.
MOST_SEQ: Final = 2**53
NAME: Final = r"^[A-Za-z0-9._:-]{1,128}$"
NODE: Final = r"^[a-z0-9-]{1,64}$"
_LON: Final = r"-?(180(\.0{1,15})?|(1[0-7][0-9]|[0-9]{1,2})(\.[0-9]{1,15})?)"
_LAT: Final = r"-?(90(\.0{1,15})?|[0-8]?[0-9](\.[0-9]{1,15})?)"
BOX: Final = f"^{_LON},{_LAT},{_LON},{_LAT}$"
# A time in nanoseconds and an id: where the page before ended.
CURSOR: Final = r"^[1-8]?[0-9]{1,18}~[A-Za-z0-9._:-]{1,128}$"
# One line in which there is something to see, and any text; without control characters, which databases refuse.
LINE: Final = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
NOTE: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"


def _of_form(pattern: str, problem: str) -> Callable[[str | None], str | None]:
    """Return what lets a text pass that has a form, and says of others what the problem is."""
    form = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(text: str | None) -> str | None:
        if text is not None and not form.match(text):
            raise ValueError(problem)
        return text

    return check


def _one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(words)}})


def _moment_ns(text: Any) -> int | None:
    return None if text is None else min(max(utc_ns(text), 0), MOST_NS)


def _upright(text: str | None) -> str | None:
    """Let a box pass of which the south is not north of its north."""
    if text is not None and _box(text)[1] > _box(text)[3]:
        raise ValueError("has its south north of its north")
    return text


_MOMENT: Final = WithJsonSchema({"type": "string", "format": "date-time"})
_NAMED: Final = AfterValidator(_of_form(NAME, "is no id: 1 to 128 of A-Z, a-z, 0-9 and . _ : -"))
_NAME: Final = WithJsonSchema({"type": "string", "pattern": NAME})

Since = Annotated[
    int | None,
    BeforeValidator(_moment_ns),
    _MOMENT,
    Query(description="Not before this time (RFC 3339, such as 2026-11-30T22:15:00Z)."),
]
Until = Annotated[int | None, BeforeValidator(_moment_ns), _MOMENT, Query(description="Before this time (RFC 3339).")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
Cursor = Annotated[
    str | None,
    AfterValidator(_of_form(CURSOR, "is not what a page named as `next`")),
    WithJsonSchema({"type": "string", "pattern": CURSOR}),
    Query(description="What the page before named as `next`."),
]
Box = Annotated[
    str | None,
    AfterValidator(_of_form(BOX, "is not west,south,east,north in degrees, such as 11.4,48.0,11.7,48.2")),
    AfterValidator(_upright),
    WithJsonSchema({"type": "string", "pattern": BOX}),
    Query(description="West, south, east and north in degrees; it may cross the date line."),
]
Likely = Annotated[
    float | None,
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
    Query(ge=0, le=1, description="At least so probable that it was one real source."),
]
Statuses = Annotated[list[EventStatus] | None, _one_of(*get_args(EventStatus)), Query(description="Any of these.")]
Said = Literal[Verdict, "none"]
Verdicts = Annotated[
    list[Said] | None,
    _one_of(*get_args(Said)),
    Query(description="Any of these; none is for events that nobody has reviewed."),
]
Label = Annotated[
    str | None,
    AfterValidator(_of_form(LINE, "is not one line of text")),
    WithJsonSchema({"type": "string", "pattern": LINE}),
    Query(description="What the machine took it for."),
]
PartOf = Annotated[str | None, _NAMED, _NAME, Query(description="Part of this incident.")]
EventName = Annotated[str, _NAMED, _NAME, Path(description="The id of an event.")]
IncidentName = Annotated[str, _NAMED, _NAME, Path(description="The id of an incident.")]
DetectionName = Annotated[str, _NAMED, _NAME, Path(description="The id of a detection.")]
NodeName = Annotated[
    str,
    AfterValidator(_of_form(NODE, "is no node's name: 1 to 64 of a-z, 0-9 and -")),
    WithJsonSchema({"type": "string", "pattern": NODE}),
    Path(description="The name of a node."),
]


class Judgement(BaseModel):
    """What a person says of an event; no verdict opens it again."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict | None
    reviewer: Annotated[
        str,
        Field(min_length=1, max_length=128, json_schema_extra={"pattern": LINE}),
        AfterValidator(_of_form(LINE, "is not one line of text")),
    ]
    note: Annotated[
        str,
        Field(max_length=2_000, json_schema_extra={"pattern": NOTE}),
        AfterValidator(_of_form(NOTE, "holds control characters")),
    ] = ""


def wanted(
    since: Since = None,
    until: Until = None,
    bbox: Box = None,
    least_probability: Likely = None,
    status: Statuses = None,
    verdict: Verdicts = None,
    label: Label = None,
    incident: PartOf = None,
) -> Wanted:
    """Return which events a request asks for."""
    return Wanted(
        since_ns=since,
        until_ns=until,
        box=None if bbox is None else _box(bbox),
        least_probability=least_probability,
        statuses=status or (),
        verdicts=verdict or (),
        label=label,
        incident=incident,
    )


def page(limit: Limit = 100, cursor: Cursor = None) -> Page:
    """Return which page a request asks for."""
    if cursor is None:
        return Page(limit)
    time_ns, name = cursor.split("~")
    return Page(limit, int(time_ns), name)


def cursor_at(time_ns: int, name: str) -> str:
    """Return the cursor of the page that follows what has this time and name."""
    return f"{time_ns}~{name}"


def _box(text: str) -> tuple[float, float, float, float]:
    west, south, east, north = (float(part) for part in text.split(","))
    return west, south, east, north
