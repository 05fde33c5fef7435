"""Assignment: which bang gets which arrival where several want the same, by what it is worth to each."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Ints


def deal(stakes: Floats, starts: Ints) -> Ints:
    """Return the arrivals (k, n; -1: none) that bangs get, by what each arrival is worth to each bang (k, m).

    The arrivals of node n are `starts[n]` to `starts[n + 1]`; those of each node go where they are worth most in all,
    and none to a bang that it is worth nothing to.
    """
    dealt = np.full((len(stakes), len(starts) - 1), -1)
    for n in range(dealt.shape[1]):
        gains = np.maximum(stakes[:, starts[n] : starts[n + 1]], 0.0)
        bangs, arrivals = linear_sum_assignment(gains, maximize=True)
        worth = gains[bangs, arrivals] > 0.0
        dealt[bangs[worth], n] = starts[n] + arrivals[worth]
    return dealt
