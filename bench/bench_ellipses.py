"""Honesty of the ellipses in towns: how often they hold the truth, by number of arrivals and by whose those are.

Events of scenarios that found a shot, by how many arrivals they rest on and by whether these are `right`: all of them
that shot's, the direct way or late; else one is an echo, another shot's or of no shot. `mean` is the mean squared
Mahalanobis distance of the truth, and `middle` its median: 2 and 1.39 of an honest ellipse.

    python bench/bench_ellipses.py --seeds 11,12 --families urban
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import worlds
from soundranger_broker.geodesy import Frame
from soundranger_broker.location import CHI2_95_2D
from soundranger_broker.warm import warm_up
from soundranger_node.utc import NS_PER_S

FAMILIES = ("urban", "newyear", "crossfire", "burst")
SEEDS = (11, 12, 13, 14)
GROUPS = ((4, 4), (5, 5), (6, 6), (7, 8), (9, 99))
# Sound that came late did so by less than this.
MOST_LATE_S = 0.3
# Wind and temperature that are not known make sound seem early by no more than this share of its way.
MOST_EARLY_SHARE = 0.04


class Found(NamedTuple):
    """An event that found a shot: its arrivals, whether all are that shot's, and how far off it is."""

    arrivals: int
    right: bool
    square: float
    off_m: float
    major_m: float


def found(world: worlds.World) -> Iterator[Found]:
    """Yield what is known of the events of a world that found a shot."""
    events, _ = worlds.located(world)
    by_id = {one["id"]: one for one in world.detections}
    # Scenarios number detections as they make them: an echo comes right after what it is an echo of.
    nodes = {int(name.split("-")[1]): one["node"] for name, one in by_id.items()}
    echoes = {name for name, one in by_id.items() if nodes.get(int(name.split("-")[1]) - 1) == one["node"]}
    direct = {name: number for number, shot in enumerate(world.shots) for name in shot["detections"]}
    others = echoes | direct.keys()
    for number, (shot_number, off_m) in worlds.matched(events, world.shots).items():
        event, shot = events[number], world.shots[shot_number]
        frame = Frame(shot["lat"], shot["lon"])
        off = frame.to_enu(event["lat"], event["lon"])[:2]
        square = float(off @ np.linalg.solve(np.array(event["covariance_en_m2"]), off))
        names = [arrival["detection"] for arrival in event["arrivals"]]
        right = all(
            direct.get(name) == shot_number if name in others else _may_be_of(by_id[name], shot, frame)
            for name in names
        )
        yield Found(len(names), right, square, off_m, event["ellipse95"]["semi_major_m"])


def _may_be_of(detection: dict[str, Any], shot: dict[str, Any], frame: Frame) -> bool:
    """Say whether a detection has the time of a late arrival of a shot, which is in the middle of the frame."""
    way_s = np.hypot(*frame.to_enu(detection["lat"], detection["lon"])[:2]) / worlds.SPEED_MPS
    late_s = (detection["time_ns"] - shot["time_ns"]) / NS_PER_S - way_s
    return bool(-MOST_EARLY_SHARE * way_s < late_s < MOST_LATE_S)


def print_row(family: str, arrivals: str, whose: str, some: Sequence[Found]) -> None:
    """Print how honest some ellipses are."""
    if not some:
        return
    squares = np.array([one.square for one in some])
    held = 100.0 * np.mean(squares <= CHI2_95_2D)
    off_m, major_m = (np.median([getattr(one, name) for one in some]) for name in ("off_m", "major_m"))
    print(
        f"{family:10s} {arrivals:>8s} {whose:6s} {len(some):6d} {held:7.1f} {squares.mean():7.2f} "
        f"{np.median(squares):7.2f} {off_m:7.2f} {major_m:7.2f}",
        flush=True,
    )


def print_family(family: str, all_found: Sequence[Found]) -> None:
    """Print a line for each number of arrivals, and one for all."""
    for low, high in GROUPS:
        some = [one for one in all_found if low <= one.arrivals <= high]
        label = f"{low}" if low == high else f"{low}-{high}" if high < GROUPS[-1][1] else f"{low}-"
        print_row(family, label, "all", some)
        for right in (True, False):
            print_row(family, label, "right" if right else "wrong", [one for one in some if one.right == right])
    print_row(family, "all", "all", all_found)


def main() -> None:
    """Print a table of each family, and one of all together."""
    options = worlds.parser(__doc__, FAMILIES, SEEDS).parse_args()
    if not worlds.are_here():
        return
    warm_up()
    print("family     arrivals whose  events  held %    mean  middle   off_m major_m")
    everything: list[Found] = []
    for family in options.families:
        one_family = [one for seed in options.seeds for one in found(worlds.scenario(family, seed))]
        print_family(family, one_family)
        everything += one_family
    print_family("together", everything)


if __name__ == "__main__":
    main()
