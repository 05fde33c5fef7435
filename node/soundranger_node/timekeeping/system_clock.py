"""The computer's clocks, read: the only place of the timekeeping that does."""

import time
from pathlib import Path

from soundranger_node.timekeeping.utc_clock import ClockRead, narrowest

# The first reads after a sleep are slow; of a handful one is rarely interrupted.
READS = 5
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_clocks() -> ClockRead:
    """Return the narrowest of several reads of the other clocks between two of the monotonic clock."""
    return narrowest(
        (
            time.monotonic_ns(),
            time.time_ns(),
            time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW),
            time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            time.monotonic_ns(),
        )
        for _ in range(READS)
    )


def boot_id(otherwise: str, path: Path = BOOT_ID) -> str:
    """Return the kernel's id of this boot, by which monotonic times of two runs can be compared.

    Where the kernel does not tell it: `otherwise`, which is to be no other run's.
    """
    try:
        return path.read_text(encoding="ascii").strip() or otherwise
    except (OSError, UnicodeDecodeError):
        return otherwise
