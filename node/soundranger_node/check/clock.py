"""The clock: what whoever keeps it says of it, and what an owner can do about it."""

import time

from soundranger_node.check.result import Result, fails, ok, warning
from soundranger_node.config import Clock
from soundranger_node.timekeeping.gpsd import GpsdClient
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.watch import ClockWatch

# A GPS gives its pulse and its fix once a second, and gpsd needs a moment to say hello.
GPS_WAIT_S = 2.5

# Five metres of sound: beyond, the clock is what limits a location.
COARSE_SIGMA_S = 0.015


def judge_clock(quality: ClockQuality) -> Result:
    """Judge what the node itself would make of the system clock now."""
    found = f"tier {quality.tier}, by {quality.source}: {quality.why}"
    if not quality.good:
        remedy = "give it a time server or a GPS, and minutes; detections wait until then. How far it is, shows"
        return fails("clock", found, remedy, "chronyc -n sources")
    if quality.source == "configuration":
        return ok("clock", f"{found}; off by {quality.sigma_s * 1e3:g} ms at one standard deviation")
    if quality.tier == "free":
        remedy = "install chrony, which says how well it keeps the time"
        return warning("clock", found, remedy, "sudo apt install chrony")
    if quality.sigma_s > COARSE_SIGMA_S:
        found = f"{found}; {quality.sigma_s * 1e3:.0f} ms are {quality.sigma_s * 340:.0f} m of sound"
        remedy = "use a nearer time server, a cable in place of Wi-Fi, or a GPS; docs/clocks.md tells how"
        return warning("clock", found, remedy, "chronyc -n sources")
    return ok("clock", found)


def probe(clock: Clock) -> list[Result]:
    """Ask whoever the configuration names, once, as the node does every few seconds."""
    gpsd = GpsdClient(clock.gpsd) if clock.source in {"auto", "gpsd"} else None
    try:
        if gpsd is not None:
            gpsd.start()
            time.sleep(GPS_WAIT_S)
        quality, _ = ClockWatch(clock, gpsd).look()
    finally:
        if gpsd is not None:
            gpsd.close()
    return [judge_clock(quality)]
