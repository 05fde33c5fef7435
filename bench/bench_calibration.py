"""Whether a probability is what it says: of the events that were given 0.9, how many are real.

Over the scenario families, on seeds that nothing was tuned on. First the final events; then, of the same detections as
a stream, the first word about each: what was said when four nodes agreed and the rest was still to come. An event is
real where it matches a shot by the rule of the shared score, and no other event matches that shot better.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import binomtest

import worlds
from soundranger_broker.locator import Locator
from soundranger_broker.warm import warm_up
from soundranger_node.messages import Event
from soundranger_node.utc import NS_PER_S

EDGES = (0.0, 0.5, 0.8, 0.95, 0.99, 1.0)
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


def print_table(title: str, events: Iterable[Judged]) -> None:
    """Print, by what was stated, how many events there are and how many of them are real."""
    stated, real = np.array(list(events)).reshape(-1, 2).T
    print(f"{title:24s} {'events':>7s} {'stated':>8s} {'real':>8s}   95 % interval of real")
    bins = np.clip(np.digitize(stated, EDGES) - 1, 0, len(EDGES) - 2)
    for number in range(len(EDGES) - 1):
        inside = bins == number
        name = f"{EDGES[number]:g} to {EDGES[number + 1]:g}"
        if not inside.any():
            print(f"{name:24s} {0:7d}")
            continue
        mean = stated[inside].mean()
        interval = binomtest(int(real[inside].sum()), int(inside.sum())).proportion_ci()
        verdict = "honest" if interval.low <= mean <= interval.high else "too sure" if mean > interval.high else "shy"
        print(
            f"{name:24s} {inside.sum():7d} {mean:8.4f} {real[inside].mean():8.4f}   "
            f"{interval.low:.4f} to {interval.high:.4f}: {verdict}"
        )
    print(f"{'all':24s} {len(stated):7d} {stated.mean():8.4f} {real.mean():8.4f}\n", flush=True)


def main() -> None:
    """Print both tables."""
    options = worlds.parser(__doc__).parse_args()
    if not worlds.are_here():
        return
    warm_up()
    finals: list[Judged] = []
    firsts: list[Judged] = []
    for family in options.families:
        for seed in options.seeds:
            world = worlds.scenario(family, seed)
            finals += judged(world, worlds.located(world)[0])
            firsts += judged(world, first_words(world))
    print_table("final events", finals)
    print_table("first words", firsts)


if __name__ == "__main__":
    main()
