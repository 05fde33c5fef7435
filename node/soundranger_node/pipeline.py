"""The pipeline: from blocks of sound to the detections that a node publishes."""

from dataclasses import dataclass
from math import hypot
from typing import Any

from msgspec.structs import replace

from soundranger_node.blocks import Block, Moment, Timebase, Timing
from soundranger_node.detector import Detector, Impulse
from soundranger_node.messages import Detection

# The name of the onset's own term in the sigma of a time.
ONSET_TERM = "onset"


@dataclass(frozen=True)
class Place:
    """Where a microphone is: WGS84 degrees, metres above the ellipsoid, and one standard deviation of all three."""

    lat: float
    lon: float
    alt_m: float
    position_sigma_m: float


@dataclass(frozen=True)
class Heard:
    """A detection, and the sample of the stream where its onset is.

    Where `undated` is set, the detection's time is only what a clock says that nobody vouches for: it is to be dated
    by the moment once there is a better one.
    """

    detection: Detection
    sample: float
    undated: Moment | None = None

    @property
    def id(self) -> str:
        """The detection's id."""
        return self.detection.id


def dated(detection: Detection, timing: Timing) -> Detection:
    """Return a detection with another time of its onset; how well the onset is known stays."""
    onset_sigma_s = (detection.sigma_terms_s or {}).get(ONSET_TERM, 0.0)
    return replace(detection, **_when(timing, onset_sigma_s))


def _when(timing: Timing, onset_sigma_s: float) -> dict[str, Any]:
    """Return the fields of a detection that say when it was, and how sure that is."""
    terms_s = {**timing.terms_s, ONSET_TERM: onset_sigma_s}
    return {
        "time_ns": timing.time_ns,
        "time_sigma_s": hypot(*terms_s.values()),
        "sigma_terms_s": {name: float(f"{term:.3g}") for name, term in terms_s.items()},
        "clock": timing.tier,
    }


class Pipeline:
    """Turns one stream of sound into detections.

    `boot` tells one run of a node from all its others (letters, digits and hyphens), so that with the node's name and
    a counter an id is unique and stays the same at every resend. `peak_dbfs_to_spl` is what a calibrated microphone
    adds. `place` may be replaced by a better one. `noise_dbfs` and `withheld` are the detector's, as of the last block.
    """

    def __init__(
        self,
        *,
        node: str,
        boot: str,
        place: Place,
        timebase: Timebase,
        detector: Detector,
        temperature_c: float | None = None,
        peak_dbfs_to_spl: float | None = None,
    ) -> None:
        self.noise_dbfs = detector.noise_dbfs
        self.withheld = detector.withheld
        self.place = place
        self._node = node
        self._boot = boot
        self._timebase = timebase
        self._detector = detector
        self._temperature_c = temperature_c
        self._peak_dbfs_to_spl = peak_dbfs_to_spl
        self._count = 0

    def push(self, block: Block) -> list[Heard]:
        """Return the detections that are complete with this block."""
        return self._heard(self._detector.push(block))

    def flush(self) -> list[Heard]:
        """Return what was still open when the sound ended."""
        return self._heard(self._detector.flush())

    def _heard(self, impulses: list[Impulse]) -> list[Heard]:
        self.noise_dbfs = self._detector.noise_dbfs
        self.withheld = self._detector.withheld
        return [self._dated(impulse) for impulse in impulses]

    def _dated(self, impulse: Impulse) -> Heard:
        timing = self._timebase.timing(impulse.onset_sample)
        return Heard(self._detection(impulse, timing), impulse.onset_sample, timing.undated)

    def _detection(self, impulse: Impulse, timing: Timing) -> Detection:
        self._count += 1
        # Another thread may replace it meanwhile.
        place = self.place
        spl = None if self._peak_dbfs_to_spl is None else round(impulse.peak_dbfs + self._peak_dbfs_to_spl, 2)
        return Detection(
            id=f"{self._node}-{self._boot}-{self._count}",
            node=self._node,
            **_when(timing, impulse.onset_sigma_s),
            lat=place.lat,
            lon=place.lon,
            alt_m=place.alt_m,
            position_sigma_m=place.position_sigma_m,
            snr_db=round(impulse.snr_db, 2),
            peak_db_spl=spl,
            peak_dbfs=round(impulse.peak_dbfs, 2),
            clipped=impulse.clipped,
            rise_s=round(impulse.rise_s, 6),
            duration_s=round(impulse.duration_s, 6),
            temperature_c=self._temperature_c,
            features=impulse.features or None,
        )
