"""Whether a probability is what it says: of the events that were given 0.9, how many are real.

The scenario families, from an open field to a town, on seeds that nothing was tuned on, as streams: the first word
about each event, said when four nodes agreed and the rest was still to come, and the last. Streams take long, for they
are looked at four times a second, so they are cut short; `bench_worlds.py` says the same of the final events of whole
worlds.

    python bench/bench_calibration.py                                       40 shots of each of three seeds
    python bench/bench_calibration.py --seeds 7 --families urban,newyear    a short one
"""

import worlds
from honesty import Judged, judged, print_tables
from soundranger_broker.locator import Locator
from soundranger_broker.warm import warm_up
from soundranger_node.messages import Event
from soundranger_node.utc import NS_PER_S

# A message comes in this long after its sound, and news is looked for this often.
DELAY_NS = NS_PER_S // 10
TICK_NS = NS_PER_S // 4
# How long after its time a detection may come in, as in the demonstration; how long after its time all is told.
LATENESS_NS, AFTER_NS = 2 * NS_PER_S, 30 * NS_PER_S


def words(world: worlds.World, until_ns: int) -> tuple[list[worlds.Row], list[worlds.Row]]:
    """Return the first and the last that was said of each event before a time, of a stream of the detections."""
    locator = Locator(LATENESS_NS)
    times_ns = [int(row["time_ns"]) + DELAY_NS for row in world.detections]
    mail = list(zip(times_ns, world.payloads, strict=True))[::-1]
    first, last = dict[str, Event](), dict[str, Event]()
    for now_ns in range(times_ns[0], min(times_ns[-1], until_ns) + AFTER_NS, TICK_NS):
        while mail and mail[-1][0] <= now_ns:
            come_ns, payload = mail.pop()
            locator.detection(payload, come_ns)
        for news in locator.advance(now_ns):
            if isinstance(news, Event) and news.time_ns < until_ns:
                (last if news.status == "final" else first).setdefault(news.id, news)
    return [worlds.plain(event) for event in first.values()], [worlds.plain(event) for event in last.values()]


def main() -> None:
    """Print both tables."""
    parser = worlds.parser(__doc__)
    parser.add_argument("--shots", type=int, default=40, help="of each world, so many shots are streamed")
    options = parser.parse_args()
    if not worlds.are_here():
        return
    warm_up()
    firsts: dict[str, list[Judged]] = {family: [] for family in options.families}
    lasts: dict[str, list[Judged]] = {family: [] for family in options.families}
    made = [(family, seed) for family in options.families for seed in options.seeds]
    for family, seed in worlds.progress(made, len(made), "worlds"):
        world = worlds.scenario(family, seed)
        fired_ns = sorted(int(shot["time_ns"]) for shot in world.shots)
        first, last = words(world, [*fired_ns[options.shots :], world.later_ns][0])
        firsts[family] += judged(world, first)
        lasts[family] += judged(world, last)
    print_tables("first words", firsts)
    print_tables("last words", lasts)


if __name__ == "__main__":
    main()
