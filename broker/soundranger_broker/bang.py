"""What a bang is: arrivals as evidence, and where and when they put their source."""

from dataclasses import dataclass, replace

from soundranger_broker.geodesy import Frame
from soundranger_broker.given import Given
from soundranger_broker.location import Location
from soundranger_node.messages import Detection

# Three arrivals have two solutions, and agree with nearly any: they make no event.
MIN_NODES = 4
# A location rests on an arrival that more likely than not came the direct way.
USED_WEIGHT = 0.5
# Latitude and longitude (WGS84 degrees) and height (m).
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Heard:
    """A detection as evidence: the error of its time, with that of its place in it, and the clutter rate there."""

    detection: Detection
    sigma_s: float
    clutter_hz: float

    @property
    def name(self) -> tuple[str, str]:
        """The node and the detection's id, which is the node's own."""
        return self.detection.node, self.detection.id


@dataclass(frozen=True)
class Bang:
    """A hypothesis that was taken: the arrivals, where they put the bang, and the log odds that there was one.

    `location.theta` holds the time in seconds after `epoch_ns`; `silent` are nodes likely to have heard it;
    `given` is what the location rests on beside the arrivals.
    """

    heard: tuple[Heard, ...]
    location: Location
    epoch_ns: int
    source_up_m: float
    log_odds: float
    silent: tuple[str, ...]
    frame: Frame
    given: Given

    @property
    def time_ns(self) -> int:
        """The UTC of the bang."""
        return self.epoch_ns + round(float(self.location.theta[2]) * 1e9)

    @property
    def place(self) -> Place:
        """Where the bang was."""
        return self.frame.to_geodetic(float(self.location.theta[0]), float(self.location.theta[1]), self.source_up_m)

    def within(self, frame: Frame) -> "Bang":
        """Return the bang with its place in another frame; its covariance stays in the axes of the old one."""
        if frame == self.frame:
            return self
        theta = self.location.theta.copy()
        theta[0], theta[1], up_m = frame.to_enu(*self.place)
        return replace(self, location=replace(self.location, theta=theta), source_up_m=float(up_m), frame=frame)
