"""How good the system clock is: what the rest of the node needs to know of it, whoever says so."""

from dataclasses import dataclass
from typing import Literal

from soundranger_node.messages import ClockTier

# What surely bounds an error is taken for three standard deviations of it, and where nobody bounds it, the other way.
BOUND_SIGMAS = 3

Leap = Literal["none", "insert", "delete"]


@dataclass(frozen=True)
class ClockQuality:
    """One judgement on the system clock.

    `good` says whether it has been set at all: what is heard before that waits until it is. `sigma_s` is one standard
    deviation of its error and `bound_s` what the error surely stays below, None where nobody says. `ahead_s` is how
    far it is known to be ahead of UTC (from a GPS pulse), and `age_s` how long ago that was measured; whoever dates by
    it takes that off. `leap` is what is announced for the end of the UTC day. `source` names who vouches for it, `why`
    is one sentence for its owner.
    """

    tier: ClockTier
    good: bool
    sigma_s: float
    bound_s: float | None
    source: str
    why: str
    ahead_s: float = 0.0
    age_s: float = 0.0
    leap: Leap = "none"
