"""Exports: events as a table, for a map, and for other programs, a piece at a time."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final

import msgspec

from soundranger_broker.storage.reading import Stored
from soundranger_broker.web import table
from soundranger_broker.web.answers import GEOJSON, Answers, sent, told
from soundranger_broker.web.shapes import EventProperties, Feature, Page, event_feature

KML: Final = "application/vnd.google-earth.kml+xml"
# What nodes and people write may hold anything, and the rest is ours: numbers, times, ids and words of a fixed set.
WRITTEN: Final = ("label", "reason", "reviewer", "note")
# What XML 1.0 cannot hold (section 2.2).
ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Writer = Callable[[Iterable[Stored]], Iterator[str]]


def csv(events: Iterable[Stored]) -> Iterator[str]:
    """Yield events as CSV, a line an event."""
    yield table.line(["id", "lat", "lon", *EventProperties.__struct_fields__])
    for stored in events:
        feature = event_feature(stored)
        lon, lat = feature.geometry.coordinates
        yield table.line([feature.id, lat, lon, *msgspec.structs.astuple(feature.properties)])


def geojson(events: Iterable[Stored]) -> Iterator[str]:
    """Yield events as a GeoJSON collection, a line an event."""
    before = '{"type":"FeatureCollection","features":[\n'
    for stored in events:
        yield before + msgspec.json.encode(event_feature(stored)).decode()
        before = ",\n"
    yield "]}\n" if before == ",\n" else before + "]}\n"


def kml(events: Iterable[Stored]) -> Iterator[str]:
    """Yield events as KML, a placemark an event."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
    yield "<name>soundranger: events</name>\n"
    for stored in events:
        yield _placemark(event_feature(stored))
    yield "</Document></kml>\n"


def _placemark(feature: Feature[EventProperties]) -> str:
    properties = msgspec.structs.asdict(feature.properties)
    written = {name: text for name in WRITTEN if (text := properties.pop(name))}
    # Programs that show a description take it for HTML: so it is escaped for these, and once more for XML.
    description = "<br>".join(f"{name}: {escape(text)}" for name, text in written.items())
    data = {"id": feature.id} | {name: value for name, value in properties.items() if value is not None}
    fields = "".join(f'<Data name="{name}"><value>{_text(value)}</value></Data>' for name, value in data.items())
    lon, lat = feature.geometry.coordinates
    return (
        f"<Placemark><name>{_text(feature.properties.time)}</name><description>{_text(description)}</description>"
        f"<TimeStamp><when>{_text(feature.properties.time)}</when></TimeStamp>"
        f"<ExtendedData>{fields}</ExtendedData>"
        f"<Point><coordinates>{lon},{lat}</coordinates></Point></Placemark>\n"
    )


def _text(value: object) -> str:
    return escape(ILLEGAL.sub("\ufffd", str(value)))


@dataclass(frozen=True)
class Format:
    """A kind of file: what writes it, its media type, and what OpenAPI says of it."""

    writer: Writer
    media_type: str
    answers: Answers


# By the ending of the file's name.
FORMATS: Final = {
    "csv": Format(csv, table.MEDIA_TYPE, sent(table.MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY)),
    "kml": Format(kml, KML, sent(KML, HTTPStatus.UNPROCESSABLE_ENTITY)),
    "geojson": Format(
        geojson, GEOJSON, told(Page[EventProperties], HTTPStatus.UNPROCESSABLE_ENTITY, media_type=GEOJSON)
    ),
}
