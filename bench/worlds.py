"""Detections whose truth is known, located and scored: what several benchmarks share.

The scenario families, the live fire and the rules of scoring are not part of the project: they lie beside the
recordings that SOUNDRANGER_DATA names. Where there are none, benchmarks that need them say so.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from soundranger_broker.geodesy import Frame
from soundranger_broker.locator import locate_all
from soundranger_node.messages import Event
from soundranger_node.utc import NS_PER_S

DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[2] / "shared" / "data")
SHARED = DATA.parent / "bench"
FAMILIES = ("clean", "urban", "burst", "crossfire", "newyear", "badclock", "outside")
# Seeds that nothing was tuned on.
SEEDS = (1001, 1002, 1003)
# The live fire's survey is right to this (standard deviation).
SURVEY_M = 2.5
# An event within this of a shot, in place and in time, is that shot; the rule of the shared score.
MATCH_M, MATCH_S = 100.0, 0.35
# One second off is as bad as the way that sound makes in it.
SPEED_MPS = 343.0
# A file is located as of long after it.
LATER_NS = 10_000 * NS_PER_S

# Progress is told this often, s.
PROGRESS_EVERY_S = 10.0

# A message that became plain values, as JSON has them.
Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What nodes reported, as payloads in time order, and the shots that there were."""

    name: str
    payloads: list[bytes]
    shots: list[Row]
    survey_m: float = 0.0

    @property
    def detections(self) -> list[Row]:
        """The payloads as plain values."""
        return [json.loads(payload) for payload in self.payloads]

    @property
    def span_s(self) -> float:
        """How long it lasted: from the first report to the last."""
        rows = self.detections
        return float(rows[-1]["time_ns"] - rows[0]["time_ns"]) / NS_PER_S

    @property
    def later_ns(self) -> int:
        """A time at which all of it is long past."""
        return int(self.detections[-1]["time_ns"]) + LATER_NS


def scenario(family: str, seed: int) -> World:
    """Return one world of a family."""
    with tempfile.TemporaryDirectory() as work:
        _script("scenarios.py", "--out", work, "--seed", seed, "--families", family)
        return _read(f"{family} {seed}", Path(work) / family)


def live_fire(pulses: str = "all") -> Iterator[World]:
    """Yield what sensors reported at each firing position: `all` of it, or what the authors `selected` for a shot."""
    with tempfile.TemporaryDirectory() as work:
        _script("livefire.py", DATA / "livefire", "--out", work, "--pulses", pulses)
        for folder in sorted(path for path in Path(work).iterdir() if path.is_dir()):
            yield _read(folder.name, folder, SURVEY_M)


def located(world: World) -> tuple[list[Row], float]:
    """Return the events that soundranger finds, and the seconds of processor time that this took."""
    started_s = time.process_time()
    events, _ = locate_all(world.payloads, world.later_ns)
    taken_s = time.process_time() - started_s
    return [plain(event) for event in events], taken_s


def plain(event: Event) -> Row:
    """Return an event as plain values."""
    values: Row = msgspec.to_builtins(event)
    return values


def score(world: World, events: Sequence[Row]) -> dict[str, float]:
    """Return what the shared score says of events."""
    scored: dict[str, float] = _shared_score()(
        list(events), world.shots, detections=world.detections, survey_m=world.survey_m
    )
    return scored


def matched(events: Sequence[Row], shots: Sequence[Row]) -> dict[int, tuple[int, float]]:
    """Return, by the number of an event, the shot that it found and how far off it is (m): one to one, best first."""
    when_s = np.array([event["time_ns"] / NS_PER_S for event in events])
    pairs = []
    for number, shot in enumerate(shots):
        late_s = np.abs(when_s - shot["time_ns"] / NS_PER_S)
        for event in np.flatnonzero(late_s <= MATCH_S).tolist():
            off_m = _distance_m(events[event], shot)
            if off_m <= MATCH_M:
                pairs.append((off_m + SPEED_MPS * late_s[event], event, number, off_m))
    found: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for _, event, number, off_m in sorted(pairs):
        if event not in found and number not in taken:
            found[event] = number, off_m
            taken.add(number)
    return found


def parser(
    description: str | None, families: Sequence[str] = FAMILIES, seeds: Sequence[int] = SEEDS
) -> argparse.ArgumentParser:
    """Return a parser of the options that benchmarks on scenarios have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=list(seeds),
        help=f"of random worlds; {','.join(map(str, seeds))} by default",
    )
    made.add_argument(
        "--families",
        type=lambda text: text.split(","),
        default=list(families),
        help=f"of scenarios; {','.join(families)} by default",
    )
    return made


def are_here() -> bool:
    """Say whether the shared scripts are there; where they are not, print so."""
    if (SHARED / "scenarios.py").is_file() and (SHARED / "score.py").is_file():
        return True
    print(f"there are no scenarios at {SHARED}; set SOUNDRANGER_DATA to the folder beside theirs")
    return False


def live_fire_is_here() -> bool:
    """Say whether the live-fire tests and the shared scripts are there; where they are not, print so."""
    if (DATA / "livefire").is_dir() and (SHARED / "livefire.py").is_file():
        return True
    print(f"there are no live-fire tests at {DATA}; set SOUNDRANGER_DATA to the folder that holds them")
    return False


def progress(items: Iterable[T], count: int, what: str) -> Iterator[T]:
    """Yield items, and now and then say on standard error how many of `count` are done."""
    told_s = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - told_s > PROGRESS_EVERY_S:
            told_s = time.monotonic()
            print(f"{number} of {count} {what}", file=sys.stderr, flush=True)
        yield item


def _distance_m(event: Row, shot: Row) -> float:
    offset: NDArray[np.float64] = Frame(shot["lat"], shot["lon"]).to_enu(event["lat"], event["lon"])
    return float(np.hypot(offset[0], offset[1]))


def _read(name: str, folder: Path, survey_m: float = 0.0) -> World:
    shots = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    return World(name, (folder / "detections.jsonl").read_bytes().splitlines(), shots, survey_m)


def _script(name: str, *options: object) -> None:
    command = [sys.executable, str(SHARED / name), *(str(option) for option in options)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@cache
def _shared_score() -> Any:
    return runpy.run_path(str(SHARED / "score.py"))["score"]
