"""The detector on audio of a live-fire test: it hears what another detector published, when it says."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundranger_node.audiofile import FileSource
from soundranger_node.detector import Detector, Impulse
from soundranger_node.evidence import read_evidence
from soundranger_node.utc import utc_ns

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("SOUNDRANGER_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
# The published times are cut to whole milliseconds.
PUBLISHED_BIAS_S = 0.0005
MATCH_S = 0.03
# Digital silence surrounds the sound; a pulse at its very edge cannot be told from the step.
EDGE_S = 0.02


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}; set SOUNDRANGER_DATA to where it is")
    return DATA / name


def impulses(path: Path) -> tuple[list[Impulse], float]:
    """Return the impulses of a file and its sample rate."""
    source = FileSource(path)
    detector = Detector(source.sample_rate_hz)
    found = [impulse for block in source.blocks() for impulse in detector.push(block)]
    return found + detector.flush(), source.sample_rate_hz


@dataclass(frozen=True)
class Heard:
    """One audio file: its impulses' onsets, and the published pulses within its sound, all in seconds of the file."""

    onsets_s: list[float]
    direct_s: list[float]
    pulses_s: list[float]


@pytest.fixture(scope="module")
def livefire() -> list[Heard]:
    return list(_livefire(folder("livefire")))


def _livefire(data: Path) -> Iterator[Heard]:
    for sidecar in sorted(data.rglob("*.audio.*.json")):
        wav = sidecar.with_suffix(".wav")
        if not wav.exists():
            continue
        about = json.loads(sidecar.read_text())
        start_ns = utc_ns(about["timestamp"])
        test = sidecar.name.split(".")[0]
        pulses = _read(sidecar.with_name(f"{test}.allpulses.json"))
        direct = {uuid for shot in _read(sidecar.with_name(f"{test}.nlos-tuples.json")) for uuid in shot["pulse_uuids"]}
        first_s, last_s = _extent(wav)
        inside = {
            pulse["pulse_uuid"]: (utc_ns(pulse["arrival_time_utc"]) - start_ns) / 1e9
            for pulse in pulses
            if pulse["serial_number"] == about["serial_number"]
        }
        inside = {uuid: at_s for uuid, at_s in inside.items() if first_s + EDGE_S < at_s < last_s - EDGE_S}
        found, rate_hz = impulses(wav)
        yield Heard(
            [one.onset_sample / rate_hz for one in found],
            [at_s for uuid, at_s in inside.items() if uuid in direct],
            list(inside.values()),
        )


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _extent(path: Path) -> tuple[float, float]:
    """Return where the sound of a file begins and ends, in seconds."""
    source = FileSource(path)
    sound = np.flatnonzero(np.concatenate([block.samples for block in source.blocks()]))
    return float(sound[0]) / source.sample_rate_hz, float(sound[-1]) / source.sample_rate_hz


def nearest(at_s: float, times_s: list[float]) -> float:
    return min((time_s - at_s for time_s in times_s), key=abs, default=np.inf)


def test_the_direct_sound_of_nearly_every_shot_is_heard(livefire: list[Heard]) -> None:
    offsets_s = [nearest(at_s, file.onsets_s) for file in livefire for at_s in file.direct_s]
    assert len(offsets_s) > 200
    assert np.mean(np.abs(offsets_s) < MATCH_S) >= 0.99


def test_onsets_agree_with_the_published_times_within_their_rounding(livefire: list[Heard]) -> None:
    offsets_s = np.array([nearest(at_s, file.onsets_s) for file in livefire for at_s in file.direct_s])
    assert np.median(offsets_s) == pytest.approx(PUBLISHED_BIAS_S, abs=2e-4)
    assert np.median(np.abs(offsets_s - np.median(offsets_s))) < 5e-4


def test_few_impulses_are_heard_that_nobody_published(livefire: list[Heard]) -> None:
    extra = [sum(abs(nearest(at_s, file.pulses_s)) > MATCH_S for at_s in file.onsets_s) for file in livefire]
    assert np.mean(extra) < 4


def test_city_background_is_nearly_silent() -> None:
    audio = folder("audio")
    with (audio / "MANIFEST.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["class"] == "urban_background"]
    triggered = [name for name in names if impulses(audio / name)[0]]
    assert len(triggered) <= len(names) / 10


def test_every_evidence_file_says_where_and_when_and_has_an_impulse() -> None:
    files = sorted(folder("shotspotter-wav").rglob("*.wav"))
    recordings = [read_evidence(path) for path in files]
    assert len({one.node for one in recordings if one}) == len(files) > 0
    assert all(impulses(path)[0] for path in files)
