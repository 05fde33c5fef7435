"""Doubts: why a bang that was located may be false or badly placed, in sentences for people."""

from collections.abc import Iterator

import numpy as np

from soundranger_broker import words
from soundranger_broker.bang import MIN_NODES, USED_WEIGHT, Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import ellipse95

# An ellipse so many times as long as wide has a poor distance; rounder than that, being outside costs little.
LONG_ELLIPSE = 3.0
# Silent nodes are worth a word from this share of those that heard it: one truck by one node is no doubt.
SILENT_SHARE = 1.0 / 3.0
# Paths that are this uneven, or arrivals this late that do not count, mean that something is not as it is taken to be.
UNEVEN_PATH_S = 0.010
# Another place that is this likely has to be told.
ALTERNATIVE_SHARE = 0.05
# Below this, at least one in ten such events is false.
LOW_PROBABILITY = 0.9


def doubts(bang: Bang, probability: float) -> str | None:
    """Return the reasons to doubt a bang that is real with a `probability`, a sentence each, or None without any."""
    return " ".join(map(words.sentence, _reasons(bang, probability))) or None


def _reasons(bang: Bang, probability: float) -> Iterator[str]:
    yield from _odds(bang, probability)
    yield from _places(bang)
    yield from _silence(bang)
    yield from _offsets(bang)
    yield from _residuals(bang)


def _odds(bang: Bang, probability: float) -> Iterator[str]:
    nodes = len({one.detection.node for one in bang.heard})
    if nodes <= MIN_NODES:
        yield f"{words.number(nodes)} nodes heard it, the least that makes an event"
    if probability < LOW_PROBABILITY:
        yield f"other sounds meet like this by chance, too: one such event in {1.0 / (1.0 - probability):.0f} is false"


def _places(bang: Bang) -> Iterator[str]:
    for east_m, north_m, share in bang.location.alternatives:
        if share >= ALTERNATIVE_SHARE:
            way = np.array([east_m, north_m]) - bang.location.theta[:2]
            where = f"{words.metres(float(np.linalg.norm(way)))} to the {words.bearing(*way)}"
            yield f"the same arrivals fit another place, {where}, with a probability of {share:.0%}"
    major_m, minor_m, _ = ellipse95(bang.location.covariance[:2, :2])
    if major_m > LONG_ELLIPSE * minor_m and _is_outside(bang):
        yield "it lies outside the nodes that heard it: the direction is good, the distance is not"


def _is_outside(bang: Bang) -> bool:
    """Say whether a straight line parts the place from all nodes that heard it."""
    fixes = np.array([(one.detection.lat, one.detection.lon, one.detection.alt_m) for one in bang.heard])
    ways: Floats = bang.frame.to_enu(*fixes.T)[:, :2] - bang.location.theta[:2]
    angles = np.sort(np.arctan2(ways[:, 1], ways[:, 0]))
    gaps = np.diff(angles, append=angles[0] + 2.0 * np.pi)
    return bool(gaps.max() > np.pi)


def _silence(bang: Bang) -> Iterator[str]:
    silent = len(bang.silent)
    if silent and silent >= SILENT_SHARE * len(bang.heard):
        yield f"{words.counted(silent, 'node')} should have heard it and did not ({words.names(bang.silent)})"


def _offsets(bang: Bang) -> Iterator[str]:
    for node in sorted({one.detection.node for one in bang.heard} & bang.given.offsets.keys()):
        off = bang.given.offsets[node]
        if abs(off.mean_s) > off.sigma_s:
            size = f"{words.seconds(off.mean_s)} {'late' if off.mean_s > 0 else 'early'}"
        else:
            # It is elsewhere than it says: from where a bang comes decides by how much.
            size = f"off by up to {words.seconds(off.sigma_s)}"
        yield f"node {node} took part, whose times are {size}"


def _residuals(bang: Bang) -> Iterator[str]:
    unused = bang.location.weights < USED_WEIGHT
    if unused.any():
        most_s = float(np.abs(bang.location.residuals_s[unused]).max())
        if most_s > UNEVEN_PATH_S:
            share = f"{words.number(int(unused.sum()))} of {words.number(len(unused))} arrivals"
            yield f"{share} do not fit the place and do not count, by up to {words.seconds(most_s)}"
    if bang.location.path_sigma_s > UNEVEN_PATH_S:
        yield f"the ways of the sound are uneven by {words.seconds(bang.location.path_sigma_s)}"
