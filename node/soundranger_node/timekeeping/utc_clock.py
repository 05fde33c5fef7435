"""The UTC clock: turns monotonic time into UTC, from reads of both clocks and from judgements on the system clock.

On Linux the system clock is the monotonic clock plus a difference: both are slewed alike, so the difference changes
only where the system clock is stepped, by hand, by a daemon or by the kernel at a leap second.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, sqrt

from soundranger_node.messages import ClockTier
from soundranger_node.timekeeping.quality import ClockQuality

NS_PER_S = 1_000_000_000
# Reads of clocks that were not stepped differ by their widths; this much more is a step.
MIN_STEP_S = 2e-5
# A leap second is one second, and the kernel makes it to the nanosecond.
LEAP_TOLERANCE_S = 1e-3
# The kernel steps at midnight UTC; the next read comes a little later.
LEAP_WITHIN_S = 60.0
DAY_S = 86_400
# Who judges does so every half minute or so, and allows for that itself.
FRESH_S = 120.0
# A clock whose daemon fell silent keeps the rate it had; a Pi's crystal then moves with the temperature of its board.
HELD_DRIFT = 2e-6
# Before a clock was good nobody corrected its rate: a Pi's crystal is within 50 ppm.
UNRULED_DRIFT = 50e-6
# An hour without a judgement: nobody vouches for the clock any more.
VOUCHED_S = 3_600.0
# 85 m of sound: what is known no better than this is no time.
MAX_HOLDOVER_S = 0.25
# Notices are for the owner, who may look once a day.
NOTICE_S = 86_400.0
MAX_NOTICES = 4
MAX_LEAPS = 4


@dataclass(frozen=True)
class ClockRead:
    """Both clocks at one instant, as far as that can be: the monotonic clock was read `width_ns` around the other."""

    monotonic_ns: int
    utc_ns: int
    width_ns: int


def narrowest(reads: Iterable[tuple[int, int, int]]) -> ClockRead:
    """Return the best of reads of (monotonic, real time, monotonic again), ns: the one that took least time.

    Raises:
        ValueError: there are none.
    """
    before_ns, utc_ns, after_ns = min(reads, key=lambda read: read[2] - read[0])
    return ClockRead((before_ns + after_ns) // 2, utc_ns, after_ns - before_ns)


@dataclass(frozen=True)
class Dated:
    """UTC, the terms of its standard deviation by name, the tier it rests on, and whether the clock is good.

    Where it is not, `pending` says that it may be once the clock is; else it never will.
    """

    utc_ns: int
    terms_s: Mapping[str, float]
    tier: ClockTier
    good: bool
    pending: bool = True


class UtcClock:
    """Dates moments of the monotonic clock; `read` and `judge` keep it up to date, each in the order of time."""

    def __init__(self, read: ClockRead, quality: ClockQuality, judged_ns: int) -> None:
        self._read = read
        self._quality = quality
        self._judged_ns = judged_ns
        self._good_since_ns: int | None = judged_ns if quality.good else None
        self._stepped_ns = -inf
        self._leaps: deque[tuple[int, int]] = deque(maxlen=MAX_LEAPS)
        self._notices: deque[tuple[int, str]] = deque(maxlen=MAX_NOTICES)

    @property
    def quality(self) -> ClockQuality:
        """The last judgement."""
        return self._quality

    def notices(self, monotonic_ns: int) -> list[str]:
        """Return what happened to the clock within the last day, one phrase each."""
        return [text for at_ns, text in self._notices if monotonic_ns - at_ns < NOTICE_S * NS_PER_S]

    def notice(self, monotonic_ns: int, text: str) -> None:
        """Keep a notice for the owner."""
        self._notices.append((monotonic_ns, text))

    def read(self, read: ClockRead) -> None:
        """Take a read of both clocks; a change of their difference is a step."""
        last, self._read = self._read, read
        step_ns = (read.utc_ns - read.monotonic_ns) - (last.utc_ns - last.monotonic_ns)
        if abs(step_ns) <= last.width_ns + read.width_ns + MIN_STEP_S * NS_PER_S:
            return
        said = f"{step_ns / NS_PER_S:+.4g} s at {_iso(read.utc_ns)}"
        if self._is_leap(step_ns, read.utc_ns):
            self._leaps.append((read.monotonic_ns, step_ns))
            self.notice(read.monotonic_ns, f"leap second: stepped by {said}")
            return
        self._stepped_ns = read.monotonic_ns
        self.notice(read.monotonic_ns, f"stepped by {said}")

    def judge(self, quality: ClockQuality, monotonic_ns: int) -> None:
        """Take a judgement on the system clock, made at a moment."""
        if not quality.good:
            self._good_since_ns = None
        elif self._good_since_ns is None or self._good_since_ns < self._stepped_ns:
            self._good_since_ns = monotonic_ns
        self._quality, self._judged_ns = quality, monotonic_ns

    def date(self, monotonic_ns: int) -> Dated:
        """Return the UTC of a moment.

        What lies before a step is dated as the clock says after it, since who stepped it knew better; across a leap
        second, as the clock said before. What lies before the clock was good drifts away from it.
        """
        offset_ns = self._read.utc_ns - self._read.monotonic_ns
        offset_ns -= sum(step_ns for at_ns, step_ns in self._leaps if monotonic_ns < at_ns)
        good = self._good_since_ns is not None and self._judged_ns >= self._stepped_ns
        # A clock that is not good yet will be no earlier than now.
        good_since_ns = self._good_since_ns if good and self._good_since_ns is not None else self._read.monotonic_ns
        unruled_s = max(0, good_since_ns - monotonic_ns) / NS_PER_S
        silent_s = self._silent_s(monotonic_ns)
        holdover_s = UNRULED_DRIFT * unruled_s + HELD_DRIFT * max(0.0, silent_s - FRESH_S)
        terms_s = {
            "clock": self._quality.sigma_s,
            # The bracket holds the true instant anywhere.
            "read": self._read.width_ns / NS_PER_S / sqrt(12),
            "holdover": holdover_s,
        }
        known = holdover_s <= MAX_HOLDOVER_S
        return Dated(
            monotonic_ns + offset_ns - round(self._quality.ahead_s * NS_PER_S),
            terms_s,
            "free" if silent_s > VOUCHED_S else self._quality.tier,
            good and known,
            # What drifted too far before the clock was good stays so; a silent clock may be judged again.
            pending=UNRULED_DRIFT * unruled_s <= MAX_HOLDOVER_S,
        )

    def why(self, monotonic_ns: int) -> str:
        """Return a sentence for the owner: the last judgement's, whether it is old, and what happened to the clock."""
        silent_s = self._silent_s(monotonic_ns)
        old = [f"not judged again for {silent_s:.0f} s"] if silent_s > FRESH_S else []
        return "; ".join([self._quality.why, *old, *self.notices(monotonic_ns)])

    def _silent_s(self, monotonic_ns: int) -> float:
        return (monotonic_ns - self._judged_ns) / NS_PER_S

    def _is_leap(self, step_ns: int, utc_ns: int) -> bool:
        """Say whether a step is the leap second that was announced; the kernel repeats a second to insert one."""
        leap_ns = {"insert": -NS_PER_S, "delete": NS_PER_S}.get(self._quality.leap)
        if leap_ns is None or abs(step_ns - leap_ns) > LEAP_TOLERANCE_S * NS_PER_S:
            return False
        after_midnight_s = (utc_ns / NS_PER_S + 1) % DAY_S
        return after_midnight_s < LEAP_WITHIN_S + 1


def _iso(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns // NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
