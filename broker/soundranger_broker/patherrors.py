"""Path errors: how uneven the ways of sound are in a network, as settled bangs tell it.

Every bang is located over a grid of path errors, so how well each of them explains it is at hand. The share of bangs
that has each is what explains all bangs together best (Kiefer, Wolfowitz 1956), found by expectation and maximisation.
In a field the next ellipse then has no room for errors that never come, even with few arrivals; in a town it has.
"""

from collections import deque

import numpy as np

from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ANY_PATH

# The expectation before anything was heard weighs as much as so many bangs.
PRIOR_BANGS = 2.0
# So many bangs are remembered: nodes are added and moved, and trees get leaves.
MOST_BANGS = 200
# Each bang moves the shares only a little, so that few steps from those before it suffice.
STEPS = 5


class PathErrors:
    """Learns from bangs how likely the next one has each path error of the grid: `shares` (g,)."""

    def __init__(self) -> None:
        self._likelihoods: deque[Floats] = deque(maxlen=MOST_BANGS)
        self.shares: tuple[float, ...] = ANY_PATH

    def observe(self, bang: Bang) -> None:
        """Learn from one bang more."""
        self._likelihoods.append(bang.location.path_shares / bang.given.path_shares)
        likelihoods, prior, shares = np.array(self._likelihoods), np.array(ANY_PATH), np.array(self.shares)
        for _ in range(STEPS):
            each = likelihoods * shares
            counts = (each / each.sum(axis=1, keepdims=True)).sum(axis=0) + PRIOR_BANGS * prior
            shares = counts / counts.sum()
        self.shares = tuple(shares.tolist())
