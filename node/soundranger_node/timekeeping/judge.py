"""Judges the system clock: from what chrony, gpsd and the kernel report to one tier, sigma and sentence.

How a bound becomes one standard deviation: a daemon's bound adds up every error at its worst (all of the network's
delay on one way, the crystal at its limit), so the clock is hardly ever further off. It is taken for three standard
deviations. Where the daemon cannot know what it bounds, a floor that goes with the tier counts instead.
"""

from dataclasses import dataclass, replace
from math import hypot, sqrt

from soundranger_node.config import FREE_CLOCK_SIGMA_S, Clock
from soundranger_node.messages import ClockTier
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.chrony import Tracking
from soundranger_node.timekeeping.gpsd import GpsReport, Pulse
from soundranger_node.timekeeping.kernel import KernelClock
from soundranger_node.timekeeping.quality import BOUND_SIGMAS, ClockQuality

# What a daemon's bound leaves out. pps: how late a Pi takes an interrupt. gps: the receiver's and the serial line's
# delay wander by this even where their mean was calibrated away. ntp: time stamps taken in software, and unequal ways.
# free: what timesyncd and the like reach on a home network at their worst.
FLOOR_S: dict[ClockTier, float] = {"pps": 1e-5, "gps": 1e-2, "ntp": 1e-4, "free": FREE_CLOCK_SIGMA_S}
# A clock that nobody has set: a Pi without a battery begins at the time of its last shutdown. A day says "unknown".
UNSET_SIGMA_S = 86_400.0
# How far a crystal's rate wanders, with the weather, from what the daemon that steered it has last set.
UNATTENDED_RATE = 5e-6
# A clock that is known to be this wrong has not been set yet; Debian's chrony steps it then, instead of slewing.
WRONG_S = 1.0
# A measurement every 17 minutes is chrony's slowest habit: three missed in a row mean that its source is gone.
OLD_MEASUREMENT_S = 3_600.0
# Pulses and fixes come every second; after some missed ones they no longer speak for the present.
STALE_S = 10.0
# By how much later than its own time a fix comes (gpsd_json(5) gives 0.01 to 0.7 s), with room for a slow line, and for
# a clock that is a little behind.
EARLIEST_FIX_S = -0.5
LATEST_FIX_S = 2.0
# A GPS that does not feed chrony a pulse is trusted with the number of the second, hardly with more.
SERIAL_TOLERANCE_S = 0.5

# Durations in seconds below which a person takes a unit, the unit, and its name.
UNITS = (
    (0.9995e-3, 1e-6, "us"),
    (0.9995, 1e-3, "ms"),
    (120.0, 1.0, "s"),
    (7_200.0, 60.0, "min"),
    (172_800.0, 3_600.0, "h"),
)


@dataclass(frozen=True)
class Reports:
    """What the sources said when they were asked, at `utc_s` of the system clock.

    `interval_s` is how long the judgement on them will be made use of.
    """

    chrony: Tracking | Absent
    gps: GpsReport | Absent
    kernel: KernelClock | Absent
    utc_s: float
    interval_s: float


def judge(clock: Clock, reports: Reports) -> ClockQuality:
    """Return the judgement of the source that is configured, checked against the others that had something to say.

    "auto" takes chrony, else the kernel, and prefers a GPS's pulse to either where the two agree or the pulse is alone.
    """
    if clock.source == "trusted":
        why = "the configuration says to trust this computer's clock (clock.source)"
        return ClockQuality("free", good=True, sigma_s=clock.sigma_s, bound_s=None, source="configuration", why=why)
    if clock.source == "gpsd":
        return _by_pulse(reports)
    steered = {"auto": _by_chrony_or_kernel, "chrony": _by_chrony, "kernel": _by_kernel}[clock.source](reports)
    pulse = fresh_pulse(reports.gps)
    if pulse is None:
        return _checked_by_fix(steered, reports.gps)
    return _weighed(steered, _of_pulse(pulse, reports.interval_s), may_replace=clock.source == "auto")


def fresh_pulse(gps: GpsReport | Absent) -> Pulse | None:
    """Return the pulse that speaks for the present, if there is one."""
    if isinstance(gps, Absent) or gps.pulse is None or gps.pulse.age_s > STALE_S:
        return None
    return gps.pulse


def amount(seconds: float) -> str:
    """Return a duration in the unit that a person would take."""
    size = abs(seconds)
    for below_s, unit_s, unit in UNITS:
        if size < below_s:
            return f"{size / unit_s:.3g} {unit}"
    return f"{size / 86_400:.0f} days"


def _of_bound(tier: ClockTier, bound_s: float, source: str, why: str) -> ClockQuality:
    """Return a good quality whose sigma comes from a bound; the bound holds at least three of it."""
    sigma_s = max(FLOOR_S[tier], bound_s / BOUND_SIGMAS)
    return ClockQuality(
        tier, good=True, sigma_s=sigma_s, bound_s=max(bound_s, BOUND_SIGMAS * sigma_s), source=source, why=why
    )


