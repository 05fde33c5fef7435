"""The locator on all pulses of the live-fire tests: what it finds, how far off, and how close repeated shots land.

The recordings are not part of the project. SOUNDRANGER_DATA names their folder; where there is none, this says so.
Ellipses are widened by the error of the survey before they are asked whether they hold the surveyed place. Processor
time, one thread.
"""

import argparse
import math
from collections.abc import Sequence

import worlds
from soundranger_broker.warm import warm_up

# Geometric mean of the two standard deviations of repeated shots, m, by the best published method (MLG, table III of
# arXiv:2108.07377).
PUBLISHED_SPREAD_M = {"FP1": 0.48, "FP3": 0.59, "FP5": 1.15, "FP7": 0.60, "FP8": 1.69}
# Name and form of each. `ratio` is the spread over the published one.
COLUMNS = (
    ("shots", "5.0f"),
    ("recall", "7.3f"),
    ("precision", "9.3f"),
    ("within_15m", "10.3f"),
    ("coverage95", "10.3f"),
    ("median_m", "8.2f"),
    ("p95_m", "6.2f"),
    ("spread_m", "8.2f"),
    ("paper_m", "7.2f"),
    ("ratio", "5.2f"),
    ("cpu_s", "6.1f"),
    ("a_second", "8.0f"),
)
GOALS = {"recall": 1.0, "precision": 0.98, "within_15m": 0.99, "coverage95": 0.9, "ratio": 0.65}

Figures = dict[str, float]


def figures(world: worlds.World, events: Sequence[worlds.Row], cpu_s: float) -> Figures:
    """Return the figures of the events of one firing position, or of several."""
    paper_m = PUBLISHED_SPREAD_M.get(world.name, math.nan)
    scored = worlds.score(world, events)
    speed = {"cpu_s": cpu_s, "a_second": len(world.payloads) / cpu_s}
    return scored | speed | {"paper_m": paper_m, "ratio": scored["spread_m"] / paper_m}


def together(group: Sequence[worlds.World], events: Sequence[worlds.Row], scores: Sequence[Figures]) -> Figures:
    """Return the figures of all positions together, of which no two were shot from at one time.

    Shots from several places have no spread; the ratio to the published one is the mean over the positions.
    """
    payloads = [payload for world in group for payload in world.payloads]
    shots = [shot for world in group for shot in world.shots]
    whole = worlds.World("all", payloads, shots, worlds.SURVEY_M)
    ratio = sum(one["ratio"] for one in scores) / len(scores)
    return figures(whole, events, sum(one["cpu_s"] for one in scores)) | {"spread_m": math.nan, "ratio": ratio}


def row(name: str, one: Figures) -> str:
    """Return one line of the table."""
    cells = (f"{one.get(column, math.nan):{form}}" for column, form in COLUMNS)
    return f"{name:8s} " + " ".join(cell.replace("nan", "   ") for cell in cells)


def main() -> None:
    """Print a line for each firing position, one for all, and the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--positions", type=lambda text: text.split(","), help="firing positions, such as FP1,FP8; all by default"
    )
    wanted = parser.parse_args().positions
    if not worlds.live_fire_is_here():
        return
    warm_up()
    print(f"{'':8s} " + " ".join(f"{name:>{form.split('.', maxsplit=1)[0]}s}" for name, form in COLUMNS))
    group, events, scores = list[worlds.World](), list[worlds.Row](), list[Figures]()
    for world in worlds.live_fire():
        if wanted is None or world.name in wanted:
            found, cpu_s = worlds.located(world)
            group.append(world)
            events += found
            scores.append(figures(world, found, cpu_s))
            print(row(world.name, scores[-1]), flush=True)
    print(row("all", together(group, events, scores)))
    print(row("goal", GOALS))


if __name__ == "__main__":
    main()
