"""Real pulses of live-fire tests (ShotSpotter Tech Note 098): every shot is found, little else, repeats together."""

import importlib.util
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from soundranger_broker.locator import locate_all

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[3] / "shared" / "data")
BENCH = DATA.parent / "bench"
# Geometric mean of the two standard deviations of repeated shots, m, by the best published method (MLG, table III of
# arXiv:2108.07377).
PUBLISHED_SPREAD_M = {"FP1": 0.48, "FP3": 0.59, "FP5": 1.15, "FP7": 0.60, "FP8": 1.69}


def script(name: str) -> ModuleType:
    """Return a script of the benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the score of every firing position."""
    if not (DATA / "livefire").is_dir() or not (BENCH / "livefire.py").is_file():
        pytest.skip(f"the live-fire data is not at {DATA}; set SOUNDRANGER_DATA to where it is")
    folder = tmp_path_factory.mktemp("livefire")
    livefire, score = script("livefire"), script("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["livefire.py", str(DATA / "livefire"), "--out", str(folder)])
        livefire.main()
    scored = {}
    for position in sorted(folder.iterdir()):
        lines = (position / "detections.jsonl").read_bytes().splitlines()
        events, ingest = locate_all(lines, time.time_ns())
        assert not ingest.dropped
        truth = score.rows(position / "truth.jsonl")
        scored[position.name] = score.score([msgspec.to_builtins(event) for event in events], truth, survey_m=2.5)
    return scored


def test_every_shot_is_found(scores: dict[str, dict[str, Any]]) -> None:
    assert all(score["recall"] == 1.0 for score in scores.values()), scores


def test_nearly_every_shot_is_located_within_15_metres(scores: dict[str, dict[str, Any]]) -> None:
    shots = sum(score["shots"] for score in scores.values())
    within = sum(score["within_15m"] * score["shots"] for score in scores.values())
    assert within / shots >= 0.99, scores


def test_little_is_located_that_was_no_shot(scores: dict[str, dict[str, Any]]) -> None:
    events = sum(score["events"] for score in scores.values())
    true = sum(score["precision"] * score["events"] for score in scores.values())
    assert true / events >= 0.98, scores


def test_the_stated_ellipses_hold_the_surveyed_place_of_every_position(scores: dict[str, dict[str, Any]]) -> None:
    for name, score in scores.items():
        assert score["coverage95"] >= 0.9, name


def test_repeated_shots_land_closer_together_than_published(scores: dict[str, dict[str, Any]]) -> None:
    ratios = [score["spread_m"] / PUBLISHED_SPREAD_M[name] for name, score in scores.items()]
    assert sum(ratios) / len(ratios) <= 0.65, ratios
