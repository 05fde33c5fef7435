"""The clock of a node with a microphone: sample to monotonic time to UTC, or by a GPS's pulse, every doubt named."""

import threading
from collections.abc import Mapping
from math import hypot

from soundranger_node.blocks import Moment, Samples, Timing, Undatable
from soundranger_node.messages import ClockStatus, ClockTier
from soundranger_node.timekeeping.pps import MAX_LABEL_ERROR_S, PpsClock
from soundranger_node.timekeeping.quality import BOUND_SIGMAS, ClockQuality
from soundranger_node.timekeeping.sample_clock import SampleClock
from soundranger_node.timekeeping.slew import SlewWatch
from soundranger_node.timekeeping.smear import SmearWatch
from soundranger_node.timekeeping.utc_clock import ClockRead, UtcClock
from soundranger_node.utc import NS_PER_S

# The rate is watched for a leap smear once a minute.
RATE_INTERVAL_NS = 60 * NS_PER_S
NO_PULSES = "no pulses of a GPS on pps_channel: it needs a fix, and its PPS wired to that channel"
SMEAR_NOTICE = "the rate changed by 11.6 ppm at noon: the time server seems to smear a leap second"


class StationClock:
    """The Timebase of a node with a microphone; safe from any thread.

    Capture feeds it `add`, `restart` and `add_pps`; who watches the system clock feeds it `read` (once a second or so)
    and `judge`. Times are CLOCK_MONOTONIC and CLOCK_REALTIME, ns. `boot` is the kernel's id of this boot;
    `latency_s` is how long the microphone itself delays sound, and its sigma how well that is known.
    """

    def __init__(
        self,
        sample_rate_hz: float,
        *,
        boot: str,
        read: ClockRead,
        quality: ClockQuality,
        latency_s: float = 0.0,
        latency_sigma_s: float = 0.0,
    ) -> None:
        self._lock = threading.Lock()
        self._sample_rate_hz = sample_rate_hz
        self._boot = boot
        self._now_ns = read.monotonic_ns
        self._latency_s = latency_s
        self._latency_sigma_s = latency_sigma_s
        self._samples = SampleClock(sample_rate_hz)
        self._utc = UtcClock(read, quality, read.monotonic_ns)
        self._pps = PpsClock(sample_rate_hz, self._rough_utc_ns)
        self._smear = SmearWatch()
        self._slew = SlewWatch(read)
        self._slept_s = read.slept_s
        self._rated_ns = read.monotonic_ns
        self._last: tuple[int, int] | None = None
        self._driver_sigma_s = 0.0
        self._wired = False

    @property
    def ppm(self) -> float:
        """How many millionths the samples come slower than their nominal rate; 0 before that is known."""
        with self._lock:
            return self._samples.ppm

    def add(self, sample: int, monotonic_ns: int, driver_sigma_s: float = 0.0) -> None:
        """Take the monotonic time at which the first sample of a block was recorded, as far as the driver knows.

        `driver_sigma_s` is how far its idea of its own delay may be off, for all blocks alike.
        """
        with self._lock:
            self._samples.add(sample, monotonic_ns)
            self._driver_sigma_s = driver_sigma_s
            self._last = sample, monotonic_ns

    def add_pps(self, samples: Samples, first: int) -> None:
        """Take a block of the channel that carries the pulse of a GPS, after `add` has taken its time."""
        with self._lock:
            self._pps.add(samples, first)
            self._wired = True

    def restart(self, frame_s: float | None = None) -> None:
        """Begin anew with the next block: samples were lost, or the card was opened on a bus with such frames."""
        with self._lock:
            self._samples.restart(frame_s)
            self._pps.restart()

    def read(self, read: ClockRead) -> None:
        """Take a read of the system clock, in the order of time."""
        with self._lock:
            self._utc.read(read)
            self._now_ns = read.monotonic_ns
            self._slept_s = read.slept_s
            if self._slew.changed(read):
                self._samples.forget()
            if read.monotonic_ns - self._rated_ns >= RATE_INTERVAL_NS and self._last is not None:
                self._rated_ns = read.monotonic_ns
                suspected = self._smear.suspects(read.utc_ns, self._samples.ppm * 1e-6)
                if suspected and SMEAR_NOTICE not in self._utc.notices(read.monotonic_ns):
                    self._utc.notice(read.monotonic_ns, SMEAR_NOTICE)

    def judge(self, quality: ClockQuality, monotonic_ns: int) -> None:
        """Take a judgement on the system clock, made at a moment; renew it every half minute or so."""
        with self._lock:
            self._utc.judge(quality, monotonic_ns)

    def timing(self, sample: float) -> Timing:
        """Return the UTC of the sound in a sample.

        Raises:
            ValueError: no block has come yet.
        """
        with self._lock:
            monotonic_ns, fit_s = self._samples.date(sample)
            fit_s = hypot(fit_s, self._driver_sigma_s)
            dated = self._utc.date(monotonic_ns)
            pulse = self._pps.date(sample) if dated.good else None
            if pulse is not None and pulse[1] < hypot(fit_s, *dated.terms_s.values()):
                return self._heard(pulse[0], {"pps": pulse[1]}, "pps")
            undated = None if dated.good else Moment(self._awake, monotonic_ns, fit_s)
            return self._heard(dated.utc_ns, {**dated.terms_s, "fit": fit_s}, dated.tier, undated)

    def redate(self, moment: Moment) -> Timing | Undatable:
        """Return the UTC of the sound at a moment that had none, now that the clock may be good."""
        with self._lock:
            if moment.boot != self._awake:
                return Undatable.EVER
            dated = self._utc.date(moment.monotonic_ns)
            if not dated.good:
                return Undatable.YET if dated.pending else Undatable.EVER
            return self._heard(dated.utc_ns, {**dated.terms_s, "fit": moment.sigma_s}, dated.tier)

    def status(self) -> ClockStatus:
        """Return how well the node knows the time as of the last read of its clock."""
        with self._lock:
            quality, dated = self._utc.quality, self._utc.date(self._now_ns)
            sigma_s = hypot(*dated.terms_s.values())
            bound_s = None if quality.bound_s is None else quality.bound_s + BOUND_SIGMAS * dated.terms_s["holdover"]
            tier, why = dated.tier, self._utc.why(self._now_ns)
            pulse = self._pps.date(self._last[0]) if self._last is not None and dated.good else None
            if pulse is not None and pulse[1] < sigma_s:
                tier, sigma_s, bound_s = "pps", pulse[1], BOUND_SIGMAS * pulse[1]
                why = f"{self._pps.pulses} pulses of a GPS on the sound card; system clock: {why}"
            elif self._wired and not self._pps.pulses and dated.good:
                why = f"{why}; {NO_PULSES}"
            return ClockStatus(
                tier=tier,
                good=dated.good,
                bound_s=BOUND_SIGMAS * sigma_s if bound_s is None else bound_s,
                sigma_s=sigma_s,
                source=quality.source,
                why=why,
                ppm=self._samples.ppm,
            )

    @property
    def _awake(self) -> str:
        """The boot, or the last sleep since: how long one lasted is known to a second only, so it ends all dating."""
        return f"{self._boot}+{self._slept_s}" if self._slept_s else self._boot

    def _heard(
        self, utc_ns: int, terms_s: Mapping[str, float], tier: ClockTier, undated: Moment | None = None
    ) -> Timing:
        """Return the timing of the sound in a sample, which the microphone delayed, from that of the sample."""
        delay_ns = round(self._latency_s * NS_PER_S)
        return Timing(utc_ns - delay_ns, {**terms_s, "latency": self._latency_sigma_s}, tier, undated)

    def _rough_utc_ns(self, sample: float) -> int | None:
        """Return the UTC of a sample near the last block, to some milliseconds; None where the second is not sure."""
        if self._last is None:
            return None
        first, monotonic_ns = self._last
        dated = self._utc.date(monotonic_ns + round((sample - first) / self._sample_rate_hz * NS_PER_S))
        sure = dated.good and BOUND_SIGMAS * hypot(*dated.terms_s.values()) < MAX_LABEL_ERROR_S
        return dated.utc_ns if sure else None
