"""The one place that wires a node together: microphone, clock, detector, pipeline, outbox and link."""

import secrets
import time

from soundranger_node import __version__, config
from soundranger_node.config import Settings
from soundranger_node.detector import Detector
from soundranger_node.errors import InputError
from soundranger_node.link import Link
from soundranger_node.messages import ClockStatus, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node, problems
from soundranger_node.soundcard import SoundCard
from soundranger_node.timekeeping.sample_clock import SampleClock

# A bound is three standard deviations.
BOUND_SIGMAS = 3


class Station:
    """A node with a real microphone, as its configuration describes it.

    Raises:
        InputError: from the constructor: the outbox or the TLS files cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_s = time.monotonic()
        microphone = settings.microphone
        self._place = _configured(settings.place)
        self._clock = SampleClock(
            microphone.sample_rate_hz, settings.clock.sigma_s, "free", latency_s=microphone.latency_s
        )
        self._source = SoundCard(microphone.device, microphone.sample_rate_hz, microphone.channel, self._clock)
        self._pipeline = Pipeline(
            node=settings.node,
            # A counter starts anew with the process, and a Pi's clock may start anew with it: only chance is unique.
            boot=secrets.token_hex(6),
            place=self._place,
            timebase=self._clock,
            detector=Detector(microphone.sample_rate_hz, settings.detector.limit_per_minute),
            temperature_c=settings.place.temperature_c,
            peak_dbfs_to_spl=microphone.peak_dbfs_to_spl,
        )
        self._outbox = Outbox(settings.outbox.path, settings.outbox.max_mb, settings.outbox.max_age_days)
        self._link: Link | None = None
        self._link = Link(settings.mqtt, self._outbox, self.status())
        self._node = Node(self._source, self._pipeline, self._outbox, self._link, self.status)

    def run(self) -> None:
        """Listen until `stop`, or until the microphone fails; close everything.

        Raises:
            AudioError: the microphone failed.
        """
        try:
            self._node.run()
        finally:
            self._node.close()

    def stop(self) -> None:
        """End `run` soon; for another thread."""
        self._source.close()

    def status(self) -> NodeStatus:
        """Return the node's health."""
        settings, place = self._settings, self._place
        lost_to = self._outbox.lost_to
        return NodeStatus(
            node=settings.node,
            online=True,
            time_ns=time.time_ns(),
            version=__version__,
            lat=place.lat,
            lon=place.lon,
            alt_m=place.alt_m,
            position_sigma_m=place.position_sigma_m,
            clock=ClockStatus(tier="free", bound_s=BOUND_SIGMAS * settings.clock.sigma_s, ppm=self._clock.ppm),
            noise_dbfs=self._pipeline.noise_dbfs,
            outbox=self._outbox.depth,
            undated=self._outbox.undated,
            withheld=self._pipeline.withheld,
            lost=sum(lost_to.values()),
            lost_to=lost_to or None,
            problems=problems(self._outbox, self._link) if self._link else None,
            overflows=self._source.overflows,
            uptime_s=time.monotonic() - self._started_s,
            temperature_c=settings.place.temperature_c,
        )


def _configured(place: config.Place) -> Place:
    """Return the place of the configuration.

    Raises:
        InputError: it is to be surveyed in by a GPS.
    """
    if place.lat is None or place.lon is None or place.alt_m is None:
        raise InputError("place.source", "a place surveyed in by gpsd is not there yet", "give lat, lon and alt_m")
    return Place(place.lat, place.lon, place.alt_m, place.position_sigma_m)
