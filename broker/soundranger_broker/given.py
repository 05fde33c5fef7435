"""What is known before a look at arrivals: the air, the paths, how far off nodes are, how often there are bangs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from soundranger_broker.location import ANY_LATE, ANY_PATH, Medium
from soundranger_broker.paths import Paths

# Bangs an hour and square kilometre that a network expects before it has heard any.
EXPECTED_PER_HOUR_KM2 = 20.0


@dataclass(frozen=True)
class Offset:
    """How much later than the truth a node's times are known to be (s, mean), and how well that is known (s)."""

    mean_s: float
    sigma_s: float


# A node that is not known to be off.
RIGHT = Offset(0.0, 0.0)


@dataclass(frozen=True)
class Given:
    """What earlier bangs and the weather say before a look; `offsets` by node, only of those that are known to be off.

    `bangs_per_hour_km2` is how many bangs are expected, `path_shares` how likely each path error of
    `solver.PATH_SIGMAS_S` is, `late_shares` how likely each share of late arrivals of `solver.LATE_SHARES`; `paths`, of
    a bang from a place where there were bangs before, what those taught of the paths to its nodes, and of the air: the
    location then rests on that instead of `medium`. A location can be computed again from its arrivals and this.
    """

    medium: Medium
    offsets: Mapping[str, Offset] = field(default_factory=dict)
    bangs_per_hour_km2: float = EXPECTED_PER_HOUR_KM2
    path_shares: tuple[float, ...] = ANY_PATH
    late_shares: tuple[float, ...] = ANY_LATE
    paths: Paths | None = None
