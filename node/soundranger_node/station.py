"""The one place that wires a node together: microphone, clock, place, detector, pipeline, outbox and link."""

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from soundranger_node import __version__
from soundranger_node.check.machine import hottest_c
from soundranger_node.clips import Clips
from soundranger_node.config import Settings
from soundranger_node.detector import Detector
from soundranger_node.link import Link
from soundranger_node.messages import NodeStatus
from soundranger_node.notify import Notifier, Watchdog, beat_interval_s, summary
from soundranger_node.outbox import Outbox
from soundranger_node.pipeline import Pipeline, Place
from soundranger_node.runtime import Node, problems
from soundranger_node.signing import KEY_FILE, node_key, public_key
from soundranger_node.soundcard import SoundCard
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.gpsd import GpsdClient
from soundranger_node.timekeeping.station_clock import StationClock
from soundranger_node.timekeeping.survey import Survey
from soundranger_node.timekeeping.system_clock import boot_id
from soundranger_node.timekeeping.watch import ClockWatch

# Where a surveyed place is kept, beside the outbox.
PLACE_FILE = "place.json"
# How often it is looked whether a GPS knows the place by now.
PLACE_POLL_S = 1.0

_LOG = logging.getLogger(__name__)


class Station:
    """A node with a real microphone, as its configuration describes it.

    Raises:
        InputError: from the constructor: the outbox or the node's key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_s = time.monotonic()
        self._stopping = threading.Event()
        self._manager = Notifier(os.environ)
        # A counter starts anew with the process, and a Pi's clock may start anew with it: only chance is unique.
        self._boot = secrets.token_hex(6)
        self._key = node_key(settings.outbox.path.parent / KEY_FILE)
        self._outbox = Outbox(settings.outbox.path, settings.outbox.max_mb, settings.outbox.max_age_days)
        surveyed = settings.place.source == "gpsd"
        self._survey = Survey(settings.outbox.path.parent / PLACE_FILE) if surveyed else None
        self._gpsd = None
        if surveyed or settings.clock.source in {"auto", "gpsd"}:
            self._gpsd = GpsdClient(settings.clock.gpsd, self._survey.add if self._survey else None)
        self._watch = ClockWatch(settings.clock, self._gpsd)
        self._clock = self._station_clock()
        self._source = self._sound_card()

    def run(self) -> None:
        """Listen until `stop`, or until the microphone fails for good; close everything.

        Raises:
            AudioError: the microphone cannot be used, and waiting mends nothing.
            InputError: the TLS files cannot be used.
        """
        self._manager.ready()
        try:
            with self._timekeeping():
                place = self._first_place()
                if place is not None:
                    self._hear_at(place)
        finally:
            self._manager.stopping()
            self._outbox.close()

    def stop(self) -> None:
        """End `run` soon; for another thread."""
        self._stopping.set()
        self._source.close()

    def _station_clock(self) -> StationClock:
        microphone = self._settings.microphone
        quality, read = self._watch.look()
        return StationClock(
            microphone.sample_rate_hz,
            boot=boot_id(otherwise=self._boot),
            read=read,
            quality=quality,
            latency_s=microphone.latency_s,
            latency_sigma_s=microphone.latency_sigma_s,
        )

    def _sound_card(self) -> SoundCard:
        microphone = self._settings.microphone
        return SoundCard(
            microphone.device,
            microphone.sample_rate_hz,
            microphone.channel,
            self._clock,
            pps_channel=microphone.pps_channel,
            wanted=microphone.processing,
        )

    @contextmanager
    def _timekeeping(self) -> Iterator[None]:
        """Keep the clock judged, and the place surveyed, meanwhile."""
        if self._gpsd is not None:
            self._gpsd.start()
        self._watch.start(self._clock)
        try:
            yield
        finally:
            self._watch.close()
            if self._gpsd is not None:
                self._gpsd.close()

    def _first_place(self) -> Place | None:
        """Return the place, as soon as it is known; None where `stop` comes first."""
        said = ""
        while (place := self._place()) is None and not self._stopping.wait(PLACE_POLL_S):
            # There is no sound to feed the watchdog by yet, and a new process would begin the survey anew.
            self._manager.alive()
            waiting = f"waiting for the GPS to know the place: {self._place_comes()}"
            self._manager.status(waiting)
            if waiting != said:
                said = waiting
                _LOG.warning("%s", waiting)
        return place

    def _place_comes(self) -> str:
        """Return when the place will be known, or what is in the way of it."""
        if self._survey is not None and self._survey.problem is not None:
            return self._survey.problem
        gps = self._gpsd.report(time.monotonic()) if self._gpsd is not None else None
        return gps.reason if isinstance(gps, Absent) else "some six minutes under open sky"

    def _place(self) -> Place | None:
        place = self._settings.place
        if place.lat is not None and place.lon is not None and place.alt_m is not None:
            return Place(place.lat, place.lon, place.alt_m, place.position_sigma_m)
        found = self._survey.place if self._survey else None
        return None if found is None else Place(found.lat, found.lon, found.alt_m, found.position_sigma_m)

    def _hear_at(self, place: Place) -> None:
        settings, microphone = self._settings, self._settings.microphone
        pipeline = Pipeline(
            node=settings.node,
            boot=self._boot,
            place=place,
            timebase=self._clock,
            detector=Detector(microphone.sample_rate_hz, settings.detector.limit_per_minute),
            temperature_c=settings.place.temperature_c,
            peak_dbfs_to_spl=microphone.peak_dbfs_to_spl,
        )
        clips = Clips(microphone.sample_rate_hz, self._clock) if settings.clips.allowed else None
        link = Link(settings.mqtt, self._outbox, self._status(pipeline, []), clips.ask if clips else None)
        watchdog = Watchdog(self._manager, beat_interval_s(os.environ, os.getpid()), lambda: node.alive)
        node = Node(
            self._source,
            pipeline,
            self._outbox,
            link,
            lambda: self._tell_status(pipeline, link),
            key=self._key,
            clips=clips,
            retrospect=self._clock,
            heard=lambda block: watchdog.beat(block, time.monotonic()),
        )
        try:
            node.run()
        finally:
            node.close()

    def _tell_status(self, pipeline: Pipeline, link: Link) -> NodeStatus:
        """Return the status, with the place as the survey has it by now, and tell it to the service manager too."""
        pipeline.place = self._place() or pipeline.place
        status = self._status(pipeline, link.problems)
        self._manager.status(summary(status, link.connected))
        return status

    def _status(self, pipeline: Pipeline, link_problems: list[str]) -> NodeStatus:
        place, lost_to = pipeline.place, self._outbox.lost_to
        return NodeStatus(
            node=self._settings.node,
            online=True,
            time_ns=time.time_ns(),
            version=__version__,
            lat=place.lat,
            lon=place.lon,
            alt_m=place.alt_m,
            position_sigma_m=place.position_sigma_m,
            clock=self._clock.status(),
            noise_dbfs=pipeline.noise_dbfs,
            outbox=self._outbox.depth,
            undated=self._outbox.undated,
            withheld=pipeline.withheld,
            lost=sum(lost_to.values()),
            lost_to=lost_to or None,
            overflows=self._source.overflows,
            interruptions=self._source.interruptions,
            problems=problems([*self._own_problems(), *link_problems]),
            uptime_s=time.monotonic() - self._started_s,
            cpu_c=hottest_c(),
            temperature_c=self._settings.place.temperature_c,
            public_key=public_key(self._key),
        )

    def _own_problems(self) -> list[str | None]:
        """Return what does not work but for the link, the gravest first."""
        found: list[str | None] = [self._source.problem, self._outbox.problem, *self._source.processing]
        if self._survey is not None:
            found.append(self._survey.problem)
            if self._survey.progress < 1:
                found.append(f"the place is still being surveyed in: {self._survey.progress:.0%} of six hours")
        return found
