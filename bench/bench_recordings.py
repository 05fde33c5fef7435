"""The detector on recordings: what it hears of real shots, what else sets it off, and what the locator makes of it.

The recordings are not part of the project. SOUNDRANGER_DATA names their folder; where there is none, this says so.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from soundranger_node.audiofile import FileSource
from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector, Impulse
from soundranger_node.utc import NS_PER_S, utc_ns

DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[2] / "shared" / "data")
BENCH = DATA.parent / "bench"
# The console commands are beside the interpreter.
COMMANDS = Path(sys.executable).parent
# Clips are cut tight: background before and after them gives the detector the noise level it would have had.
PAD_S = 2.0
# The background of a clip is what its quietest tenth is like, but no quieter than a field at night.
BACKGROUND_QUANTILE = 0.1
LEAST_BACKGROUND_DBFS = -66.0
# A clip that starts loud is faded in: a cut is no sound.
FADE_S = 0.02
BLOCK_S = 0.25
# A pulse and an onset that are this near are one arrival.
MATCH_S = 0.03
# Digital silence surrounds the live-fire sound; a pulse at its very edge cannot be told from the step.
EDGE_S = 0.02
# Which of a shot's arrivals are direct, and where the shooter stood, is in the data; what an event may miss it by:
FOUND_M = 15
ECHO = 0.5


class Clip(NamedTuple):
    """What a detector made of one clip."""

    seconds: float
    impulses: list[Impulse]
    withheld: int


class Heard(NamedTuple):
    """One live-fire audio file, in seconds of it: onsets, published pulses, and those of them that are direct sound."""

    onsets_s: NDArray[np.float64]
    pulses_s: NDArray[np.float64]
    direct_s: NDArray[np.float64]


def detect(samples: Samples, sample_rate_hz: float) -> tuple[list[Impulse], int]:
    """Return the impulses of a sound, and how many were withheld."""
    detector = Detector(sample_rate_hz)
    size = round(BLOCK_S * sample_rate_hz)
    found = []
    for first in range(0, len(samples), size):
        found += detector.push(Block(samples[first : first + size], first))
    return found + detector.flush(), detector.withheld


def read(path: Path) -> tuple[Samples, float]:
    """Return the first channel of a file and its sample rate."""
    source = FileSource(path)
    return np.concatenate([block.samples for block in source.blocks()]), source.sample_rate_hz


def padded(samples: Samples, sample_rate_hz: float, rng: np.random.Generator) -> Samples:
    """Return a clip with background noise before, under and after it, as loud as its own quietest tenth."""
    piece = round(0.01 * sample_rate_hz)
    levels = np.square(samples[: len(samples) // piece * piece].reshape(-1, piece)).mean(axis=1)
    quiet = float(np.quantile(levels, BACKGROUND_QUANTILE)) if len(levels) else 0.0
    amplitude = np.sqrt(max(quiet, 10 ** (LEAST_BACKGROUND_DBFS / 10)))
    pad = round(PAD_S * sample_rate_hz)
    fade = np.minimum(1, np.arange(len(samples)) / (FADE_S * sample_rate_hz))
    if float(np.square(samples[:piece]).mean()) < 2 * amplitude**2:
        fade[:] = 1
    sound = amplitude * rng.standard_normal(len(samples) + 2 * pad)
    sound[pad : pad + len(samples)] += samples * np.minimum(fade, fade[::-1])
    clipped: Samples = np.clip(sound, -1, 1).astype(np.float32)
    return clipped


def clips(folder: Path) -> Iterator[tuple[str, str, Clip]]:
    """Yield the label and the class of every clip, and what was heard in it."""
    rng = np.random.default_rng(1)
    with (folder / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        samples, sample_rate_hz = read(folder / row["file"])
        if row["class"] != "gunshot_live_fire":
            samples = padded(samples, sample_rate_hz, rng)
        impulses, withheld = detect(samples, sample_rate_hz)
        yield row["label"], row["class"], Clip(float(row["duration_s"]), impulses, withheld)


def print_clips(folder: Path) -> None:
    """Print, for every class, how many clips trigger, how often, and how often it was said to be an echo."""
    by_class: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for label, kind, clip in clips(folder):
        by_class[label, kind].append(clip)
    head = ("class", "clips", "trigger", "impulses", "of them echo", "withheld", "minutes", "an hour")
    print(f"{head[0]:22s} {head[1]:>6s} {head[2]:>8s} {head[3]:>9s} " + " ".join(f"{name:>12s}" for name in head[4:]))
    negatives = [clip for (label, _), found in by_class.items() if label == "not_gunshot" for clip in found]
    for (_, kind), found in [*sorted(by_class.items()), (("", "all but gunshots"), negatives)]:
        impulses = [impulse for clip in found for impulse in clip.impulses]
        echoes = sum(impulse.features.get("echo", 0) > ECHO for impulse in impulses)
        seconds = sum(clip.seconds for clip in found)
        trigger = sum(bool(clip.impulses) for clip in found) / len(found)
        print(
            f"{kind:22s} {len(found):6d} {trigger:8.0%} {len(impulses):9d} {echoes:12d} "
            f"{sum(clip.withheld for clip in found):12d} {seconds / 60:12.2f} {3600 * len(impulses) / seconds:12.0f}"
        )


def livefire(folder: Path) -> Iterator[Heard]:
    """Yield what was heard and what was published, for every audio file of the live-fire tests."""
    for sidecar in sorted(folder.rglob("*.audio.*.json")):
        wav = sidecar.with_suffix(".wav")
        if not wav.exists():
            continue
        about = json.loads(sidecar.read_text())
        start_ns = utc_ns(about["timestamp"])
        test = sidecar.with_name(sidecar.name.split(".")[0])
        shots = json.loads(test.with_suffix(".nlos-tuples.json").read_text())
        direct = {uuid for shot in shots for uuid in shot["pulse_uuids"]}
        samples, sample_rate_hz = read(wav)
        sound = np.flatnonzero(samples) / sample_rate_hz
        pulses = {
            pulse["pulse_uuid"]: (utc_ns(pulse["arrival_time_utc"]) - start_ns) / NS_PER_S
            for pulse in json.loads(test.with_suffix(".allpulses.json").read_text())
            if pulse["serial_number"] == about["serial_number"]
        }
        pulses = {uuid: at_s for uuid, at_s in pulses.items() if sound[0] + EDGE_S < at_s < sound[-1] - EDGE_S}
        onsets = [impulse.onset_sample / sample_rate_hz for impulse in detect(samples, sample_rate_hz)[0]]
        first = [at_s for uuid, at_s in pulses.items() if uuid in direct]
        yield Heard(np.array(onsets), np.array(list(pulses.values())), np.array(first))


def misses_s(times_s: NDArray[np.float64], others_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each time is from the nearest of the others, signed; infinite where there is none."""
    if not len(others_s):
        return np.full(len(times_s), np.inf)
    off = others_s[None, :] - times_s[:, None]
    nearest: NDArray[np.float64] = np.take_along_axis(off, np.abs(off).argmin(axis=1)[:, None], axis=1)[:, 0]
    return nearest


