"""A simulated town: its weather, its nodes with the errors of their clocks, and what stands around each node."""

import math
from dataclasses import dataclass

import numpy as np

from soundranger_broker.acoustics import Floats, speed_of_sound_mps
from soundranger_broker.geodesy import Frame
from soundranger_node.errors import InputError
from soundranger_node.messages import ClockTier

# The open water of the Markermeer: nobody lives there, so no map can show a simulated shooting at a real address.
DEFAULT_ORIGIN = (52.53, 5.23)
# Height above the WGS84 ellipsoid of the sea in that region (the geoid lies about 43 m above the ellipsoid).
GROUND_ALT_M = 43.0
# Fewer nodes span no area in which to fire.
MIN_NODES = 3
# A full-scale sine of a usual MEMS microphone (INMP441 data sheet: -26 dBFS at 94 dB SPL) peaks at 120 + 3 dB SPL.
FULL_SCALE_DB_SPL = 123.0
# One node in four has a USB GPS without a pulse per second; the others set their clocks over the internet.
GPS_SHARE = 0.25
# What such a GPS's sentences are worth.
GPS_SIGMA_S = 0.010
# What NTP is worth, from a good local line to a poor one.
NTP_SIGMA_S = (0.001, 0.004)
# A residential street by night to one by day.
NOISE_DB_SPL = (45.0, 55.0)
# From a garden's wall to the other side of a square.
WALL_DISTANCE_M = (8.0, 80.0)
# A flat facade to a broken one, beyond its low-pass.
WALL_LOSS_DB = (3.0, 10.0)
# Over a low wall to over a house: 8 dB and 0.15 ms to 22 dB and 4 ms, at 500 Hz.
SCREEN_DETOUR_M = (0.05, 1.5)
SCREEN_WIDTH_DEG = (20.0, 60.0)


@dataclass(frozen=True)
class Wall:
    """A vertical facade near a node, endless to both sides, `distance_m` from the node towards `bearing_deg`.

    `loss_db` is what the reflection costs at low frequencies.
    """

    bearing_deg: float
    distance_m: float
    loss_db: float


@dataclass(frozen=True)
class Screen:
    """An obstacle near a node, across the bearings within half of `width_deg` of `bearing_deg`.

    Sound from there comes over its edge, by a way that is `detour_m` longer: late and muffled.
    """

    bearing_deg: float
    width_deg: float
    detour_m: float


@dataclass(frozen=True)
class VirtualNode:
    """A node of a town: where it is, what its clock is worth, how quiet its place is, and what stands around it.

    The clock is wrong by the constant `clock_error_s` (positive: fast), drawn from a normal distribution of
    `clock_sigma_s`, which is also what the node states. `noise_db_spl` is the rms level of the background between
    gusts; `full_scale_db_spl` the level of the peak pressure at which the microphone clips.
    """

    name: str
    lat: float
    lon: float
    alt_m: float
    clock_tier: ClockTier
    clock_error_s: float
    clock_sigma_s: float
    noise_db_spl: float
    full_scale_db_spl: float = FULL_SCALE_DB_SPL
    walls: tuple[Wall, ...] = ()
    screens: tuple[Screen, ...] = ()


@dataclass(frozen=True)
class Town:
    """Nodes in uniform air: one temperature, one humidity, one wind (the direction it blows to), flat ground.

    `lat` and `lon` are its middle, where the frame has its origin in which wind and distances are taken.
    """

    lat: float
    lon: float
    nodes: tuple[VirtualNode, ...]
    temperature_c: float
    humidity_percent: float
    wind_east_mps: float
    wind_north_mps: float

    @property
    def frame(self) -> Frame:
        """The east-north-up frame of the town."""
        return Frame(self.lat, self.lon)

    @property
    def speed_of_sound_mps(self) -> float:
        """The speed of sound in the town's still air."""
        return speed_of_sound_mps(self.temperature_c)

    def node_places_m(self) -> Floats:
        """Return the nodes' east, north and up in the town's frame, shape (nodes, 3), metres."""
        return self.frame.to_enu(
            [node.lat for node in self.nodes], [node.lon for node in self.nodes], [node.alt_m for node in self.nodes]
        )


def make_town(seed: int, nodes: int = 9, side_m: float = 1200.0, origin: tuple[float, float] = DEFAULT_ORIGIN) -> Town:
    """Return the town of a seed: nodes on a jittered grid over a square of `side_m`, centred on `origin` (lat, lon).

    Nodes stand 3 to 10 m above the ground, with 1 to 3 walls and 0 to 2 screens each.

    Raises:
        InputError: too few nodes, or a square without an area.
    """
    if nodes < MIN_NODES:
        raise InputError("simulated town", f"{nodes} nodes span no area", f"ask for at least {MIN_NODES}")
    if not (math.isfinite(side_m) and side_m > 0):
        raise InputError("simulated town", f"a side of {side_m} m has no area", "ask for a side above 0 m")
    rng = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(nodes))
    cells = rng.permutation(columns**2)[:nodes]
    corners = np.stack([cells % columns, cells // columns], axis=-1)
    places_m = (corners + rng.uniform(0.2, 0.8, (nodes, 2))) * side_m / columns - side_m / 2
    frame = Frame(*origin)
    wind_mps, wind_bearing = rng.uniform(0.0, 6.0), rng.uniform(0.0, 2 * math.pi)
    return Town(
        lat=origin[0],
        lon=origin[1],
        nodes=tuple(
            _make_node(rng, f"sim-{number:02d}", frame.to_geodetic(east_m, north_m)[:2])
            for number, (east_m, north_m) in enumerate(places_m.tolist(), start=1)
        ),
        temperature_c=rng.uniform(5.0, 25.0),
        humidity_percent=rng.uniform(40.0, 90.0),
        wind_east_mps=wind_mps * math.sin(wind_bearing),
        wind_north_mps=wind_mps * math.cos(wind_bearing),
    )


def _make_node(rng: np.random.Generator, name: str, place: tuple[float, float]) -> VirtualNode:
    by_gps = rng.random() < GPS_SHARE
    sigma_s = GPS_SIGMA_S if by_gps else rng.uniform(*NTP_SIGMA_S)
    return VirtualNode(
        name=name,
        lat=place[0],
        lon=place[1],
        alt_m=GROUND_ALT_M + rng.uniform(3.0, 10.0),
        clock_tier="gps" if by_gps else "ntp",
        clock_error_s=rng.normal(0.0, sigma_s),
        clock_sigma_s=sigma_s,
        noise_db_spl=rng.uniform(*NOISE_DB_SPL),
        walls=tuple(
            Wall(rng.uniform(0.0, 360.0), rng.uniform(*WALL_DISTANCE_M), rng.uniform(*WALL_LOSS_DB))
            for _ in range(rng.integers(1, 4))
        ),
        screens=tuple(
            Screen(rng.uniform(0.0, 360.0), rng.uniform(*SCREEN_WIDTH_DEG), _log_uniform(rng, *SCREEN_DETOUR_M))
            for _ in range(rng.integers(0, 3))
        ),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
