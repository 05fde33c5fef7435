"""Honesty of the ellipses: how often those stated to hold the truth with 50, 90 and 95 % do, over random networks.

Networks of 4 to 20 nodes, half a kilometre to three across, on roofs; bangs inside the nodes' square and up to 500 m
outside it; temperature and wind as far off as their priors say. Every node hears; half of the networks stand in the
open, in the other half a quarter of the arrivals is late by an exponential of 30 ms, as in a town.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

import worlds
from soundranger_broker.acoustics import speed_of_sound_mps, travel_time_s
from soundranger_broker.geodesy import Floats
from soundranger_broker.learning import SPEED_PER_KELVIN, TEMPERATURE_SIGMA_K, WIND_SIGMA_MPS
from soundranger_broker.location import Medium, locate
from soundranger_broker.warm import warm_up

GROUPS = ((4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 12), (13, 20))
SIDE_M = (500.0, 3_000.0)
OUTSIDE_M = 500.0
ROOF_M = 10.0
SIGMA_S = (0.0003, 0.003)
LATE_SHARE, LATE_MEAN_S = 0.25, 0.030
MEDIUM = Medium(speed_of_sound_mps(12.0), TEMPERATURE_SIGMA_K * SPEED_PER_KELVIN, WIND_SIGMA_MPS)
# Squared Mahalanobis radii of ellipses that hold 50, 90 and 95 %.
LEVELS = tuple(-2.0 * math.log(1.0 - share) for share in (0.5, 0.9, 0.95))


class Case(NamedTuple):
    """One bang: nodes (n, 3) metres, times and sigmas (n,), its place (2,), and what was drawn for it."""

    nodes: Floats
    times_s: Floats
    sigmas_s: Floats
    place: Floats
    outside: bool
    town: bool


def cases(rng: np.random.Generator, networks: int) -> Iterator[Case]:
    """Yield bangs in random networks; every number of arrivals of `GROUPS` comes as often."""
    for number in range(networks):
        low, high = GROUPS[number % len(GROUPS)]
        count, side = int(rng.integers(low, high + 1)), rng.uniform(*SIDE_M)
        nodes = np.c_[rng.uniform(-side / 2, side / 2, (count, 2)), rng.uniform(0.0, ROOF_M, count)]
        outside, town = bool(rng.integers(2)), bool(rng.integers(2))
        place = rng.uniform(-side / 2, side / 2, 2)
        if outside:
            place[rng.integers(2)] = rng.choice([-1, 1]) * (side / 2 + rng.uniform(0.0, OUTSIDE_M))
        sigmas = rng.uniform(*SIGMA_S, count)
        speed, wind = rng.normal(MEDIUM.speed_mps, MEDIUM.speed_sigma_mps), rng.normal(0.0, WIND_SIGMA_MPS, 2)
        times = travel_time_s(nodes - [*place, 0.0], speed, wind[0], wind[1]) + rng.normal(0.0, sigmas)
        if town:
            times = times + (rng.random(count) < LATE_SHARE) * rng.exponential(LATE_MEAN_S, count)
        yield Case(nodes, times, sigmas, place, outside, town)


def square_of(case: Case) -> float:
    """Return the squared Mahalanobis distance of the place that is located for a bang from the true one."""
    found = locate(case.nodes, case.times_s, case.sigmas_s, MEDIUM)
    off = found.theta[:2] - case.place
    return float(off @ np.linalg.solve(found.covariance[:2, :2], off))


def print_row(arrivals: str, where: str, paths: str, squares: Sequence[float]) -> None:
    """Print how often the ellipses of some bangs hold the truth."""
    shares = "".join(f"{100.0 * np.mean(np.array(squares) <= level):7.1f}" for level in LEVELS)
    print(f"{arrivals:>8s}  {where:7s}  {paths:5s} {len(squares):6d}{shares}", flush=True)


def main() -> None:
    """Print a table: one line a number of arrivals, place and kind of network, and one for each number and all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=5_000, help="random networks, with one bang each")
    networks = parser.parse_args().networks
    warm_up()
    squares: dict[tuple[int, bool, bool], list[float]] = {}
    made = cases(np.random.default_rng(1), networks)
    for number, case in enumerate(worlds.progress(made, networks, "networks")):
        squares.setdefault((number % len(GROUPS), case.outside, case.town), []).append(square_of(case))
    print("arrivals  bang     paths   bangs   50 %   90 %   95 % ellipses hold the truth")
    for group, (low, high) in enumerate(GROUPS):
        label = f"{low}" if low == high else f"{low}-{high}"
        own = {key: held for key, held in sorted(squares.items()) if key[0] == group}
        for (_, outside, town), held in own.items():
            print_row(label, "outside" if outside else "inside", "town" if town else "open", held)
        print_row(label, "all", "all", [square for held in own.values() for square in held])
    print_row("all", "all", "all", [square for held in squares.values() for square in held])


if __name__ == "__main__":
    main()
