"""Words: numbers, names and times as sentences for people hold them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from soundranger_node.utc import NS_PER_S

# A sentence names this many nodes, and counts the others.
MOST_NAMED = 6
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")


def number(count: int) -> str:
    """Return a count in words, up to twelve."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def counted(count: int, one: str) -> str:
    """Return a count of things, whose plural ends in s."""
    return f"{number(count)} {one if count == 1 else one + 's'}"


def names(of: Sequence[str]) -> str:
    """Return a list of names: "a, b and c", or "a, b, c and 7 more"."""
    shown = list(of[:MOST_NAMED])
    last = f"{len(of) - MOST_NAMED} more" if len(of) > MOST_NAMED else shown.pop() if shown else ""
    return f"{', '.join(shown)} and {last}" if shown else last


def seconds(value_s: float) -> str:
    """Return a span of time to two digits: "310 ms", "2.4 s"."""
    if abs(value_s) < 1.0:
        return f"{float(f'{abs(value_s) * 1e3:.2g}'):g} ms"
    return f"{float(f'{abs(value_s):.2g}'):g} s"


def metres(value_m: float) -> str:
    """Return a length to two digits: "340 m", "5.1 km"."""
    rounded = float(f"{abs(value_m):.2g}")
    return f"{rounded / 1e3:g} km" if rounded >= 1e3 else f"{rounded:g} m"  # noqa: PLR2004 - a kilometre


def percent(share: float) -> str:
    """Return a share in whole percent: "25%", "under 1%"."""
    return f"{share:.0%}" if share >= 0.01 else "under 1%"  # noqa: PLR2004 - what would be shown as none


def bearing(east_m: float, north_m: float) -> str:
    """Return the direction of a way as one of eight winds."""
    return _COMPASS[round(math.degrees(math.atan2(east_m, north_m)) / 45.0) % 8]


def moment(time_ns: int) -> str:
    """Return a UTC to the second."""
    return f"{datetime.fromtimestamp(time_ns // NS_PER_S, tz=UTC):%H:%M:%S} UTC"


def sentence(text: str) -> str:
    """Return a text that starts with a capital and ends with a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
