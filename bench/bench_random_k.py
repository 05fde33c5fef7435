"""Location from few sensors on live fire: any k of the sensors that the authors kept for a shot, against their method.

The data are not part of the project. SOUNDRANGER_DATA names their folder; where there is none, this says so. Beside the
shares within 15 m of the surveyed place: how often the stated ellipses, widened by the survey's own error, hold it.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import worlds
from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.learning import SPEED_PER_KELVIN
from soundranger_broker.location import Medium, locate
from soundranger_broker.warm import warm_up
from soundranger_node.utc import NS_PER_S

SENSORS = (4, 5, 6, 8, 10)
# Goals for the share within 15 m, per cent.
GOALS = (92.0, 98.0, 99.5, 99.9, 100.0)
NEAR_M = 15.0
# How far the air between the nodes is from what the weather station nearby said: its temperature, and no wind.
STATION_SIGMA_K, STATION_WIND_SIGMA_MPS = 1.0, 1.0
# Squared Mahalanobis radii of ellipses that hold 50, 90 and 95 %.
LEVELS = tuple(-2.0 * math.log(1.0 - share) for share in (0.5, 0.9, 0.95))


class Shot(NamedTuple):
    """Selected arrivals of a shot: nodes (n, 3) metres from the surveyed place, times and sigmas (n,), temperature."""

    nodes: Floats
    times_s: Floats
    sigmas_s: Floats
    temperature_c: float


def shots(world: worlds.World) -> Iterator[Shot]:
    """Yield the shots of one firing position."""
    by_id = {row["id"]: row for row in world.detections}
    for shot in world.shots:
        heard = [by_id[one] for one in shot["detections"]]
        frame = Frame(shot["lat"], shot["lon"])
        nodes = frame.to_enu(*np.array([(one["lat"], one["lon"], one["alt_m"]) for one in heard]).T)
        times = np.array([(one["time_ns"] - shot["time_ns"]) / NS_PER_S for one in heard])
        speed = speed_of_sound_mps(heard[0]["temperature_c"])
        sigmas = np.array([math.hypot(one["time_sigma_s"], one["position_sigma_m"] / speed) for one in heard])
        yield Shot(nodes, times, sigmas, heard[0]["temperature_c"])


def published(nodes: Floats, times_s: Floats, speed_mps: float) -> Floats:
    """Return the place by the linear least squares of Mathias, Leonardi, Galati 2008, as Calhoun et al. 2021 use it."""
    flat, paths = nodes[:, :2] - nodes[:, :2].mean(axis=0), speed_mps * (times_s - times_s.mean())
    design = np.c_[2.0 * flat, -2.0 * paths, np.ones(len(flat))]
    solved = np.linalg.lstsq(design, np.sum(flat**2, axis=1) - paths**2, rcond=None)[0]
    return np.asarray(solved[:2] + nodes[:, :2].mean(axis=0))


class Tally(NamedTuple):
    """Errors (m) of both methods, and the squared Mahalanobis distances of ours."""

    ours_m: list[float]
    published_m: list[float]
    squares: list[float]


def draw(shot: Shot, sensors: int, rng: np.random.Generator, tally: Tally) -> None:
    """Locate a shot from random sensors by both methods."""
    some = rng.choice(len(shot.nodes), sensors, replace=False)
    speed = speed_of_sound_mps(shot.temperature_c)
    medium = Medium(speed, STATION_SIGMA_K * SPEED_PER_KELVIN, STATION_WIND_SIGMA_MPS)
    found = locate(shot.nodes[some], shot.times_s[some], shot.sigmas_s[some], medium)
    place = found.theta[:2]
    tally.ours_m.append(float(np.hypot(*place)))
    tally.published_m.append(float(np.hypot(*published(shot.nodes[some], shot.times_s[some], speed))))
    stated = found.covariance[:2, :2] + worlds.SURVEY_M**2 * np.eye(2)
    tally.squares.append(float(place @ np.linalg.solve(stated, place)))


def main() -> None:
    """Print a table, one line a number of sensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=25, help="random choices of sensors for each shot")
    draws = parser.parse_args().draws
    if not worlds.live_fire_is_here():
        return
    warm_up()
    rng = np.random.default_rng(1)
    tallies: dict[int, Tally] = defaultdict(lambda: Tally([], [], []))
    fired = [shot for world in worlds.live_fire("selected") for shot in shots(world)]
    for shot in worlds.progress(fired, len(fired), "shots"):
        for sensors in SENSORS:
            for _ in range(draws if len(shot.nodes) >= sensors else 0):
                draw(shot, sensors, rng, tallies[sensors])
    print("sensors  draws  within 15 m: soundranger  goal  published  median m  published  ellipses hold 50  90  95 %")
    for sensors, goal in zip(SENSORS, GOALS, strict=True):
        tally = tallies[sensors]
        near = [100.0 * np.mean(np.array(errors) <= NEAR_M) for errors in (tally.ours_m, tally.published_m)]
        held = [100.0 * np.mean(np.array(tally.squares) <= level) for level in LEVELS]
        medians = np.median(tally.ours_m), np.median(tally.published_m)
        print(
            f"{sensors:7d} {len(tally.ours_m):6d} {near[0]:25.2f} {goal:5.1f} {near[1]:10.2f} {medians[0]:9.2f} "
            f"{medians[1]:10.2f} {held[0]:17.1f} {held[1]:4.1f} {held[2]:4.1f}"
        )


if __name__ == "__main__":
    main()
