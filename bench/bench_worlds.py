"""The scenario families: what is found, what is invented, how far off, how honest, how fast, beside the goals.

Seeds that nothing was tuned on; a goal is hit where the worst of them hits it. `cpu_s` is processor time, one thread,
from the bytes of the messages to the events; `a_second` detections in one of it, `real_time` how much faster than they
came. At the end: whether the probabilities of all these events are what they say.

    python bench/bench_worlds.py                                    three seeds of seven families
    python bench/bench_worlds.py --seeds 7 --families clean,urban   a short one
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import worlds
from honesty import Judged, judged, print_tables
from soundranger_broker.warm import warm_up

# Of an honest ellipse.
HONEST_COVERAGE, HONEST_MAHALANOBIS2 = 0.95, 2.0


@dataclass(frozen=True)
class Figure:
    """A column of the table: how it is printed, and how much worse than it could be a value is."""

    name: str
    form: str
    badness: Callable[[float], float]

    @property
    def width(self) -> str:
        """The width of the column."""
        return self.form.split(".")[0]


FIGURES = (
    Figure("recall", "9.3f", lambda value: -value),
    Figure("precision", "9.3f", lambda value: -value),
    Figure("coverage95", "10.3f", lambda value: abs(value - HONEST_COVERAGE)),
    Figure("mahalanobis2", "12.2f", lambda value: abs(np.log(value / HONEST_MAHALANOBIS2))),
    Figure("median_m", "8.2f", lambda value: value),
    Figure("p95_m", "7.2f", lambda value: value),
    Figure("crlb_ratio", "10.3f", lambda value: value),
    Figure("cpu_s", "6.1f", lambda value: value),
    Figure("a_second", "8.0f", lambda value: -value),
    Figure("real_time", "9.1f", lambda value: -value),
)

# The least and the most that a figure may be.
Goal = tuple[float, float]
COVERAGE: Goal = (0.92, 0.99)


def goals(recall: float, precision: float, **others: Goal) -> dict[str, Goal]:
    """Return the goals of a family."""
    return {"recall": (recall, 1.0), "precision": (precision, 1.0), "coverage95": COVERAGE, **others}


GOALS = {
    "clean": goals(0.99, 0.99, crlb_ratio=(0.0, 1.05)),
    "urban": goals(0.97, 0.97),
    "burst": goals(0.97, 0.97),
    "crossfire": goals(0.95, 0.95),
    "newyear": goals(0.95, 0.95, real_time=(100.0, np.inf)),
    "badclock": goals(0.99, 0.99),
    "outside": goals(0.97, 0.99),
}


def measured(family: str, seed: int) -> tuple[dict[str, float], list[Judged]]:
    """Return the figures of one world, and what of its events is real."""
    world = worlds.scenario(family, seed)
    events, taken_s = worlds.located(world)
    speed = {"cpu_s": taken_s, "a_second": len(world.payloads) / taken_s, "real_time": world.span_s / taken_s}
    return worlds.score(world, events) | speed, judged(world, events)


def aim(goal: Goal | None) -> str:
    """Return a goal in words."""
    if goal is None:
        return ""
    least, most = goal
    if most in {1.0, np.inf}:
        return f">={least:g}"
    return f"{least:g}-{most:g}" if least else f"<={most:g}"


def verdict(goal: Goal | None, worst: float) -> str:
    """Return whether a goal is hit."""
    if goal is None:
        return ""
    return "hit" if goal[0] <= worst <= goal[1] else "MISS"


def print_family(family: str, found: Sequence[dict[str, float]]) -> None:
    """Print the mean and the worst of the seeds, and what of the goals is hit."""
    cells: dict[str, list[str]] = {"mean": [], "worst": [], "goal": [], "": []}
    for figure in FIGURES:
        values = [one[figure.name] for one in found]
        worst = max(values, key=figure.badness)
        goal = GOALS[family].get(figure.name)
        cells["mean"].append(f"{np.mean(values):{figure.form}}")
        cells["worst"].append(f"{worst:{figure.form}}")
        cells["goal"].append(f"{aim(goal):>{figure.width}s}")
        cells[""].append(f"{verdict(goal, worst):>{figure.width}s}")
    for row, texts in cells.items():
        print(f"{family if row == 'mean' else '':10s} {row:5s} " + " ".join(texts), flush=True)


def main() -> None:
    """Print a table of the families, and one of the probabilities."""
    options = worlds.parser(__doc__).parse_args()
    if not worlds.are_here():
        return
    warm_up()
    names = " ".join(f"{figure.name:>{figure.width}s}" for figure in FIGURES)
    print(f"seeds {', '.join(str(seed) for seed in options.seeds)}\n{'family':16s} {names}")
    real: dict[str, list[Judged]] = {}
    for family in options.families:
        found, events = zip(*(measured(family, seed) for seed in options.seeds), strict=True)
        print_family(family, found)
        real[family] = [one for some in events for one in some]
    print_tables("final events", real)


if __name__ == "__main__":
    main()