def _unset(source: str, why: str) -> ClockQuality:
    return ClockQuality("free", good=False, sigma_s=UNSET_SIGMA_S, bound_s=None, source=source, why=why)


def _by_chrony_or_kernel(reports: Reports) -> ClockQuality:
    if not isinstance(reports.chrony, Absent):
        return _by_chrony(reports)
    by_kernel = _by_kernel(reports)
    if by_kernel.good:
        return by_kernel
    reasons = [reports.chrony.reason, _why_no_pulse(reports.gps), by_kernel.why]
    return _unset("nobody", f"nobody vouches for this computer's clock: {'; '.join(reasons)}")


def _by_chrony(reports: Reports) -> ClockQuality:
    tracking = reports.chrony
    if isinstance(tracking, Absent):
        return _unset("chrony", tracking.reason)
    if not tracking.synchronised:
        return _unset("chrony", "chrony has no source of time yet: `chronyc sources` shows what it tries")
    if tracking.local:
        return _unset("chrony", "chrony follows only this computer's own clock: give it a server or a GPS")
    if abs(tracking.ahead_s) > WRONG_S:
        off = f"this clock is {amount(tracking.ahead_s)} off, and that it is being put right"
        return _unset("chrony", f"chrony says that {off}: `sudo chronyc makestep` does it at once")
    quality = replace(_tier_of_reference(tracking), leap=tracking.leap)
    age_s = reports.utc_s - tracking.measured_s
    if age_s > OLD_MEASUREMENT_S:
        lost = f"it last measured {amount(age_s)} ago: `chronyc sources` shows what became of its sources"
        return replace(quality, why=f"{quality.why}, but {lost}")
    return quality


def _tier_of_reference(tracking: Tracking) -> ClockQuality:
    name, bound_s = tracking.reference, tracking.bound_s
    if not tracking.refclock:
        return _of_bound(
            "ntp", bound_s, f"chrony: {name}", f"chrony follows the server {name} and is within {amount(bound_s)}"
        )
    if _marks_a_pulse(name):
        return _of_bound(
            "pps", bound_s, f"chrony: {name}", f"chrony follows the pulse {name} and is within {amount(bound_s)}"
        )
    if name.upper().startswith(("PHC", "PTP")):
        return _of_bound(
            "ntp",
            bound_s,
            f"chrony: {name}",
            f"chrony follows the hardware clock {name}, within {amount(bound_s)} of it",
        )
    why = (
        f"chrony follows {name}, which is not named as a pulse: the time over a GPS's line is good to "
        f"{amount(FLOOR_S['gps'])} at best; with a pulse, give its refclock the refid PPS"
    )
    # No bound: chrony cannot know the delay of the line, and states microseconds.
    sigma_s = max(FLOOR_S["gps"], bound_s / BOUND_SIGMAS)
    return ClockQuality("gps", good=True, sigma_s=sigma_s, bound_s=None, source=f"chrony: {name}", why=why)


def _marks_a_pulse(name: str) -> bool:
    """Whether a refclock is a pulse, by its name: PPS in it, or gpsd's odd segments of shared memory (gpsd(8))."""
    return "PPS" in name.upper() or name in {"SHM1", "SHM3"}


def _by_kernel(reports: Reports) -> ClockQuality:
    kernel = reports.kernel
    if isinstance(kernel, Absent):
        return _unset("kernel", kernel.reason)
    if not kernel.synchronised:
        return _unset("kernel", "the kernel's clock is set by nobody: connect to a network, or install chrony")
    if kernel.timesyncd:
        return replace(_of_timesyncd(kernel), leap=kernel.leap)
    tier: ClockTier = "pps" if kernel.steered_by_pulse else "ntp"
    why = f"a daemon steers the kernel's clock and has its error below {amount(kernel.max_error_s)}"
    quality = replace(_of_bound(tier, kernel.max_error_s, "kernel", why), leap=kernel.leap)
    # The kernel takes the worst crystal for granted, 500 ppm, from one renewal to the next: up to half a second.
    return replace(quality, sigma_s=min(quality.sigma_s, _unattended_sigma_s(kernel)))


def _unattended_sigma_s(kernel: KernelClock) -> float:
    """Return sigma of a clock that was set as well as is usual at home, and has been left alone since then."""
    return hypot(FLOOR_S["free"], UNATTENDED_RATE * kernel.unattended_s)


def _of_timesyncd(kernel: KernelClock) -> ClockQuality:
    sigma_s = _unattended_sigma_s(kernel)
    why = (
        f"systemd-timesyncd set the clock {amount(kernel.unattended_s)} ago and does not say how well: taken as "
        f"{amount(sigma_s)}; sudo apt install chrony does better"
    )
    return ClockQuality("free", good=True, sigma_s=sigma_s, bound_s=None, source="systemd-timesyncd", why=why)


