"""The watch on the system clock: a thread that asks who vouches for it, reads it, and passes both on."""

import logging
import threading
import time
from collections.abc import Callable

from soundranger_node.config import Clock
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.chrony import ask_chrony
from soundranger_node.timekeeping.gpsd import GpsdClient
from soundranger_node.timekeeping.judge import Reports, judge
from soundranger_node.timekeeping.kernel import ask_kernel
from soundranger_node.timekeeping.quality import ClockQuality

# A clock that somebody steers changes by microseconds in this, and asking costs a Pi Zero 20 ms.
INTERVAL_S = 10.0
# While the clock is not good detections wait; where it is corrected by a pulse it drifts on between two looks.
SHORT_INTERVAL_S = 2.0
# The narrowest of a few is within a microsecond unless all of them were interrupted.
READS = 9

# Monotonic before, UTC, monotonic after, in nanoseconds.
Read = tuple[int, int, int]

_LOG = logging.getLogger(__name__)


def read_clocks(reads: int = READS) -> list[Read]:
    """Return readings of the system clock, each between two of the monotonic clock."""
    return [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(reads)]


def interval_s(quality: ClockQuality) -> float:
    """Return how soon to look again after a judgement."""
    return INTERVAL_S if quality.good and quality.ahead_s == 0 else SHORT_INTERVAL_S


class ClockWatch:
    """Looks at the clock every few seconds and calls `tell(quality, reads)` in its own thread.

    Only the sources that the configuration allows are asked; `gpsd` is a client that somebody else starts and closes,
    None where there is none. `tell` gets the reads that were taken with the judgement.
    """

    def __init__(self, clock: Clock, gpsd: GpsdClient | None, tell: Callable[[ClockQuality, list[Read]], None]) -> None:
        self._clock = clock
        self._gpsd = gpsd
        self._tell = tell
        self._interval_s = SHORT_INTERVAL_S
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when the last look is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> tuple[ClockQuality, list[Read]]:
        """Ask the sources once, and read the clocks."""
        source = self._clock.source
        not_asked = Absent("not asked")
        chrony = ask_chrony(self._clock.chrony_socket) if source in {"auto", "chrony"} else not_asked
        kernel = ask_kernel() if source in {"auto", "kernel"} else not_asked
        gps = not_asked if self._gpsd is None else self._gpsd.report(time.monotonic())
        reads = read_clocks()
        reports = Reports(chrony, gps, kernel, utc_s=reads[0][1] * 1e-9, interval_s=self._interval_s)
        return judge(self._clock, reports), reads

    def _run(self) -> None:
        said = failed = ""
        while not self._stopping.is_set():
            try:
                quality, reads = self.look()
                self._interval_s = interval_s(quality)
                if quality.source != said:
                    said = quality.source
                    _LOG.info("clock: %s, %s", quality.tier, quality.why)
                self._tell(quality, reads)
            except Exception as error:  # noqa: BLE001 - a node without a watch would never know the time again
                if repr(error) != failed:
                    failed = repr(error)
                    _LOG.exception("the clock could not be looked at")
            self._stopping.wait(self._interval_s)
