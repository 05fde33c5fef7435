"""The map of an event: its ellipse, the nodes, and the circle about each node on which its arrival puts the bang."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from soundranger_broker.evidence.case import Case
from soundranger_broker.evidence.markup import Markup, joined, number, tag
from soundranger_broker.geodesy import Floats, Frame
from soundranger_node.utc import NS_PER_S

WIDTH_PX: Final = 640.0
LEAST_HEIGHT_PX, MOST_HEIGHT_PX = 320.0, 640.0
# Around all that must be seen, as a share of its extent.
MARGIN: Final = 0.12
LEAST_EXTENT_M: Final = 60.0
NODE_PX: Final = 5.0
# About fourteen letters.
NAME_PX: Final = 90.0
STYLE: Final = Markup(
    "<style>text{font:11px sans-serif;fill:#222}.ring{fill:none;stroke:#8a8f98;stroke-width:.7}"
    ".ring.unused{stroke-dasharray:3 4}.ellipse{fill:#c8102e;fill-opacity:.18;stroke:#c8102e;stroke-width:1.5}"
    ".bang{stroke:#c8102e;stroke-width:2}.other{fill:none;stroke:#c8102e;stroke-dasharray:2 2}"
    ".used{fill:#14508c}.unused{fill:#fff;stroke:#14508c;stroke-width:1.5}"
    ".silent{fill:none;stroke:#777;stroke-width:1.5}.frame{fill:#fbfaf6;stroke:#bbb}"
    ".bar{stroke:#222;stroke-width:2}</style>"
)


class _Sheet:
    """From metres east and north of the event to pixels."""

    def __init__(self, points_m: Floats) -> None:
        low, high = points_m.min(axis=0), points_m.max(axis=0)
        middle = (low + high) / 2
        extent = np.maximum(high - low, LEAST_EXTENT_M) * (1 + 2 * MARGIN)
        height = WIDTH_PX * float(extent[1] / extent[0])
        self.height_px = min(max(height, LEAST_HEIGHT_PX), MOST_HEIGHT_PX)
        self.px_per_m = min(WIDTH_PX / float(extent[0]), self.height_px / float(extent[1]))
        self._middle = middle

    def at(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Return x and y of a place."""
        x = WIDTH_PX / 2 + (east_m - float(self._middle[0])) * self.px_per_m
        y = self.height_px / 2 - (north_m - float(self._middle[1])) * self.px_per_m
        return x, y


def map_picture(case: Case) -> Markup:
    """Return the map as an SVG that stands by itself; north is up."""
    event = case.event
    frame = Frame(event.lat, event.lon)
    heard = case.heard()
    nodes = [frame.to_enu(one.lat, one.lon)[:2] for _, one in heard]
    silent = {name: frame.to_enu(*place)[:2] for name, place in sorted(case.silent.items())}
    others = [frame.to_enu(one.lat, one.lon)[:2] for one in event.alternatives or []]
    reach_m = event.ellipse95.semi_major_m
    corners = [np.array([-reach_m, -reach_m]), np.array([reach_m, reach_m])]
    sheet = _Sheet(np.array([*corners, *nodes, *silent.values(), *others]))
    parts = [
        STYLE,
        tag("rect", class_="frame", width=number(WIDTH_PX), height=number(sheet.height_px)),
        *_rings(case, nodes, sheet),
        _ellipse(case, sheet),
        *(tag("circle", class_="other", **_centre(place, sheet), r="8") for place in others),
        *_cross(sheet),
        *(_cross_out(name, place, sheet) for name, place in silent.items()),
        *(
            _node(arrival.node, place, sheet, "used" if arrival.used else "unused")
            for (arrival, _), place in zip(heard, nodes, strict=True)
        ),
        _scale(sheet),
    ]
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(WIDTH_PX)} {number(sheet.height_px)}",
        width=number(WIDTH_PX),
        role="img",
        aria_label=f"Map of event {event.id}",
    )


def _centre(place: Sequence[float] | Floats, sheet: _Sheet) -> dict[str, str]:
    x, y = sheet.at(float(place[0]), float(place[1]))
    return {"cx": number(x), "cy": number(y)}


def _rings(case: Case, nodes: Sequence[Floats], sheet: _Sheet) -> list[Markup]:
    rings = []
    for (arrival, detection), place in zip(case.heard(), nodes, strict=True):
        radius_m = (detection.time_ns - case.event.time_ns) / NS_PER_S * case.event.speed_of_sound_mps
        kind = "ring" if arrival.used else "ring unused"
        if radius_m > 0:
            rings.append(tag("circle", class_=kind, **_centre(place, sheet), r=number(radius_m * sheet.px_per_m)))
    return rings


def _ellipse(case: Case, sheet: _Sheet) -> Markup:
    ellipse = case.event.ellipse95
    x, y = sheet.at(0.0, 0.0)
    return tag(
        "ellipse",
        class_="ellipse",
        cx=number(x),
        cy=number(y),
        rx=number(ellipse.semi_minor_m * sheet.px_per_m),
        ry=number(ellipse.semi_major_m * sheet.px_per_m),
        transform=f"rotate({number(ellipse.bearing_deg)} {number(x)} {number(y)})",
    )


def _cross(sheet: _Sheet) -> list[Markup]:
    x, y = sheet.at(0.0, 0.0)
    return [
        tag("line", class_="bang", x1=number(x - 7), y1=number(y), x2=number(x + 7), y2=number(y)),
        tag("line", class_="bang", x1=number(x), y1=number(y - 7), x2=number(x), y2=number(y + 7)),
    ]


def _named(name: str, x: float, y: float) -> Markup:
    # Where the right-hand edge would cut the name off, it stands to the left.
    left = x > WIDTH_PX - NAME_PX
    at = number(x - 8 if left else x + 8)
    return tag("text", name, x=at, y=number(y - 6), text_anchor="end" if left else "start")


def _node(name: str, place: Floats, sheet: _Sheet, kind: str) -> Markup:
    x, y = sheet.at(float(place[0]), float(place[1]))
    return joined(tag("circle", class_=kind, cx=number(x), cy=number(y), r=number(NODE_PX)), _named(name, x, y))


def _cross_out(name: str, place: Floats, sheet: _Sheet) -> Markup:
    x, y = sheet.at(float(place[0]), float(place[1]))
    a, b, c, d = (number(part) for part in (x - NODE_PX, y - NODE_PX, x + NODE_PX, y + NODE_PX))
    return joined(tag("path", class_="silent", d=f"M{a} {b}L{c} {d}M{a} {d}L{c} {b}"), _named(name, x, y))


def _scale(sheet: _Sheet) -> Markup:
    """Return a bar of a round length, a fifth of the width at the most, and an arrow to the north."""
    most_m = WIDTH_PX / 5 / sheet.px_per_m
    power = 10.0 ** math.floor(math.log10(most_m))
    length_m = max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most_m)
    x, y = 14.0, sheet.height_px - 14.0
    end = number(x + length_m * sheet.px_per_m)
    return joined(
        tag("line", class_="bar", x1=number(x), y1=number(y), x2=end, y2=number(y)),
        tag("text", f"{length_m:g} m, north is up", x=number(x), y=number(y - 6)),
    )
