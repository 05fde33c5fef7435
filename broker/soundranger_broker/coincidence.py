"""Coincidence: many nodes report at one moment, as no sound makes them: lightning, or a surge of the mains.

Four of them lie on a circle often enough for a bang at its middle to explain them; the others give it away.
"""

from collections.abc import Iterable

import numpy as np

from soundranger_broker.bang import Bang, Heard

# Reports this near in time are of one moment: clocks and onsets differ by less, and sound goes two metres.
MOMENT_NS = 5_000_000
# Two nodes may report at the moment at which a bang reaches others, by chance; so many do not.
MOST_BY_CHANCE = 2


def is_coincidence(bang: Bang, inside: Iterable[Heard]) -> bool:
    """Say whether a bang rests on reports of one moment, `inside` which other nodes reported too that it left out."""
    times_ns = np.array([one.detection.time_ns for one in bang.heard])
    weights = bang.location.weights
    order = np.argsort(times_ns)
    middle = order[np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())]
    moment_ns = int(times_ns[middle])
    if weights[np.abs(times_ns - moment_ns) <= MOMENT_NS].sum() < 0.5 * weights.sum():
        return False
    explained = {one.detection.node for one in bang.heard}
    others = {
        one.detection.node
        for one in inside
        if abs(one.detection.time_ns - moment_ns) <= MOMENT_NS and one.detection.node not in explained
    }
    return len(others) > MOST_BY_CHANCE
