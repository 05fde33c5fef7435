"""How honest stated probabilities are: of the events that were given one, how many are real.

An event is real where it matches a shot by the rule of the shared score, and no other event matches that shot better.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

import worlds

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)

# The probability that was stated, and whether the event is real.
Judged = tuple[float, bool]


def judged(world: worlds.World, events: Sequence[worlds.Row]) -> list[Judged]:
    """Return each event's probability, and whether it is real."""
    real = worlds.matched(events, world.shots)
    return [(event["probability"], number in real) for number, event in enumerate(events)]


def print_tables(title: str, by_family: dict[str, list[Judged]]) -> None:
    """Print a line for each family, for each range of probabilities, and for all.

    A line is honest where what was stated, on average, lies within the 95 % interval of what is real.
    """
    print(f"\n{title:24s} {'events':>7s} {'stated':>8s} {'real':>8s}   95 % interval of real")
    for family, events in by_family.items():
        _print_row(family, events)
    everything = [one for events in by_family.values() for one in events]
    for least, most in pairwise(EDGES):
        inside = [one for one in everything if least <= one[0] < most or one[0] == most == EDGES[-1]]
        _print_row(f"{least:g} to {most:g}", inside)
    _print_row("all", everything)


def _print_row(name: str, events: Sequence[Judged]) -> None:
    if not events:
        print(f"{name:24s} {0:7d}")
        return
    stated, real = np.array(events).T
    interval, mean = binomtest(int(real.sum()), len(real)).proportion_ci(), stated.mean()
    verdict = "honest" if interval.low <= mean <= interval.high else "too sure" if mean > interval.high else "shy"
    print(
        f"{name:24s} {len(real):7d} {mean:8.4f} {real.mean():8.4f}   "
        f"{interval.low:.4f} to {interval.high:.4f}: {verdict}",
        flush=True,
    )