def print_arrivals(folder: Path) -> None:
    """Print how many published arrivals are heard, and how the onsets lie to the published times."""
    files = list(livefire(folder))
    direct = np.concatenate([misses_s(file.direct_s, file.onsets_s) for file in files])
    every = np.concatenate([misses_s(file.pulses_s, file.onsets_s) for file in files])
    extra = np.concatenate([misses_s(file.onsets_s, file.pulses_s) for file in files])
    found = direct[np.abs(direct) < MATCH_S]
    spread_ms = 1e3 * np.median(np.abs(found - np.median(found)))
    within_ms = 1e3 * np.quantile(np.abs(found), 0.95)
    print(f"direct arrivals heard       {len(found)} of {len(direct)} ({len(found) / len(direct):.2%})")
    print(f"published pulses heard      {np.mean(np.abs(every) < MATCH_S):.1%} of {len(every)}")
    print(f"impulses nobody published   {np.mean(np.abs(extra) >= MATCH_S) * len(extra) / len(files):.2f} a file")
    print(f"onset - published, median   {1e3 * np.median(found):.3f} ms (published times are cut to 1 ms: +0.5)")
    print(f"  median absolute deviation {spread_ms:.3f} ms; 95 % within {within_ms:.2f} ms")


def locate(folder: Path, work: Path) -> dict[str, dict[str, Any]]:
    """Return the score of each firing position: audio through detector and locator, against the recorded shots."""
    _run([sys.executable, BENCH / "livefire.py", folder, "--out", work])
    scores = {}
    for position in sorted(path for path in work.iterdir() if path.is_dir()):
        detections, events = position / "heard.jsonl", position / "events.jsonl"
        table = position / "recordings.csv"
        detections.write_text(_run([COMMANDS / "soundranger-node", "detect", "--recordings", table]))
        events.write_text(_run([COMMANDS / "soundranger-broker", "locate", detections]))
        truth = recorded_shots(position)
        scores[position.name] = json.loads(_run([sys.executable, BENCH / "score.py", events, truth, "--json"]))
    return scores


def recorded_shots(folder: Path) -> Path:
    """Write the shots of tests that have audio, with only the pulses of sensors that recorded them."""
    node_of = {one["id"]: one["node"] for one in _json_lines(folder / "detections.jsonl")}
    with (folder / "recordings.csv").open(newline="") as file:
        recorded = {(Path(row["file"]).parent.name, row["node"]) for row in csv.DictReader(file)}
    tests = {test for test, _ in recorded}
    shots = [
        shot | {"detections": [one for one in shot["detections"] if (shot["test"], node_of[one]) in recorded]}
        for shot in _json_lines(folder / "truth.jsonl")
        if shot["test"] in tests
    ]
    path = folder / "recorded.jsonl"
    path.write_text("".join(json.dumps(shot) + "\n" for shot in shots))
    return path


def print_located(folder: Path) -> None:
    """Print, for every firing position, what share of the shots that four recorded sensors heard was located."""
    with tempfile.TemporaryDirectory() as work:
        scores = locate(folder, Path(work))
    print(f"{'position':9s} {'shots':>6s} {f'within {FOUND_M} m':>12s} {'precision':>10s} {'median m':>9s}")
    for name, score in scores.items():
        print(
            f"{name:9s} {score['shots']:6d} {score[f'within_{FOUND_M}m']:12.1%} {score['precision']:10.3f} "
            f"{score['median_m']:9.2f}"
        )
    shots = sum(score["shots"] for score in scores.values())
    within = sum(score["shots"] * score[f"within_{FOUND_M}m"] for score in scores.values()) / shots
    precision = sum(score["events"] * score["precision"] for score in scores.values()) / sum(
        score["events"] for score in scores.values()
    )
    print(f"{'all':9s} {shots:6d} {within:12.1%} {precision:10.3f}")


def _run(command: list[str | Path]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Print three tables: clips by class, live-fire arrivals, live-fire locations."""
    if not DATA.is_dir():
        print(f"there are no recordings at {DATA}; set SOUNDRANGER_DATA to where they are")
        return
    print_clips(DATA / "audio")
    print()
    print_arrivals(DATA / "livefire")
    print()
    if (BENCH / "score.py").is_file():
        print_located(DATA / "livefire")
    else:
        print(f"nothing to score locations with at {BENCH}")


if __name__ == "__main__":
    main()
