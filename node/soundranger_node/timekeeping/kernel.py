"""What the kernel holds of its own clock: adjtimex(2), and whether it is systemd-timesyncd that steers it."""

import ctypes
import errno
import os
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.quality import Leap

# systemd-timesyncd touches it when it has set the clock, and systemd removes it when timesyncd is stopped.
TIMESYNCD_MARKER = Path("/run/systemd/timesync/synchronized")
MICROSECONDS = 1e6
# How fast the kernel lets its maximum error grow while nobody renews it (MAXFREQ in linux/timex.h).
MAX_ERROR_GROWTH = 500e-6


class Status(IntFlag):
    """The status bits of adjtimex(2) that say who steers the clock and whether it is any good."""

    PLL = 0x0001
    PPSTIME = 0x0004
    INS = 0x0010
    DEL = 0x0020
    UNSYNC = 0x0040
    PPSSIGNAL = 0x0100


# The pulse is there, and it is what sets the clock.
STEERED_BY_PULSE = Status.PPSTIME | Status.PPSSIGNAL


@dataclass(frozen=True)
class KernelClock:
    """The kernel's own account of the system clock.

    `max_error_s` is what the daemon that steers it stated last, and grows by 500 us a second since then. `timesyncd`
    says that this daemon is systemd-timesyncd, which always states zero.
    """

    status: Status
    max_error_s: float
    timesyncd: bool

    @property
    def synchronised(self) -> bool:
        """Whether anybody has set the clock, and lately enough (the kernel gives up at 16 s of maximum error)."""
        return Status.UNSYNC not in self.status

    @property
    def steered_by_pulse(self) -> bool:
        """Whether the kernel itself follows a pulse per second."""
        return STEERED_BY_PULSE in self.status

    @property
    def leap(self) -> Leap:
        """What is announced for the end of the UTC day."""
        if Status.INS in self.status:
            return "insert"
        return "delete" if Status.DEL in self.status else "none"

    @property
    def unattended_s(self) -> float:
        """How long ago a daemon that states zero error has set the clock."""
        return self.max_error_s / MAX_ERROR_GROWTH


def timex_structure(long: type) -> type[ctypes.Structure]:
    """Return `struct timex` of adjtimex(2), given the C type `long`.

    The symbol `adjtimex` of a C library on 32 bits always takes the structure with the 32-bit time, whatever time_t is:
    the one with the 64-bit time has another symbol, which the C headers choose. So every number but `int` is a `long`.
    """

    class Timex(ctypes.Structure):
        """`struct timex`."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            *((name, long) for name in ("offset", "freq", "maxerror", "esterror")),
            ("status", ctypes.c_int),
            *((name, long) for name in ("constant", "precision", "tolerance", "time_s", "time_fraction")),
            *((name, long) for name in ("tick", "ppsfreq", "jitter")),
            ("shift", ctypes.c_int),
            *((name, long) for name in ("stabil", "jitcnt", "calcnt", "errcnt", "stbcnt")),
            ("tai", ctypes.c_int),
            ("reserved", ctypes.c_int * 11),
        )

    return Timex


def ask_kernel(timesyncd_marker: Path = TIMESYNCD_MARKER) -> KernelClock | Absent:
    """Return the kernel's account of the system clock; changes nothing and needs no privileges."""
    timex = timex_structure(ctypes.c_long)()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError) as error:
        return Absent(f"this system has no adjtimex ({error})")
    if state < 0:
        number = ctypes.get_errno()
        name = errno.errorcode.get(number, str(number))
        return Absent(f"the kernel does not let its clock be read ({name}: {os.strerror(number)})")
    return kernel_clock(timex, timesyncd_marker.exists())


def kernel_clock(timex: ctypes.Structure, timesyncd: bool) -> KernelClock:
    """Return what a filled `struct timex` says; errors are in microseconds in it, whatever its status."""
    return KernelClock(
        status=Status(timex.status),
        max_error_s=timex.maxerror / MICROSECONDS,
        timesyncd=timesyncd,
    )