def _by_pulse(reports: Reports) -> ClockQuality:
    pulse = fresh_pulse(reports.gps)
    return _unset("gpsd", _why_no_pulse(reports.gps)) if pulse is None else _of_pulse(pulse, reports.interval_s)


def _of_pulse(pulse: Pulse, interval_s: float) -> ClockQuality:
    """Return what a pulse says: the clock's error is measured, and known as well as a pulse is taken in.

    Until the next judgement the clock goes on running fast or slow: a ramp, which is its end / sqrt(3) off on average.
    """
    drift_s = abs(pulse.rate) * (pulse.age_s + interval_s) / sqrt(3)
    sigma_s = hypot(FLOOR_S["pps"], pulse.precision_s, pulse.scatter_s, drift_s)
    lie = "ahead" if pulse.ahead_s >= 0 else "behind"
    off = f"{amount(pulse.ahead_s)} {lie}"
    why = f"the pulse of {pulse.device or 'a GPS'} at gpsd shows the clock {off}, and times are corrected by that"
    return ClockQuality(
        "pps",
        good=True,
        sigma_s=sigma_s,
        bound_s=None,
        source="gpsd",
        why=why,
        ahead_s=pulse.ahead_s,
        age_s=pulse.age_s,
    )


def _why_no_pulse(gps: GpsReport | Absent) -> str:
    if isinstance(gps, Absent):
        return gps.reason
    if gps.devices == 0:
        return "gpsd has no receiver: name its device in /etc/default/gpsd"
    if gps.pulse is not None:
        return f"the GPS's pulse stopped {amount(gps.pulse.age_s)} ago"
    if gps.mode < 2:  # noqa: PLR2004 - gpsd's number for the simplest fix
        return f"the GPS has no fix ({gps.satellites_used} satellites): it needs more sky"
    return "the GPS gives gpsd a fix but no pulse, and a fix alone dates nothing: wire its PPS, or feed chrony from it"


def _weighed(steered: ClockQuality, alone: ClockQuality, *, may_replace: bool) -> ClockQuality:
    """Return which of the two counts: who steers the clock, or (where it may) the pulse that measures it."""
    if not steered.good:
        return alone if may_replace else steered
    if not _agree(steered, alone):
        return _disputed(steered, alone)
    if may_replace and steered.tier != "pps":
        return replace(alone, why=f"{alone.why}; {steered.source} agrees", leap=steered.leap)
    return steered


def _agree(steered: ClockQuality, alone: ClockQuality) -> bool:
    """Whether what is left between the pulse and the clock is within what both allow."""
    if steered.tier == "gps":
        return abs(alone.ahead_s) <= SERIAL_TOLERANCE_S
    allowed_s = BOUND_SIGMAS * steered.sigma_s if steered.bound_s is None else steered.bound_s
    return abs(alone.ahead_s) <= allowed_s + BOUND_SIGMAS * alone.sigma_s


def _disputed(steered: ClockQuality, alone: ClockQuality) -> ClockQuality:
    """Return the steered clock's quality where a pulse contradicts it.

    Whole seconds are the receiver's fault: until it has heard the almanac it may not know the leap seconds, and an old
    one counts weeks from the wrong end. Of anything else nobody can say who is wrong: the clock may be that far off.
    """
    off = f"a GPS's pulse at gpsd says that the clock is {amount(alone.ahead_s)} off"
    rest_s = abs(alone.ahead_s - round(alone.ahead_s))
    if round(alone.ahead_s) != 0 and _agree(steered, replace(alone, ahead_s=rest_s)):
        return replace(steered, why=f"{steered.why}; {off}, whole seconds: the receiver miscounts them")
    return replace(
        steered,
        sigma_s=max(steered.sigma_s, abs(alone.ahead_s)),
        bound_s=None,
        why=f"{steered.why}, but {off}: one is wrong, the clock's sources or the pulse's edge or wiring",
    )


def _checked_by_fix(steered: ClockQuality, gps: GpsReport | Absent) -> ClockQuality:
    """Say so where a GPS without a pulse contradicts the clock by seconds.

    The time of a fix comes too late by an unknown part of a second, so it vouches for nothing; and where it is
    seconds off, it is usually the receiver that has the leap seconds or the weeks wrong. Sigma stays.
    """
    if isinstance(gps, Absent) or gps.late_s is None or gps.fix_age_s is None or gps.fix_age_s > STALE_S:
        return steered
    if not steered.good or EARLIEST_FIX_S <= gps.late_s <= LATEST_FIX_S:
        return steered
    off = f"the GPS's own time is {amount(gps.late_s)} off this clock: see which of the two is right"
    return replace(steered, why=f"{steered.why}, but {off}")
