"""How cost grows with a network: detections a second at 10 to 300 nodes, over a growing area and over a fixed one.

Nodes on a jittered grid; bangs at a rate per square kilometre, false triggers at a rate per node. Processor time of the
associator alone, one thread: what `add` and `settle` take. A row that would take too long is cut short, and says so.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import worlds
from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.association import Associator
from soundranger_broker.bang import Bang
from soundranger_broker.events import event_id, to_event
from soundranger_broker.geodesy import Frame
from soundranger_broker.warm import warm_up
from soundranger_node.messages import Detection
from soundranger_node.utc import NS_PER_S

NODES = (10, 30, 100, 300)
# Twelve nodes on a square of 1.5 km: what a neighbourhood would have.
KM2_A_NODE = 0.19
FIXED_KM = 2.0
BANGS_PER_HOUR_KM2, FALSE_PER_MINUTE = 60.0, 2.0
HEARD_WITHIN_M, HEARD_SHARE = 1200.0, 0.85
SIGMA_S = 0.001
TEMPERATURE_C = 15.0
# A street at 1 m from a gun, as the scenarios have it; levels differ by this much.
SNR_AT_1_M_DB, SNR_SIGMA_DB, LEAST_SNR_DB = 75.0, 3.0, 6.0
FALSE_SNR_DB = (6.0, 25.0)
START_NS = 1_767_225_600 * NS_PER_S
MIDDLE = Frame(48.14, 11.57)
# As many nodes must have heard a bang for it to count as missed.
ENOUGH_NODES = 4


class Network(NamedTuple):
    """Detections in time order, bangs as the shared truth has them, and how long it lasted."""

    detections: list[Detection]
    shots: list[worlds.Row]
    seconds: float


class Cost(NamedTuple):
    """What a network took: detections handled, seconds of processor time, share of it that was heard, bangs found."""

    handled: int
    taken_s: float
    span_s: float
    recall: float
    precision: float


def network(count: int, side_m: float, seconds: float, rng: np.random.Generator) -> Network:
    """Return a random network of `count` nodes on a square, and what it heard."""
    columns = int(np.ceil(np.sqrt(count)))
    cells = rng.permutation(columns**2)[:count]
    corner = np.c_[cells % columns, cells // columns] + rng.uniform(0.15, 0.85, (count, 2))
    nodes = corner * side_m / columns - side_m / 2
    reports = [
        (node, at_s, rng.uniform(*FALSE_SNR_DB))
        for node in range(count)
        for at_s in rng.uniform(0, seconds, rng.poisson(FALSE_PER_MINUTE * seconds / 60))
    ]
    shots: list[worlds.Row] = []
    for at_s in np.sort(rng.uniform(0, seconds, rng.poisson(BANGS_PER_HOUR_KM2 * side_m**2 / 1e6 * seconds / 3600))):
        place = rng.uniform(-side_m / 2, side_m / 2, 2)
        heard = hear(nodes, place, float(at_s), rng)
        reports += heard
        lat, lon, _ = MIDDLE.to_geodetic(*place)
        shots.append({"time_ns": START_NS + round(at_s * NS_PER_S), "lat": lat, "lon": lon, "nodes": len(heard)})
    places = [MIDDLE.to_geodetic(east, north) for east, north in nodes.tolist()]
    reports.sort(key=lambda report: report[1])
    return Network([report(places, number, *one) for number, one in enumerate(reports)], shots, seconds)


def hear(
    nodes: NDArray[np.float64], place: NDArray[np.float64], at_s: float, rng: np.random.Generator
) -> list[tuple[int, float, float]]:
    """Return node, time and level of all that hear a bang."""
    ways_m = np.linalg.norm(nodes - place, axis=1)
    levels = SNR_AT_1_M_DB - 20 * np.log10(np.maximum(ways_m, 1.0)) + rng.normal(0, SNR_SIGMA_DB, len(nodes))
    heard = (ways_m < HEARD_WITHIN_M) & (rng.random(len(nodes)) < HEARD_SHARE) & (levels > LEAST_SNR_DB)
    times_s = at_s + ways_m / speed_of_sound_mps(TEMPERATURE_C) + rng.normal(0, SIGMA_S, len(nodes))
    return [(int(node), float(times_s[node]), float(levels[node])) for node in np.flatnonzero(heard)]


def report(places: list[tuple[float, float, float]], number: int, node: int, at_s: float, snr_db: float) -> Detection:
    """Return the message of a report."""
    lat, lon, alt_m = places[node]
    return Detection(
        id=f"n{node}-{number}",
        node=f"n{node}",
        time_ns=START_NS + round(at_s * NS_PER_S),
        time_sigma_s=SIGMA_S,
        lat=lat,
        lon=lon,
        alt_m=alt_m,
        position_sigma_m=0.1,
        snr_db=snr_db,
        temperature_c=TEMPERATURE_C,
    )


def cost(heard: Network, most_s: float) -> Cost:
    """Return what the associator takes for a network; stop after `most_s` of processor time."""
    associator, bangs, handled = Associator(), list[Bang](), 0
    started_s = time.process_time()
    for detection in heard.detections:
        associator.add(detection)
        bangs += associator.settle(detection.time_ns)
        handled += 1
        if time.process_time() - started_s > most_s:
            break
    else:
        bangs += associator.settle(START_NS + 10_000 * NS_PER_S)
    taken_s = time.process_time() - started_s
    last_ns = heard.detections[handled - 1].time_ns
    whole = handled == len(heard.detections)
    until_ns = last_ns if whole else associator.decided_ns(last_ns)
    events = [worlds.plain(to_event(bang, event_id(bang), 0, "final")) for bang in bangs]
    shots = [shot for shot in heard.shots if shot["time_ns"] < until_ns]
    found = worlds.matched(events, shots)
    audible = {number for number, shot in enumerate(shots) if shot["nodes"] >= ENOUGH_NODES}
    recall = len(audible & {shot for shot, _ in found.values()}) / len(audible) if audible else float("nan")
    precision = len(found) / len(events) if events else float("nan")
    return Cost(handled, taken_s, (last_ns - START_NS) / NS_PER_S, recall, precision)


def main() -> None:
    """Print a table: area, nodes, detections, detections a second, times real time, recall, precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nodes", type=lambda text: [int(count) for count in text.split(",")], default=list(NODES), help="how many"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long each network listens")
    parser.add_argument("--most-s", type=float, default=40.0, help="the most processor time for one row")
    options = parser.parse_args()
    warm_up()
    print(
        f"{'area':>16s} {'nodes':>6s} {'detections':>11s} {'a second':>9s} {'real time':>10s} {'recall':>7s} "
        f"{'precision':>9s}"
    )
    for growing in (True, False):
        for count in options.nodes:
            side_km = np.sqrt(count * KM2_A_NODE) if growing else FIXED_KM
            made = network(count, 1e3 * side_km, options.seconds, np.random.default_rng([1, count, growing]))
            took = cost(made, options.most_s)
            cut = "" if took.handled == len(made.detections) else f"  cut short after {took.span_s:.0f} s"
            print(
                f"{'growing' if growing else 'fixed':>8s} {side_km**2:4.1f} km2 {count:6d} {took.handled:11d} "
                f"{took.handled / took.taken_s:9.0f} {took.span_s / took.taken_s:10.1f} {took.recall:7.3f} "
                f"{took.precision:9.3f}{cut}",
                flush=True,
            )


if __name__ == "__main__":
    main()
