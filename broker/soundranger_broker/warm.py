"""Compiles the numerics once, so that the first bang does not wait for it; numba keeps the result on disk."""

import math

import numpy as np

from soundranger_broker import scoring, search
from soundranger_broker.backprojection import Region
from soundranger_broker.contest import Contest
from soundranger_broker.joint import JointEvidence
from soundranger_broker.levels import MEASURES
from soundranger_broker.location import ANY_LATE, ANY_PATH, Medium, locate
from soundranger_broker.rounds import Rounds
from soundranger_broker.solver import FLOOR_HZ, LATE_SHARE, arrival_log_density
from soundranger_broker.starts import height_prior
from soundranger_broker.window import AGAIN

# A square of four nodes, a kilometre across.
_NODES_M = np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0], [1000.0, 1000.0, 0.0]])
_SOURCE_M = np.array([300.0, 400.0, 0.0])
_SPEED_MPS = 340.0


def warm_up() -> None:
    """Run every compiled function once on a made-up bang; a minute the first time, then an instant."""
    times_s = np.linalg.norm(_NODES_M - _SOURCE_M, axis=1) / _SPEED_MPS
    count = len(times_s)
    sigmas_s = np.full(count, 0.001)
    medium = Medium(_SPEED_MPS, 2.0, 2.5)
    locate(_NODES_M, times_s, sigmas_s, medium, height=height_prior(_NODES_M))
    arrival_log_density(0.0, 0.01, LATE_SHARE, FLOOR_HZ)
    scene = scoring.make_scene(_NODES_M[:, :2], np.zeros(count, dtype=np.int64), _SPEED_MPS, 2000.0, math.inf)
    arrivals = scoring.Arrivals(
        times_s=times_s,
        sigmas_s=sigmas_s,
        gains=scoring.gain(sigmas_s, np.full(count, 0.01)),
        alive=np.ones(count, dtype=bool),
        starts=np.arange(count + 1),
    )
    evidence = scoring.Evidence(
        places=_NODES_M,
        sigmas_s=sigmas_s,
        log_clutter=np.full(count, -4.0),
        snr_db=np.full(count, 30.0),
        medium=medium.mean,
        precision=medium.precision,
        log_shares=np.log(ANY_PATH),
        late_shares=np.array(ANY_LATE),
        log_prior=-20.0,
        low=np.zeros(2),
        high=np.full(2, 1000.0),
        fall_m=300.0,
        least_log_odds=0.0,
    )
    region = Region(np.array([0.0, 0.0, -0.5]), np.array([1000.0, 1000.0, 1.0]))
    levels_db = np.full((count, MEASURES), 30.0)
    known = search.Known(_SOURCE_M[None, :2], np.zeros(1), levels_db[None])
    task = search.Task(region, 1.0, np.zeros((1, 3)), np.ones(count, dtype=bool), count, 0.0, 0.0)
    search.find_bangs(scene, arrivals, evidence, levels_db, known, task)
    earlier = Rounds(known.places, known.times_s, np.ones((1, count), dtype=bool), known.levels_db)
    joint = JointEvidence(scene, arrivals, evidence, levels_db, earlier, AGAIN)
    # Two bangs that want the same arrivals, so that there is something to contest.
    draft = (9.0, np.array([*_SOURCE_M[:2], 0.0]), np.arange(count))
    Contest(joint, count, -1.0).settle([draft, draft])


if __name__ == "__main__":
    warm_up()
