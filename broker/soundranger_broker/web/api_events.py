"""The API's events: found, seen whole, and reviewed."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response
from sqlalchemy.engine import Connection

from soundranger_broker.storage import reading
from soundranger_broker.storage.reading import Review, Stored, Wanted
from soundranger_broker.storage.store import NoEventError, Store
from soundranger_broker.web.answers import GEOJSON, answer, told
from soundranger_broker.web.asking import EventName, Judgement, cursor_at, page, wanted
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.picture import Reviewed
from soundranger_broker.web.problems import NotThere
from soundranger_broker.web.shapes import (
    ClipLink,
    EventDetail,
    EventProperties,
    Page,
    ReceivedDetection,
    ToldRevision,
    event_feature,
)
from soundranger_node.messages import DETECTION


def events_router(store: Store, hub: Hub, now_ns: Callable[[], int]) -> APIRouter:
    """Return the routes of events in a store; pages of the hub hear of reviews."""
    router = APIRouter(tags=["events"], default_response_class=Response)
    judging = threading.Lock()

    @router.get("/events", responses=told(Page[EventProperties], HTTPStatus.UNPROCESSABLE_ENTITY, media_type=GEOJSON))
    def find_events(
        asked: Annotated[Wanted, Depends(wanted)], part: Annotated[reading.Page, Depends(page)]
    ) -> Response:
        """Find events, newest first."""
        with store.engine.begin() as connection:
            found = reading.events(connection, asked, part)
        last = found[-1].event if len(found) == part.limit else None
        following = None if last is None else cursor_at(last.time_ns, last.id)
        return answer(Page(features=[event_feature(one) for one in found], next=following), GEOJSON)

    @router.get("/events/{event}", responses=told(EventDetail, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY))
    def see_event(event: EventName) -> Response:
        """See all that is known of an event."""
        with store.engine.begin() as connection:
            stored = reading.event(connection, event)
            if stored is None:
                raise NotThere(f"event {event}")
            return answer(_detail(connection, stored))

    @router.post(
        "/events/{event}/review",
        responses=told(
            Review,
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ),
    )
    def review_event(event: EventName, said: Judgement) -> Response:
        """Say what an event was; the log keeps what was said before."""
        # One at a time: pages end up with the same review as the store.
        with judging:
            at_ns = now_ns()
            try:
                store.review(event, said.verdict, said.reviewer, said.note, at_ns)
            except NoEventError:
                raise NotThere(f"event {event}") from None
            hub.publish(
                Reviewed(event=event, verdict=said.verdict, reviewer=said.reviewer, note=said.note, reviewed_ns=at_ns)
            )
        return answer(Review(said.verdict, said.reviewer, said.note, at_ns))

    return router


def _detail(connection: Connection, stored: Stored) -> EventDetail:
    name = stored.event.id
    clips = reading.clip_headers_of(connection, name)
    subjects = [name, *(f"{node}/{header.detection}" for node, header in clips)]
    return EventDetail(
        event=stored.event,
        incident=stored.incident,
        review=stored.review,
        revisions=[ToldRevision(one.told_ns, one.event) for one in reading.revisions(connection, name)],
        detections=[
            ReceivedDetection(one.received_ns, DETECTION.decode(one.payload))
            for one in reading.reports_of(connection, name)
        ],
        clips=[
            ClipLink(
                node, one.detection, one.start_ns, one.sample_rate_hz, f"/api/1/clips/{node}/{quote(one.detection)}"
            )
            for node, one in clips
        ],
        log=list(reading.entries(connection, subjects)),
    )
