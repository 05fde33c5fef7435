"""The locator on all pulses of the live-fire tests: what it finds, how far off, and how close repeated shots land.

The recordings are not part of the project. SOUNDRANGER_DATA names their folder; where there is none, this says so.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[2] / "shared" / "data")
BENCH = DATA.parent / "bench"
# The console commands are beside the interpreter.
COMMANDS = Path(sys.executable).parent
# How well the survey knows where the shooter stood, m.
SURVEY_M = 2.5
# Geometric mean of the two standard deviations of repeated shots, m, by the best published method (MLG, table III of
# arXiv:2108.07377).
PUBLISHED_SPREAD_M = {
    "FP1": 0.48,
    "FP3": 0.59,
    "FP5": 1.15,
    "FP7": 0.60,
    "FP8": 1.69,
}


def score(position: Path) -> dict[str, Any]:
    """Return the score of one firing position, with the processor time (s) that its location took."""
    events = position / "events.jsonl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run([COMMANDS / "soundranger-broker", "locate", position / "detections.jsonl", "--out", events])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    compare: list[str | Path] = [sys.executable, BENCH / "score.py", events, position / "truth.jsonl"]
    scored: dict[str, Any] = json.loads(_run([*compare, "--json", "--survey-m", str(SURVEY_M)]))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    published_m = PUBLISHED_SPREAD_M.get(position.name, float("nan"))
    return scored | {"cpu_s": cpu_s, "ratio": scored["spread_m"] / published_m}


def total(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the score of all positions together: shares by shots or events, the ratio of spreads as a plain mean."""
    shots, events = sum(one["shots"] for one in scores), sum(one["events"] for one in scores)
    by_shot = {
        name: sum(one[name] * one["shots"] for one in scores) / shots
        for name in ("recall", "within_15m", "coverage95", "median_m")
    }
    return by_shot | {
        "shots": shots,
        "events": events,
        "precision": sum(one["precision"] * one["events"] for one in scores) / events,
        "spread_m": sum(one["spread_m"] for one in scores) / len(scores),
        "ratio": sum(one["ratio"] for one in scores) / len(scores),
        "cpu_s": sum(one["cpu_s"] for one in scores),
    }


def row(name: str, one: dict[str, Any]) -> str:
    """Return one line of the table."""
    return (
        f"{name:9s} {one['shots']:6d} {one['recall']:7.1%} {one['precision']:10.3f} {one['within_15m']:12.1%} "
        f"{one['coverage95']:11.3f} {one['median_m']:9.2f} {one['spread_m']:9.2f} {one['ratio']:9.2f} "
        f"{one['cpu_s']:6.1f}"
    )


def _run(command: list[str | Path]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Print a line for each firing position, one for all, and the goals."""
    if not (DATA / "livefire").is_dir() or not (BENCH / "livefire.py").is_file():
        print(f"there are no live-fire tests at {DATA}; set SOUNDRANGER_DATA to where they are")
        return
    head = ("position", "shots", "found", "precision", "within 15 m", "coverage95", "median m", "spread m", "of paper")
    print("{:9s} {:>6s} {:>7s} {:>10s} {:>12s} {:>11s} {:>9s} {:>9s} {:>9s}".format(*head), f"{'CPU s':>6s}")
    scores = []
    with tempfile.TemporaryDirectory() as work:
        _run([sys.executable, BENCH / "livefire.py", DATA / "livefire", "--out", work])
        for position in sorted(path for path in Path(work).iterdir() if path.is_dir()):
            scores.append(score(position))
            print(row(position.name, scores[-1]), flush=True)
    print(row("all", total(scores)))
    print(f"{'goal':9s} {'':6s} {1:7.1%} {0.98:10.3f} {0.99:12.1%} {0.9:11.3f} {'':9s} {'':9s} {0.65:9.2f}")


if __name__ == "__main__":
    main()
