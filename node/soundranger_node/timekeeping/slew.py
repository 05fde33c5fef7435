"""Slews: a daemon that corrects the system clock changes the rate of the monotonic one too, by up to 10 % (chrony).

All sound cards then seem to change their own. The kernel's raw monotonic clock, which nobody corrects, tells.
"""

from soundranger_node.timekeeping.utc_clock import ClockRead

# A daemon that has settled changes the rate by less; the fit to a card's times follows a few ppm.
MIN_CHANGE = 1e-5
# Two reads are far enough apart where they know the rate to this.
MAX_RATE_ERROR = MIN_CHANGE / 4


class SlewWatch:
    """Looks for changes of the monotonic clock's rate in reads of it, once a second or so."""

    def __init__(self, read: ClockRead) -> None:
        self._last = read
        # What it was after the last change; None where only the next two reads can tell.
        self._rate: float | None = None

    def changed(self, read: ClockRead) -> bool:
        """Take the next read; say whether the rate is another than it was after the last change."""
        passed_ns = read.monotonic_ns - self._last.monotonic_ns
        if self._last.width_ns + read.width_ns >= MAX_RATE_ERROR * passed_ns:
            return False
        rate = (read.slewed_ns - self._last.slewed_ns) / passed_ns
        self._last = read
        if self._rate is None:
            self._rate = rate
        elif abs(rate - self._rate) > MIN_CHANGE:
            # It changed somewhere between the two.
            self._rate = None
            return True
        return False
