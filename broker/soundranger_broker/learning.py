"""Learning: what settled bangs teach about the air and the nodes, for the looks that follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.given import Given
from soundranger_broker.location import Medium
from soundranger_broker.pathmemory import PathMemory
from soundranger_broker.window import Bang, Heard

# Where no node knows its temperature: temperate air, and a wide prior.
UNKNOWN_TEMPERATURE_C, UNKNOWN_TEMPERATURE_SIGMA_K = 12.0, 9.0
# A thermometer in a box on a wall is off by this much.
TEMPERATURE_SIGMA_K = 3.0
# Change of the speed of sound with temperature, m/s per K.
SPEED_PER_KELVIN = 0.6
# Wind is rarely more than 5 m/s; a component of it has this standard deviation.
WIND_SIGMA_MPS = 2.5


@dataclass(frozen=True)
class Fault:
    """A node that is wrong: its clock by `size_s` (positive: late) or its place by `size_m`; `sigma` of that.

    `bangs` tell it, the first of them at `since_ns`.
    """

    node: str
    kind: Literal["clock", "place"]
    sigma: float
    since_ns: int
    bangs: int
    size_s: float | None = None
    size_m: float | None = None


class Learner:
    """Takes bangs as they are settled, in a fixed order; says what is known before the next look.

    What it says depends on the detections alone, not on when or in which portions they came.
    """

    def __init__(self) -> None:
        self._paths = PathMemory()

    def given(self, inside: Sequence[Heard]) -> Given:
        """Return what is known before a look at the arrivals `inside`."""
        return Given(_weather(inside))

    def observe(self, bang: Bang) -> Bang:
        """Learn from a settled bang; return it as what is known makes it."""
        return self._paths.observe(bang)

    def sharpen(self, bang: Bang) -> Bang:
        """Return a bang that may still change as what is known makes it."""
        return self._paths.sharpen(bang)

    def faults(self) -> Sequence[Fault]:
        """Return the nodes that are known to be wrong."""
        return ()


def _weather(heard: Sequence[Heard]) -> Medium:
    """Return the prior of the air: the median of the nodes' temperatures where any knows it, and no wind."""
    # One a node: those that chatter have no more say than others.
    known = {
        one.detection.node: one.detection.temperature_c for one in heard if one.detection.temperature_c is not None
    }
    temperature_c = float(np.median(list(known.values()))) if known else UNKNOWN_TEMPERATURE_C
    sigma_k = TEMPERATURE_SIGMA_K if known else UNKNOWN_TEMPERATURE_SIGMA_K
    return Medium(speed_of_sound_mps(temperature_c), sigma_k * SPEED_PER_KELVIN, WIND_SIGMA_MPS)
