"""chrony's own account of the system clock: what `chronyc tracking` says, as text and as numbers."""

import ipaddress
import math
import os
import subprocess
from dataclasses import dataclass

from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.quality import Leap

# chronyc answers within milliseconds or, where the daemon hangs, tries again for 7 s: nobody waits for that.
TIMEOUT_S = 2.0
# What chronyd gives as its reference where it follows nothing but its own clock (`local` in its configuration).
LOCAL_REFERENCE = 0x7F7F0101
# What chronyc 4 prints with -c; later versions may add to the end.
FIELDS = 14
LEAPS: dict[str, Leap] = {"Normal": "none", "Insert second": "insert", "Delete second": "delete"}
NOT_SYNCHRONISED = "Not synchronised"


@dataclass(frozen=True)
class Tracking:
    """chronyd's state.

    `reference` is the address of a server or the name of a refclock, `measured_s` the UTC of the last measurement in
    seconds since 1970; `ahead_s` is how far the system clock is ahead of what chronyd takes for UTC: it slews that
    away.
    """

    reference: str
    reference_id: int
    measured_s: float
    ahead_s: float
    root_delay_s: float
    root_dispersion_s: float
    leap: Leap
    synchronised: bool

    @property
    def bound_s(self) -> float:
        """What the system clock's error stays below: the offset plus the root distance (RFC 5905, appendix A.5.5.2)."""
        return abs(self.ahead_s) + self.root_dispersion_s + self.root_delay_s / 2

    @property
    def local(self) -> bool:
        """Whether chronyd follows nothing but its own clock."""
        return self.reference_id == LOCAL_REFERENCE

    @property
    def refclock(self) -> bool:
        """Whether the reference is a clock at this computer: chronyc names these, and gives addresses of servers."""
        try:
            ipaddress.ip_address(self.reference)
        except ValueError:
            return not self.local
        return False


def parse_tracking(text: str) -> Tracking:
    """Return what `chronyc -c -n tracking` printed.

    Raises:
        ValueError: it is no such report.
    """
    fields = text.strip().split(",")
    if len(fields) < FIELDS:
        raise ValueError(f"has {len(fields)} fields where {FIELDS} are due")
    leap = fields[13]
    if leap != NOT_SYNCHRONISED and leap not in LEAPS:
        raise ValueError(f"has an unknown leap status {leap!r}")
    tracking = Tracking(
        reference=fields[1],
        reference_id=int(fields[0], 16),
        measured_s=float(fields[3]),
        ahead_s=-float(fields[4]),
        root_delay_s=float(fields[10]),
        root_dispersion_s=float(fields[11]),
        leap=LEAPS.get(leap, "none"),
        synchronised=leap != NOT_SYNCHRONISED,
    )
    if not (math.isfinite(tracking.measured_s) and math.isfinite(tracking.bound_s)):
        raise ValueError("has a number that is not finite")
    return tracking


def ask_chrony(address: str | None) -> Tracking | Absent:
    """Return chronyd's state; `address` is its command socket's path or its host, None for the usual places.

    Needs no privileges: chronyc falls back from the socket to UDP on the loopback interface by itself.
    """
    command = ["chronyc", "-c", "-n", *(("-h", address) if address else ()), "tracking"]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the address is the owner's own
            command,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return Absent("chrony is not installed (sudo apt install chrony)")
    except subprocess.TimeoutExpired:
        return Absent("chronyd does not answer (sudo systemctl restart chrony)")
    except (OSError, ValueError) as error:
        return Absent(f"chronyc cannot be run ({error})")
    text = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        where = "" if address is None else f" by this user at {address}"
        return Absent(f"chronyd is not running, or not to be reached{where} (sudo systemctl restart chrony)")
    try:
        return parse_tracking(text)
    except ValueError as error:
        return Absent(f"chronyc's report cannot be read: it {error}")
