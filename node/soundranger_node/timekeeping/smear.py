"""Leap smear: time servers that spread a leap second over a day make the system clock run 11.574 ppm off for that day.

They announce no leap, and the clock that follows them is up to half a second off UTC. The rate of the sound card
against the clock shows it: it changes by just that at noon UTC before the leap, and back at noon after it (the smear
that Google and Amazon publish). One node cannot know whether the others follow such a server too, in which case the
error is nearly the same for all: so it is told, and nothing is corrected.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

from soundranger_node.utc import NS_PER_S

SMEAR_RATE = 1 / 86_400
# A crystal wanders by 1-2 ppm, and the daemon that follows the server by as much again.
TOLERANCE = 3e-6
# The daemon has followed within this time after noon; before it the rate is the card's own.
SETTLE_S = 1_800
# How far around noon rates are compared.
REACH_S = 7_200
# Leap seconds have only ever come at the end of these months.
LEAP_MONTHS = (6, 12)
# Rates come once a minute.
MAX_RATES = 2 * REACH_S // 60
MIN_RATES = 20


@dataclass
class SmearWatch:
    """Looks for a smear in the rate error of the sample clock (a ratio, not ppm), given once a minute."""

    _rates: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=MAX_RATES))

    def suspects(self, utc_ns: int, rate: float) -> bool:
        """Take the rate error at a moment; say whether it changed at noon as where a leap second is smeared."""
        self._rates.append((utc_ns, rate))
        noon_ns = _smear_noon_ns(utc_ns)
        if noon_ns is None:
            return False
        since_s = [((at_ns - noon_ns) / NS_PER_S, at_rate) for at_ns, at_rate in self._rates]
        before = [at_rate for at_s, at_rate in since_s if -REACH_S < at_s < 0]
        after = [at_rate for at_s, at_rate in since_s if SETTLE_S < at_s < REACH_S]
        if min(len(before), len(after)) < MIN_RATES:
            return False
        return abs(abs(median(after) - median(before)) - SMEAR_RATE) < TOLERANCE


def _smear_noon_ns(utc_ns: int) -> int | None:
    """Return the noon at which a smear would have begun or ended shortly before, if there is one."""
    now = datetime.fromtimestamp(utc_ns / NS_PER_S, tz=UTC)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    last_day = (noon + timedelta(days=1)).day == 1 and noon.month in LEAP_MONTHS
    first_day = noon.day == 1 and (noon - timedelta(days=1)).month in LEAP_MONTHS
    if not (last_day or first_day):
        return None
    noon_ns = round(noon.timestamp()) * NS_PER_S
    return noon_ns if 0 <= (utc_ns - noon_ns) / NS_PER_S < REACH_S else None
