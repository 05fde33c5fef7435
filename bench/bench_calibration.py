"""Whether a probability is what it says: of the events that were given 0.9, how many are real.

Over the scenario families, from an open field to a town, on seeds that nothing was tuned on. First the final events;
then, of the same detections as a stream, the first word about each: what was said when four nodes agreed and the rest
was still to come. An event is real where it matches a shot by the rule of the shared score, and no other event matches
that shot better. A line is honest where what was stated lies within the 95 % interval of what is real.

    python bench/bench_calibration.py                                       three seeds, one as a stream
    python bench/bench_calibration.py --seeds 7 --families urban,newyear    a short one
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

import worlds
from soundranger_broker.locator import Locator
from soundranger_broker.warm import warm_up
from soundranger_node.messages import Event
from soundranger_node.utc import NS_PER_S

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
# A message comes in this long after its sound, and news is looked for this often.
DELAY_NS = NS_PER_S // 10
TICK_NS = NS_PER_S // 4
# How long after its time a detection may come in, as in the demonstration; how long after the last one all is told.
LATENESS_NS, AFTER_NS = 2 * NS_PER_S, 60 * NS_PER_S

# The probability that was stated, and whether the event is real.
Judged = tuple[float, bool]


def first_words(world: worlds.World) -> list[worlds.Row]:
    """Return the first that was said of each event, of a stream of the world's detections."""
    locator = Locator(LATENESS_NS)
    times_ns = [int(row["time_ns"]) + DELAY_NS for row in world.detections]
    mail = list(zip(times_ns, world.payloads, strict=True))[::-1]
    said: dict[str, Event] = {}
    for now_ns in range(times_ns[0], times_ns[-1] + AFTER_NS, TICK_NS):
        while mail and mail[-1][0] <= now_ns:
            come_ns, payload = mail.pop()
            locator.detection(payload, come_ns)
        for news in locator.advance(now_ns):
            if isinstance(news, Event) and news.status == "preliminary":
                said.setdefault(news.id, news)
    return [worlds.plain(event) for event in said.values()]


def judged(world: worlds.World, events: Sequence[worlds.Row]) -> list[Judged]:
    """Return each event's probability, and whether it is real."""
    real = worlds.matched(events, world.shots)
    return [(event["probability"], number in real) for number, event in enumerate(events)]


def print_head(title: str) -> None:
    """Print what the columns are."""
    print(f"{title:24s} {'events':>7s} {'stated':>8s} {'real':>8s}   95 % interval of real")


def print_row(name: str, events: Sequence[Judged]) -> None:
    """Print how many events there are, what was stated of them on average, and how many are real."""
    if not events:
        print(f"{name:24s} {0:7d}")
        return
    stated, real = np.array(events).T
    interval = binomtest(int(real.sum()), len(real)).proportion_ci()
    mean = stated.mean()
    verdict = "honest" if interval.low <= mean <= interval.high else "too sure" if mean > interval.high else "shy"
    print(
        f"{name:24s} {len(real):7d} {mean:8.4f} {real.mean():8.4f}   "
        f"{interval.low:.4f} to {interval.high:.4f}: {verdict}",
        flush=True,
    )


def print_table(title: str, events: Sequence[Judged]) -> None:
    """Print a line for each range of probabilities, and one for all."""
    print_head(title)
    for least, most in pairwise(EDGES):
        print_row(
            f"{least:g} to {most:g}", [one for one in events if least <= one[0] < most or one[0] == most == EDGES[-1]]
        )
    print_row("all", events)
    print()


def main() -> None:
    """Print a line for each family as it is done, and both tables."""
    parser = worlds.parser(__doc__)
    parser.add_argument(
        "--streams", type=int, default=1, help="of so many of the seeds, the first words as well: that takes longest"
    )
    options = parser.parse_args()
    if not worlds.are_here():
        return
    warm_up()
    finals, firsts = list[Judged](), list[Judged]()
    print_head("by family")
    for family in options.families:
        final, first = list[Judged](), list[Judged]()
        for seed in options.seeds:
            world = worlds.scenario(family, seed)
            final += judged(world, worlds.located(world)[0])
            if seed in options.seeds[: options.streams]:
                first += judged(world, first_words(world))
        print_row(f"{family}, final", final)
        print_row(f"{family}, first words", first)
        finals += final
        firsts += first
    print()
    print_table("final events", finals)
    print_table("first words", firsts)


if __name__ == "__main__":
    main()
