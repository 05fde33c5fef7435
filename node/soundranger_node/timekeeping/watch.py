"""The watch on the system clock: a thread that reads it, asks who vouches for it, and passes both on."""

import logging
import threading
import time
from typing import Protocol

from soundranger_node.config import Clock
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.chrony import ask_chrony
from soundranger_node.timekeeping.gpsd import GpsdClient
from soundranger_node.timekeeping.judge import Reports, judge
from soundranger_node.timekeeping.kernel import ask_kernel
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.system_clock import read_clocks
from soundranger_node.timekeeping.utc_clock import ClockRead

# A step or a leap second shows within this, so hardly a detection is dated across one.
READ_INTERVAL_S = 1.0
# A clock that somebody steers changes by microseconds in this, and asking costs a Pi Zero 20 ms.
INTERVAL_S = 10.0
# While the clock is not good detections wait; where it is corrected by a pulse it drifts on between two looks.
SHORT_INTERVAL_S = 2.0

_LOG = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told of the clock, in the watch's own thread."""

    def read(self, read: ClockRead) -> None:
        """Take a read of the system clock, every second."""
        ...

    def judge(self, quality: ClockQuality, monotonic_ns: int) -> None:
        """Take a judgement on the system clock, made at a moment, right after the read that was taken with it."""
        ...


def interval_s(quality: ClockQuality) -> float:
    """Return how soon to look again after a judgement."""
    return INTERVAL_S if quality.good and quality.ahead_s == 0 else SHORT_INTERVAL_S


class ClockWatch:
    """Reads the clock every second, and every few seconds asks the sources that the configuration allows.

    `gpsd` is a client that somebody else starts and closes, None where there is none.
    """

    def __init__(self, clock: Clock, gpsd: GpsdClient | None) -> None:
        self._clock = clock
        self._gpsd = gpsd
        self._interval_s = SHORT_INTERVAL_S
        self._look_at_s = 0.0
        self._said = self._failed = ""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, listener: Listener) -> None:
        """Begin to tell the listener; the first look is at once."""
        self._thread = threading.Thread(target=self._run, args=(listener,), name="clock watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when the last look is over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> tuple[ClockQuality, ClockRead]:
        """Ask the sources once, and read the clocks."""
        source = self._clock.source
        not_asked = Absent("not asked")
        chrony = ask_chrony(self._clock.chrony_socket) if source in {"auto", "chrony"} else not_asked
        kernel = ask_kernel() if source in {"auto", "kernel"} else not_asked
        gps = not_asked if self._gpsd is None else self._gpsd.report(time.monotonic())
        read = read_clocks()
        reports = Reports(chrony, gps, kernel, utc_s=read.utc_ns * 1e-9, interval_s=self._interval_s)
        return judge(self._clock, reports), read

    def _run(self, listener: Listener) -> None:
        while True:
            try:
                self._tell(listener, time.monotonic())
            except Exception as error:  # noqa: BLE001 - a node without a watch would never know the time again
                if repr(error) != self._failed:
                    self._failed = repr(error)
                    _LOG.exception("the clock could not be looked at")
            if self._stopping.wait(min(READ_INTERVAL_S, self._interval_s)):
                return

    def _tell(self, listener: Listener, now_s: float) -> None:
        if now_s < self._look_at_s:
            listener.read(read_clocks())
            return
        quality, read = self.look()
        self._interval_s = interval_s(quality)
        self._look_at_s = now_s + self._interval_s
        if quality.source != self._said:
            self._said = quality.source
            _LOG.info("clock: %s, %s", quality.tier, quality.why)
        listener.read(read)
        listener.judge(quality, read.monotonic_ns)
