"""Clock and GPS: what whoever keeps the clock says of it, whether a place will be known, and what an owner can do."""

import time
from pathlib import Path

from soundranger_node.check.result import Result, fails, ok, warning
from soundranger_node.config import Clock
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.gpsd import MODE_3D, GpsdClient, GpsReport
from soundranger_node.timekeeping.judge import fresh_pulse
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.survey import Survey, SurveyedPlace
from soundranger_node.timekeeping.watch import ClockWatch

# A gpsd that is there says hello within this.
HELLO_S = 1.0
# A GPS gives its pulse and its fix once a second, and a pulse is believed from the fourth on.
GPS_WAIT_S = 6.0
POLL_S = 0.2

# Five metres of sound: beyond, the clock is what limits a location.
COARSE_SIGMA_S = 0.015


def judge_clock(quality: ClockQuality) -> Result:
    """Judge what the node itself would make of the system clock now."""
    found = f"tier {quality.tier}, by {quality.source}: {quality.why}"
    if quality.source == "nobody":
        remedy = "let chrony keep it, by a network or a GPS; detections wait until then"
        return fails("clock", found, remedy, "sudo apt install chrony; sudo systemctl restart chrony")
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


def judge_gps(gps: GpsReport | Absent, known: SurveyedPlace | None) -> Result:
    """Judge whether the place that a GPS is to survey in is `known`, or will be; until then a node hears nothing."""
    if known is not None:
        return ok("GPS", f"has surveyed the place in, to {known.position_sigma_m:.1f} m")
    remedy = "docs/clocks.md tells how to wire one; or set [place] lat, lon and alt_m. What gpsd does, shows"
    if isinstance(gps, Absent):
        return fails("GPS", f"nothing surveys the place in: {gps.reason}", remedy, "systemctl status gpsd")
    if gps.devices == 0:
        return fails("GPS", "nothing surveys the place in: gpsd has no GPS to read", remedy, "systemctl status gpsd")
    if gps.mode < MODE_3D:
        found = "has no fix with a height yet, and the node hears nothing until it knows its place"
        return warning("GPS", found, "give it open sky, and minutes; what it sees, shows", "cgps")
    return ok("GPS", f"has a fix by {gps.satellites_used} satellites; the place is known after some minutes of it")


def probe(clock: Clock, surveyed: Path | None) -> list[Result]:
    """Ask whoever the configuration names, once, as the node does every few seconds.

    `surveyed` is the file of the place, where a GPS is to survey it in.
    """
    gpsd = GpsdClient(clock.gpsd) if surveyed or clock.source in {"auto", "gpsd"} else None
    try:
        if gpsd is not None:
            gpsd.start()
            _wait_for_pulse(gpsd)
        results = [judge_clock(ClockWatch(clock, gpsd).look()[0])]
        if gpsd is not None and surveyed is not None:
            results.append(judge_gps(gpsd.report(time.monotonic()), Survey(surveyed).place))
    finally:
        if gpsd is not None:
            gpsd.close()
    return results


def _wait_for_pulse(gpsd: GpsdClient) -> None:
    """Return once gpsd has told of a pulse, or does not answer, or has had its time."""
    start_s = time.monotonic()
    while (waited_s := time.monotonic() - start_s) < GPS_WAIT_S:
        report = gpsd.report(time.monotonic())
        if fresh_pulse(report) is not None or (isinstance(report, Absent) and waited_s > HELLO_S):
            return
        time.sleep(POLL_S)
