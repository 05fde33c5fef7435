"""Locator speed: solves a second against scipy's least squares and MLG on the same arrivals, and the errors of all.

Eight nodes on a square kilometre, 1 ms timing errors; then the same with one arrival 0.3 s late. One thread, processor
time, one place after the other through the public function that a program would call.
"""

import argparse
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from soundranger_broker.geodesy import Floats
from soundranger_broker.location import Medium, locate
from soundranger_broker.warm import warm_up

SPEED_MPS = 340.0
SIGMA_S = 0.001
# An error beyond this (m) points at another house.
GROSS_M = 15.0
# Of a robust solver, with its ellipse.
GOAL_A_SECOND, GOAL_P95_M = 20_000, 3.0

Solver = Callable[[Floats, Floats], Floats]


def ours(nodes: Floats, times_s: Floats) -> Floats:
    """Return the place by soundranger, with its ellipse, speed of sound and wind nearly known as scipy has them."""
    sigmas = np.full(len(times_s), SIGMA_S)
    return locate(nodes, times_s, sigmas, Medium(SPEED_MPS, 0.1, 0.1)).theta[:2]


def scipy_plain(nodes: Floats, times_s: Floats) -> Floats:
    """Return the place by scipy from the mean of the nodes, without defence against outliers."""
    return _scipy(nodes, times_s, "linear")


def scipy_robust(nodes: Floats, times_s: Floats) -> Floats:
    """Return the place by scipy with a soft-L1 loss."""
    return _scipy(nodes, times_s, "soft_l1")


def mlg(nodes: Floats, times_s: Floats) -> Floats:
    """Return the place by linear least squares alone (Mathias, Leonardi, Galati 2008)."""
    paths = SPEED_MPS * (times_s - times_s.mean())
    design = np.c_[2.0 * nodes[:, :2], -2.0 * paths, np.ones(len(nodes))]
    right = np.sum(nodes[:, :2] ** 2, axis=1) - paths**2
    return np.asarray(np.linalg.lstsq(design, right, rcond=None)[0][:2])


def _scipy(nodes: Floats, times_s: Floats, loss: Literal["linear", "soft_l1"]) -> Floats:
    def misfit(theta: Floats) -> Floats:
        ranges = np.linalg.norm(nodes[:, :2] - theta[:2], axis=1)
        return np.asarray((times_s - theta[2] / SPEED_MPS - ranges / SPEED_MPS) / SIGMA_S)

    start = np.array([*nodes[:, :2].mean(axis=0), (times_s.min() - 1.0) * SPEED_MPS])
    return np.asarray(least_squares(misfit, start, loss=loss).x[:2])


def cases(late_s: float, count: int) -> list[tuple[Floats, Floats, Floats]]:
    """Return (nodes, times, source) of random networks; one arrival of each is `late_s` late."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        nodes = np.c_[rng.uniform(0, 1000, (8, 2)), np.zeros(8)]
        source = rng.uniform(0, 1000, 2)
        times_s = np.linalg.norm(nodes[:, :2] - source, axis=1) / SPEED_MPS + rng.normal(0, SIGMA_S, 8)
        times_s[rng.integers(8)] += late_s
        made.append((nodes, times_s, source))
    return made


def main() -> None:
    """Print a table: solver, arrivals, solves a second, median and 95th percentile of the error, share over 15 m."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000, help="networks for each row")
    count = parser.parse_args().cases
    warm_up()
    solvers: dict[str, Solver] = {
        "soundranger": ours,
        "MLG": mlg,
        "scipy": scipy_plain,
        "scipy soft L1": scipy_robust,
    }
    print(f"{'solver':15s} {'arrivals':10s} {'solves/s':>9s} {'median m':>9s} {'p95 m':>8s} {'> 15 m':>8s}")
    for label, late_s in (("clean", 0.0), ("one late", 0.3)):
        made = cases(late_s, count)
        for name, solver in solvers.items():
            solver(*made[0][:2])
            started = time.process_time()
            errors = [float(np.linalg.norm(solver(nodes, times_s) - source)) for nodes, times_s, source in made]
            rate = len(made) / (time.process_time() - started)
            p95_m, gross = np.percentile(errors, 95), 100.0 * np.mean(np.array(errors) > GROSS_M)
            print(
                f"{name:15s} {label:10s} {rate:9.0f} {np.median(errors):9.2f} {p95_m:8.2f} {gross:6.1f} %",
                flush=True,
            )
    print(f"{'goal':15s} {'one late':10s} {GOAL_A_SECOND:9.0f} {'':9s} {GOAL_P95_M:8.2f}")


if __name__ == "__main__":
    main()
