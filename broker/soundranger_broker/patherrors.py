"""Path errors: how uneven the ways of sound are in a network, as settled bangs tell it.

Every bang is located over a grid of path errors, so how well each of them explains it is at hand. The share of bangs
that has each is what explains all bangs together best (Kiefer, Wolfowitz 1956), found by expectation and maximisation.
The share of arrivals that come late is learnt alike. In a field the next ellipse then has no room for errors that never
come, even with few arrivals; in a town it has.
"""

from collections import deque

import numpy as np

from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ANY_LATE, ANY_PATH

# The expectation before anything was heard weighs as much as so many bangs.
PRIOR_BANGS = 2.0
# So many bangs are remembered: nodes are added and moved, and trees get leaves.
MOST_BANGS = 200
# Each bang moves the shares only a little, so that few steps from those before it suffice.
STEPS = 5


class Shares:
    """How likely each value of a grid is in the next bang, `now` (g,), as earlier bangs have it."""

    def __init__(self, prior: tuple[float, ...]) -> None:
        self._prior = np.array(prior)
        self._likelihoods: deque[Floats] = deque(maxlen=MOST_BANGS)
        self.now = prior

    def observe(self, likelihood: Floats) -> None:
        """Learn from how well each value (g,) explains one bang more."""
        self._likelihoods.append(likelihood)
        likelihoods, shares = np.array(self._likelihoods), np.array(self.now)
        for _ in range(STEPS):
            each = likelihoods * shares
            counts = (each / each.sum(axis=1, keepdims=True)).sum(axis=0) + PRIOR_BANGS * self._prior
            shares = counts / counts.sum()
        self.now = tuple(shares.tolist())


class PathErrors:
    """Learns from bangs how likely the next one has each path error, and each share of late arrivals, of the grids."""

    def __init__(self) -> None:
        self._paths, self._lates = Shares(ANY_PATH), Shares(ANY_LATE)

    @property
    def shares(self) -> tuple[float, ...]:
        """How likely each of `PATH_SIGMAS_S` is."""
        return self._paths.now

    @property
    def late_shares(self) -> tuple[float, ...]:
        """How likely each of `LATE_SHARES` is."""
        return self._lates.now

    def observe(self, bang: Bang) -> None:
        """Learn from one bang more."""
        self._paths.observe(bang.location.path_shares / bang.given.path_shares)
        self._lates.observe(bang.location.late_shares / bang.given.late_shares)
