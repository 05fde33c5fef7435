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
from soundranger_node.utc import NS_PER_S

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
# Where nobody corrects a clock's rate, before it was good or where a pulse only measures it: a Pi's crystal is within
# 50 ppm.
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
    """Both clocks at one instant, as far as that can be: the monotonic clock was read `width_ns` around the other.

    `slewed_ns` is how far the monotonic clock is ahead of the raw one, which nobody corrects; `slept_s` how long the
    computer was suspended since its boot: then the monotonic clock stands still.
    """

    monotonic_ns: int
    utc_ns: int
    width_ns: int
    slewed_ns: int = 0
    slept_s: int = 0

    @property
    def offset_ns(self) -> int:
        """How far the system clock is ahead of the monotonic one."""
        return self.utc_ns - self.monotonic_ns


def narrowest(reads: Iterable[tuple[int, int, int, int, int]]) -> ClockRead:
    """Return the best of reads of (monotonic, real time, raw, boot time, monotonic), ns: the one that took least time.

    Raises:
        ValueError: there are none.
    """
    before_ns, utc_ns, raw_ns, boot_ns, after_ns = min(reads, key=lambda read: read[-1] - read[0])
    monotonic_ns = (before_ns + after_ns) // 2
    return ClockRead(
        monotonic_ns,
        utc_ns,
        width_ns=after_ns - before_ns,
        slewed_ns=monotonic_ns - raw_ns,
        slept_s=round((boot_ns - monotonic_ns) / NS_PER_S),
    )


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
        # The narrowest since the last step: until the next one, the difference that it found holds.
        self._read = read
        self._now_ns = read.monotonic_ns
        self._quality = quality
        self._judged_ns = self._measured_ns = judged_ns
        self._stepped_ns = -inf
        # Since when the clock has been good, and its drift before that: by whether anybody has ruled its rate since
        # its last step.
        self._good_since_ns = judged_ns
        self._drift = UNRULED_DRIFT
        self._ruled = False
        self.judge(quality, judged_ns)
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
        last, self._now_ns = self._read, read.monotonic_ns
        step_ns = read.offset_ns - last.offset_ns
        if abs(step_ns) <= last.width_ns + read.width_ns + MIN_STEP_S * NS_PER_S:
            self._read = min(last, read, key=lambda each: each.width_ns)
            return
        self._read = read
        said = f"stepped by {step_ns / NS_PER_S:+.4g} s at {_iso(read.utc_ns)}"
        leap_ns = self._leap_ns(step_ns, read.utc_ns)
        if leap_ns is not None:
            self._leaps.append((leap_ns - last.offset_ns, step_ns))
            self.notice(read.monotonic_ns, f"leap second: {said}")
            return
        self._stepped_ns, self._ruled = read.monotonic_ns, False
        self.notice(read.monotonic_ns, said)

    def judge(self, quality: ClockQuality, monotonic_ns: int) -> None:
        """Take a judgement on the system clock, made at a moment."""
        was_good = self._is_good()
        self._quality, self._judged_ns = quality, monotonic_ns
        self._measured_ns = monotonic_ns - round(quality.age_s * NS_PER_S)
        if not self._is_good():
            return
        if not was_good:
            self._good_since_ns, self._drift = monotonic_ns, self._free_drift
        # A clock that is only measured to be ahead runs on at the rate that it has.
        self._ruled = quality.ahead_s == 0

    def date(self, monotonic_ns: int) -> Dated:
        """Return the UTC of a moment.

        What lies before a step is dated as the clock says after it, since who stepped it knew better; across a leap
        second, as the clock said before. What lies before the clock was good drifts away from it.
        """
        offset_ns = self._read.offset_ns - sum(step_ns for at_ns, step_ns in self._leaps if monotonic_ns < at_ns)
        good = self._is_good()
        if good:
            before_ns, drift = self._good_since_ns - monotonic_ns, self._drift
        else:
            # It will be good no earlier than now.
            before_ns, drift = self._now_ns - monotonic_ns, self._free_drift
        drifted_s = drift * max(0, before_ns) / NS_PER_S
        silent_s = self._silent_s(monotonic_ns)
        holdover_s = drifted_s + self._free_drift * max(0.0, silent_s - FRESH_S)
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
            pending=drifted_s <= MAX_HOLDOVER_S,
        )

    def why(self, monotonic_ns: int) -> str:
        """Return a sentence for the owner: the last judgement's, whether it is old, and what happened to the clock."""
        silent_s = self._silent_s(monotonic_ns)
        old = [f"not judged again for {silent_s:.0f} s"] if silent_s > FRESH_S else []
        return "; ".join([self._quality.why, *old, *self.notices(monotonic_ns)])

    @property
    def _free_drift(self) -> float:
        """How far the clock drifts while nobody vouches for it, seconds per second."""
        return HELD_DRIFT if self._ruled else UNRULED_DRIFT

    def _is_good(self) -> bool:
        """Say whether the last judgement is good, and what it rests on no older than the last step."""
        return self._quality.good and self._measured_ns >= self._stepped_ns

    def _silent_s(self, monotonic_ns: int) -> float:
        return (monotonic_ns - self._judged_ns) / NS_PER_S

    def _leap_ns(self, step_ns: int, utc_ns: int) -> int | None:
        """Return when a leap second that was announced made this step, as the clock showed just before; else None."""
        announced_ns = {"insert": -NS_PER_S, "delete": NS_PER_S}.get(self._quality.leap)
        if announced_ns is None or abs(step_ns - announced_ns) > LEAP_TOLERANCE_S * NS_PER_S:
            return None
        midnight_ns = round(utc_ns / (DAY_S * NS_PER_S)) * DAY_S * NS_PER_S
        # The kernel repeats the last second of the day, or leaves it out.
        leap_ns = midnight_ns - max(0, announced_ns)
        return leap_ns if 0 <= utc_ns - step_ns - leap_ns < LEAP_WITHIN_S * NS_PER_S else None


def _iso(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns // NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
