"""The API's incidents: events that belong together."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from soundranger_broker.storage import reading
from soundranger_broker.storage.reading import Wanted
from soundranger_broker.storage.store import Store
from soundranger_broker.web.answers import GEOJSON, answer, told
from soundranger_broker.web.asking import IncidentName, Since, cursor_at, page
from soundranger_broker.web.problems import NotThere
from soundranger_broker.web.shapes import IncidentDetail, IncidentProperties, Page, event_feature, incident_feature


def incidents_router(store: Store) -> APIRouter:
    """Return the routes of incidents in a store."""
    router = APIRouter(tags=["incidents"], default_response_class=Response)

    @router.get(
        "/incidents", responses=told(Page[IncidentProperties], HTTPStatus.UNPROCESSABLE_ENTITY, media_type=GEOJSON)
    )
    def find_incidents(part: Annotated[reading.Page, Depends(page)], since: Since = None) -> Response:
        """Find incidents that had not ended by a time, newest first."""
        with store.engine.begin() as connection:
            found = reading.incidents(connection, part, since)
        last = found[-1] if len(found) == part.limit else None
        following = None if last is None else cursor_at(last.start_time_ns, last.id)
        return answer(Page(features=[incident_feature(one) for one in found], next=following), GEOJSON)

    @router.get(
        "/incidents/{incident}",
        responses=told(IncidentDetail, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    def see_incident(incident: IncidentName) -> Response:
        """See an incident and its events."""
        with store.engine.begin() as connection:
            found = reading.incident(connection, incident)
            if found is None:
                raise NotThere(f"incident {incident}")
            events = [event_feature(one) for one in reading.all_events(connection, Wanted(incident=incident))]
        return answer(IncidentDetail(found, events))

    return router
