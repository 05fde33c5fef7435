"""The record section: what every node heard, by its distance, with the line on which sound travels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from soundranger_broker.evidence.case import Case, Trace
from soundranger_broker.evidence.markup import Markup, joined, number, tag
from soundranger_broker.geodesy import Floats
from soundranger_node.messages import Arrival
from soundranger_node.utc import NS_PER_S

WIDTH_PX: Final = 640.0
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 132.0, 84.0, 12.0, 34.0
# As much height for each trace, and as much of it on either side of its middle.
ROW_PX, SWING_PX = 44.0, 19.0
# What of the sound is shown beside the arrivals, seconds; and about each arrival where they are laid one on another.
BEFORE_S, AFTER_S = 0.3, 0.8
NEAR_S: Final = (-0.04, 0.1)
TICKS: Final = 6
STYLE: Final = Markup(
    "<style>text{font:11px sans-serif;fill:#222}.wave{fill:#14508c;stroke:#14508c;stroke-width:.4}"
    ".wave.unused{fill:#9ab;stroke:#9ab}.travel{stroke:#c8102e;stroke-width:1;stroke-dasharray:5 3;fill:none}"
    ".due{stroke:#c8102e;stroke-width:1.2}.onset{stroke:#0a7d32;stroke-width:1.6}"
    ".onset.unused{stroke-dasharray:2 2}.axis{stroke:#888;stroke-width:.7}.frame{fill:#fff;stroke:#bbb}</style>"
)


@dataclass(frozen=True)
class _Row:
    """One arrival in the picture: its height there, when it came and was due, and the sound, seconds after the bang."""

    arrival: Arrival
    y: float
    came_s: float
    due_s: float
    start_s: float = 0.0
    trace: Trace | None = None


@dataclass(frozen=True)
class _Axis:
    """From seconds to pixels."""

    first_s: float
    last_s: float

    def at(self, time_s: float) -> float:
        return LEFT_PX + (time_s - self.first_s) / (self.last_s - self.first_s) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def inside(self, time_s: float) -> bool:
        return self.first_s <= time_s <= self.last_s


def record_section(case: Case) -> Markup:
    """Return an SVG: each trace by its distance, time after the bang to the right, and the travel-time line."""
    rows = _rows(case)
    last_s = max((max(row.came_s, row.due_s) for row in rows), default=1.0) + AFTER_S
    axis = _Axis(-BEFORE_S, last_s)
    by_distance = [row for row in rows if axis.inside(row.due_s)]
    line = " ".join(f"{number(axis.at(row.due_s))},{number(row.y)}" for row in by_distance)
    travel = tag("polyline", class_="travel", points=line)
    drawn = [_drawn(row, axis, 0.0) for row in rows]
    return _picture(case, "seconds after the bang", axis, [travel, *drawn], 1.0, len(rows))


def aligned_section(case: Case) -> Markup:
    """Return an SVG of the same traces, each moved so that sound from the stated place is due at zero."""
    rows = _rows(case)
    axis = _Axis(*NEAR_S)
    bottom = TOP_PX + ROW_PX * max(len(rows), 1)
    zero = number(axis.at(0.0))
    line = tag("line", class_="travel", x1=zero, y1=number(TOP_PX), x2=zero, y2=number(bottom))
    drawn = [_drawn(row, axis, row.due_s) for row in rows]
    return _picture(case, "milliseconds after the sound was due", axis, [line, *drawn], 1e3, len(rows))


def _rows(case: Case) -> list[_Row]:
    """Return what is drawn, the farthest on top."""
    traces = {(trace.node, trace.detection): trace for trace in case.traces}
    rows = []
    for place, (arrival, detection) in enumerate(reversed(case.heard())):
        came_s = _since(case, detection.time_ns)
        trace = traces.get((arrival.node, arrival.detection))
        rows.append(
            _Row(
                arrival=arrival,
                y=TOP_PX + ROW_PX * (place + 0.5),
                came_s=came_s,
                due_s=came_s - arrival.residual_s,
                start_s=0.0 if trace is None else _since(case, trace.start_ns),
                trace=trace,
            )
        )
    return rows


def _since(case: Case, time_ns: int) -> float:
    return (time_ns - case.event.time_ns) / NS_PER_S


def _drawn(row: _Row, axis: _Axis, zero_s: float) -> Markup:
    """Return one trace with its marks and names; times are counted from `zero_s`."""
    used = "" if row.arrival.used else " unused"
    parts = [
        tag("text", row.arrival.node, x=number(LEFT_PX - 8), y=number(row.y - 1), text_anchor="end"),
        tag("text", f"{row.arrival.distance_m:.0f} m", x=number(LEFT_PX - 8), y=number(row.y + 12), text_anchor="end"),
        tag("text", f"{row.arrival.residual_s * 1e3:+.1f} ms", x=number(WIDTH_PX - RIGHT_PX + 8), y=number(row.y + 4)),
    ]
    if row.trace is not None:
        parts.append(_wave(row.trace.samples, row.trace.sample_rate_hz, row.start_s - zero_s, axis, row.y, used))
    for kind, at_s in (("due", row.due_s), (f"onset{used}", row.came_s)):
        if axis.inside(at_s - zero_s):
            x = number(axis.at(at_s - zero_s))
            parts.append(tag("line", class_=kind, x1=x, y1=number(row.y - SWING_PX), x2=x, y2=number(row.y + SWING_PX)))
    return joined(*parts)


def _wave(samples: Floats | np.ndarray, rate_hz: float, start_s: float, axis: _Axis, y: float, used: str) -> Markup:
    """Return a waveform as the area between its least and largest samples, a pixel wide each."""
    first = max(0, round((axis.first_s - start_s) * rate_hz))
    last = min(len(samples), round((axis.last_s - start_s) * rate_hz))
    shown = np.asarray(samples[first:last], dtype=np.float64)
    if not len(shown):
        return Markup("")
    shown = shown - np.median(shown)
    shown *= SWING_PX / max(float(np.abs(shown).max()), 1e-9)
    left, right = axis.at(start_s + first / rate_hz), axis.at(start_s + last / rate_hz)
    columns = min(len(shown), max(1, round(right - left)))
    edges = np.linspace(0, len(shown), columns + 1).astype(int)[:-1]
    tops, bottoms = np.maximum.reduceat(shown, edges), np.minimum.reduceat(shown, edges)
    xs = left + (right - left) * (np.arange(columns) + 0.5) / columns
    points = [*zip(xs, y - tops, strict=True), *reversed([*zip(xs, y - bottoms, strict=True)])]
    return tag("polygon", class_=f"wave{used}", points=" ".join(f"{number(a)},{number(b)}" for a, b in points))


def _picture(case: Case, what: str, axis: _Axis, parts: Sequence[Markup], scale: float, rows: int) -> Markup:
    """Return the whole SVG; labels of the axis are its times multiplied by `scale`."""
    bottom = TOP_PX + ROW_PX * max(rows, 1)
    height = bottom + BOTTOM_PX
    ticks = []
    for time_s in _round_times(axis) if rows else ():
        x = number(axis.at(time_s))
        ticks.append(tag("line", class_="axis", x1=x, y1=number(bottom), x2=x, y2=number(bottom + 4)))
        ticks.append(tag("text", f"{time_s * scale:g}", x=x, y=number(bottom + 16), text_anchor="middle"))
    return tag(
        "svg",
        STYLE,
        tag("rect", class_="frame", width=number(WIDTH_PX), height=number(height)),
        *parts,
        *ticks,
        tag("text", what, x=number(LEFT_PX), y=number(height - 4)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(WIDTH_PX)} {number(height)}",
        width=number(WIDTH_PX),
        role="img",
        aria_label=f"Record section of event {case.event.id}: {what}",
    )


def _round_times(axis: _Axis) -> list[float]:
    """Return the round times on an axis, some six of them."""
    least_s = (axis.last_s - axis.first_s) / TICKS
    power = 10.0 ** math.floor(math.log10(least_s))
    step_s = next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least_s)
    first, last = math.ceil(axis.first_s / step_s), math.floor(axis.last_s / step_s)
    return [round(count * step_s, 9) for count in range(first, last + 1)]
