"""The report of a case: one page of HTML that stands by itself, prints well, and says what is known and how surely."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from soundranger_broker.evidence.case import Case
from soundranger_broker.evidence.map_picture import map_picture
from soundranger_broker.evidence.markup import Markup, joined, tag
from soundranger_broker.evidence.section_picture import aligned_section, record_section
from soundranger_broker.words import counted, names, number, percent
from soundranger_node import __version__
from soundranger_node.messages import Arrival, Detection
from soundranger_node.utc import NS_PER_S

# No script, no picture, no font from anywhere: only the style below.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
STYLE: Final = Markup(
    "<style>:root{color-scheme:light}body{font:15px/1.5 Georgia,serif;max-width:46rem;margin:2rem auto;padding:0 1rem;"
    "color:#111;background:#fff}h1,h2{font-family:Helvetica,Arial,sans-serif;line-height:1.2}h2{margin-top:2rem}"
    "table{border-collapse:collapse;width:100%;font:12px/1.4 Helvetica,Arial,sans-serif}"
    "th,td{border-bottom:1px solid #ccc;padding:.25rem .4rem;text-align:right;vertical-align:top}"
    "th:first-child,td:first-child{text-align:left}td.text{text-align:left}code{font-size:11px;word-break:break-all}"
    "figure{margin:1rem 0;break-inside:avoid}figcaption{font-size:13px;color:#444}svg{max-width:100%;height:auto}"
    ".wide{overflow-x:auto}tr{break-inside:avoid}.sure{border-left:4px solid #c8102e;padding-left:1rem}"
    "@page{margin:18mm}@media print{body{max-width:none;margin:0;font-size:11pt}h2{break-after:avoid}}</style>"
)
STATUSES: Final = {
    "preliminary": "This is a first look, made before all reports were in; it may change.",
    "final": "",
    "retracted": "This was taken back: it is not held to be an event any more.",
}
MAP_TEXT: Final = (
    "North is up. Cross: the stated place; red area: its 95 % ellipse. Filled dots: nodes on which the location rests; "
    "hollow dots: nodes whose arrival was not used. Grey circles: how far the sound had come when it reached that "
    "node; where they cross, the bang was. Grey crosses: nodes that should have heard it and did not. Dashed red "
    "circles: other places that the same arrivals fit."
)
SECTION_TEXT: Final = (
    "What each node heard, the farthest on top. Green: the onset that the node reported; red: when sound from the "
    "stated place was due there. If the location is right, the sound begins on the red line at every node. The number "
    "on the right is how much later it came than it was due. Each trace is as high as its loudest sample."
)
ALIGNED_TEXT: Final = (
    "Each trace is moved by the time that sound needs from the stated place: all onsets belong on the red line."
)
# A hash, or a long name.
LONG_CELL: Final = 40


def report(case: Case) -> str:
    """Return the report as HTML."""
    event = case.event
    title = f"Event {event.id}"
    return page(
        title,
        tag("h1", title),
        tag("p", case.source),
        tag("section", *_summary(case), class_="sure"),
        _figure("Where", map_picture(case), MAP_TEXT),
        _figure("What was heard", record_section(case), SECTION_TEXT),
        _figure("The same, laid one on another", aligned_section(case), ALIGNED_TEXT),
        *_arrivals(case),
        *_air(case),
        *_revisions(case),
        *_log(case),
    )


def page(title: str, *body: Markup) -> str:
    """Return a page of HTML that needs nothing else, and runs nothing."""
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        STYLE,
    )
    foot = tag("p", f"Written by soundranger {__version__}.")
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', *body, foot), lang='en')}\n"


def utc(time_ns: int) -> str:
    """Return a UTC to the millisecond."""
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S}.{rest_ns // 1_000_000:03} UTC"


def _figure(heading: str, picture: Markup, caption: str) -> Markup:
    return joined(tag("h2", heading), tag("figure", picture, tag("figcaption", caption)))


def _summary(case: Case) -> list[Markup]:
    event, ellipse = case.event, case.event.ellipse95
    used = [arrival for arrival in event.arrivals if arrival.used]
    root_s = math.sqrt(sum(arrival.residual_s**2 for arrival in used) / max(len(used), 1))
    when = f"At {utc(event.time_ns)} (one standard deviation: {event.time_sigma_s * 1e3:.1f} ms) there was a bang"
    along = f"{ellipse.semi_major_m:.1f} m along the direction {ellipse.bearing_deg:.0f} degrees east of north"
    rests = f"{number(len(used))} of {counted(len(event.arrivals), 'arrival')}"
    off = f"{root_s * 1e3:.1f} ms, in which sound goes {root_s * event.speed_of_sound_mps:.1f} m"
    sentences = [
        f"{when} at {event.lat:.6f}, {event.lon:.6f} (WGS84).",
        f"The place is known to {along} and {ellipse.semi_minor_m:.1f} m across it:",
        "of 100 such ellipses, 95 should hold the true place.",
        f"The chance that one real source made these arrivals is {event.probability:.1%}.",
        f"The location rests on {rests}. The root mean square of what they are off is {off}.",
        STATUSES[event.status],
        "" if event.label is None else f"The label that a program gave it: {event.label}.",
        "Where and when is what arrival times say. What made the sound, they do not say.",
    ]
    paragraphs = [tag("p", " ".join(filter(None, sentences)))]
    if event.silent:
        paragraphs.append(tag("p", f"Should have heard it and did not: {names(event.silent)}."))
    if event.reason is not None:
        paragraphs.append(tag("p", "Reasons to doubt it: ", event.reason))
    paragraphs += [
        tag("p", f"The same arrivals also fit {one.lat:.6f}, {one.lon:.6f}, with {percent(one.probability)}.")
        for one in event.alternatives or []
    ]
    return [*paragraphs, *_review(case)]


def _review(case: Case) -> list[Markup]:
    review = case.record.review
    if review is None or review.verdict is None or review.reviewed_ns is None:
        return []
    said = f"A person, {review.reviewer}, judged on {utc(review.reviewed_ns)} that it was: {review.verdict}."
    return [tag("p", said, f" Note: {review.note}" if review.note else "")]


def _arrivals(case: Case) -> list[Markup]:
    heading = ["node", "reached at", "± ms", "off by ms", "distance m", "used", "snr dB", "clock"]
    heading += ["signature"] if case.signatures else []
    rows = [_arrival(arrival, detection, case) for arrival, detection in case.heard()]
    known = {(one.node, one.id) for one in case.detections}
    lost = [one for one in case.event.arrivals if (one.node, one.detection) not in known]
    parts = [tag("h2", "Arrivals"), table(heading, rows)]
    if lost:
        parts.append(tag("p", f"Not kept any more: {names([one.detection for one in lost])}."))
    places = [
        (one.node, f"{one.lat:.6f}", f"{one.lon:.6f}", f"{one.alt_m:.1f}", f"{one.position_sigma_m:.1f}", one.id)
        for _, one in case.heard()
    ]
    columns = ("node", "latitude", "longitude", "height m", "± m", "detection")
    return [*parts, tag("h2", "Where the nodes were"), table(columns, places)]


def _arrival(arrival: Arrival, detection: Detection, case: Case) -> tuple[str, ...]:
    return (
        arrival.node,
        utc(detection.time_ns).split()[1],
        f"{detection.time_sigma_s * 1e3:.2f}",
        f"{arrival.residual_s * 1e3:+.2f}",
        f"{arrival.distance_m:.1f}",
        "yes" if arrival.used else "no",
        f"{detection.snr_db:.0f}",
        detection.clock or "not said",
        *([case.signatures.get((arrival.node, arrival.detection), "")] if case.signatures else []),
    )


def _air(case: Case) -> list[Markup]:
    event = case.event
    said = f"Speed of sound {event.speed_of_sound_mps:.1f} m/s"
    if event.wind_mps is not None:
        east, north = event.wind_mps
        said += f"; wind {east:+.1f} m/s to the east and {north:+.1f} m/s to the north"
    measured = sorted({one.temperature_c for one in case.detections if one.temperature_c is not None})
    span = " to ".join(f"{one:.1f}" for one in dict.fromkeys([*measured[:1], *measured[-1:]]))
    told = f" The nodes state {span} degrees Celsius." if measured else ""
    return [tag("h2", "The air that the location rests on"), tag("p", f"{said}.{told}")]


def _revisions(case: Case) -> list[Markup]:
    rows = [
        (
            str(one.event.revision),
            utc(one.told_ns),
            one.event.status,
            f"{one.event.lat:.6f}",
            f"{one.event.lon:.6f}",
            f"{one.event.ellipse95.semi_major_m:.1f}",
            f"{one.event.probability:.1%}",
        )
        for one in case.record.revisions
    ]
    heading = ("revision", "told at", "status", "latitude", "longitude", "within m", "probability")
    return [tag("h2", "What was told of it"), table(heading, rows)] if rows else []


def _log(case: Case) -> list[Markup]:
    rows = [(str(one.seq), utc(one.time_ns), one.kind, one.subject, one.hash) for one in case.record.log]
    if not rows:
        return []
    text = "Each entry carries the hash of the one before, so that none can be changed or left out unseen."
    return [tag("h2", "The log"), tag("p", text), table(("entry", "written at", "kind", "about", "hash"), rows)]


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table of texts, or of markup."""
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heading)))
    body = [tag("tr", *(tag("td", _cell(cell)) for cell in row)) for row in rows]
    return tag("div", tag("table", head, tag("tbody", *body)), class_="wide")


def _cell(content: str) -> str:
    long = len(content) > LONG_CELL and not isinstance(content, Markup)
    return tag("code", content) if long else content
