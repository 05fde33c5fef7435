"""The pipeline: from blocks of sound to the detections that a node publishes."""

from dataclasses import dataclass
from math import hypot

from soundranger_node.blocks import Block, Timebase
from soundranger_node.detector import Detector, Impulse
from soundranger_node.messages import Detection


@dataclass(frozen=True)
class Place:
    """Where a microphone is: WGS84 degrees, metres above the ellipsoid, and one standard deviation of all three."""

    lat: float
    lon: float
    alt_m: float
    position_sigma_m: float


class Pipeline:
    """Turns one stream of sound into detections.

    `boot` tells one run of a node from all its others (letters, digits and hyphens), so that with the node's name and
    a counter an id is unique and stays the same at every resend. `peak_dbfs_to_spl` is what a calibrated microphone
    adds. `noise_dbfs` and `withheld` are the detector's, as of the last block.
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
        self._node = node
        self._boot = boot
        self._place = place
        self._timebase = timebase
        self._detector = detector
        self._temperature_c = temperature_c
        self._peak_dbfs_to_spl = peak_dbfs_to_spl
        self._count = 0

    def push(self, block: Block) -> list[Detection]:
        """Return the detections that are complete with this block."""
        return self._detections(self._detector.push(block))

    def flush(self) -> list[Detection]:
        """Return what was still open when the sound ended."""
        return self._detections(self._detector.flush())

    def _detections(self, impulses: list[Impulse]) -> list[Detection]:
        self.noise_dbfs = self._detector.noise_dbfs
        self.withheld = self._detector.withheld
        return [self._detection(impulse) for impulse in impulses]

    def _detection(self, impulse: Impulse) -> Detection:
        timing = self._timebase.timing(impulse.onset_sample)
        terms_s = {**timing.terms_s, "onset": impulse.onset_sigma_s}
        self._count += 1
        spl = None if self._peak_dbfs_to_spl is None else round(impulse.peak_dbfs + self._peak_dbfs_to_spl, 2)
        return Detection(
            id=f"{self._node}-{self._boot}-{self._count}",
            node=self._node,
            time_ns=timing.time_ns,
            time_sigma_s=hypot(*terms_s.values()),
            sigma_terms_s={name: float(f"{term:.3g}") for name, term in terms_s.items()},
            lat=self._place.lat,
            lon=self._place.lon,
            alt_m=self._place.alt_m,
            position_sigma_m=self._place.position_sigma_m,
            snr_db=round(impulse.snr_db, 2),
            peak_db_spl=spl,
            peak_dbfs=round(impulse.peak_dbfs, 2),
            clipped=impulse.clipped,
            rise_s=round(impulse.rise_s, 6),
            duration_s=round(impulse.duration_s, 6),
            temperature_c=self._temperature_c,
            clock=timing.tier,
            features=impulse.features or None,
        )
