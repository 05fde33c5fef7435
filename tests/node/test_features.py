"""The features: closed forms, and that the documentation has all of them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_node.blocks import Block
from soundranger_node.detector import Detector
from soundranger_node.features import features

RATE_HZ = 48_000
TIME_S = np.arange(RATE_HZ // 10) / RATE_HZ
# Nothing was heard before.
NOTHING = np.zeros(0)
DOCUMENT = Path(__file__).parents[2] / "docs" / "features.md"


def sine(hertz: float) -> NDArray[np.float64]:
    return np.asarray(np.sin(2 * np.pi * hertz * TIME_S + 0.5))


def test_a_sine_has_the_moments_and_the_frequency_of_a_sine() -> None:
    found = features(sine(1_000), NOTHING, RATE_HZ)
    assert found["crest_factor"] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert found["kurtosis"] == pytest.approx(1.5, rel=1e-3)
    assert found["zero_crossing_hz"] == pytest.approx(2_000, abs=40)
    assert found["centroid_hz"] == pytest.approx(1_000, abs=1)
    assert found["bandwidth_hz"] == pytest.approx(0, abs=1)
    assert found["mid_share"] == pytest.approx(1)
    assert found["tail_db"] == pytest.approx(0, abs=0.01)


def test_white_noise_has_the_moments_and_the_band_of_white_noise() -> None:
    found = features(np.random.default_rng(1).standard_normal(RATE_HZ // 10), NOTHING, RATE_HZ)
    assert found["kurtosis"] == pytest.approx(3, abs=0.3)
    assert found["zero_crossing_hz"] == pytest.approx(RATE_HZ / 2, rel=0.05)
    assert found["centroid_hz"] == pytest.approx(12_000, rel=0.05)
    # Of an even distribution from 0 to 24 kHz.
    assert found["bandwidth_hz"] == pytest.approx(24_000 / math.sqrt(12), rel=0.05)
    assert found["high_share"] == pytest.approx(22 / 24, abs=0.02)


def test_two_tones_share_the_energy_by_their_power() -> None:
    found = features(sine(300) + 2 * sine(1_000) + 3 * sine(5_000), NOTHING, RATE_HZ)
    shares = [found["low_share"], found["mid_share"], found["high_share"]]
    assert shares == pytest.approx([1 / 14, 4 / 14, 9 / 14], abs=0.01)
    mean_hz = (300 + 4 * 1_000 + 9 * 5_000) / 14
    assert found["centroid_hz"] == pytest.approx(mean_hz, rel=0.01)


def test_what_was_heard_before_does_not_raise_the_centroid() -> None:
    hiss = np.random.default_rng(1).standard_normal(2 * len(TIME_S))
    found = features(2 * sine(1_000) + hiss[: len(TIME_S)], hiss[len(TIME_S) :], RATE_HZ)
    assert found["centroid_hz"] == pytest.approx(1_000, abs=500)


def test_the_tail_of_an_exponential_decay_is_what_50_ms_take_of_it() -> None:
    found = features(sine(1_000) * np.exp(-TIME_S / 0.02), NOTHING, RATE_HZ)
    assert found["tail_db"] == pytest.approx(-20 * math.log10(math.exp(0.05 / 0.02)), abs=0.1)


def test_a_sound_too_short_for_a_tail_has_none() -> None:
    assert "tail_db" not in features(sine(1_000)[: RATE_HZ // 20], NOTHING, RATE_HZ)


@pytest.mark.parametrize("sound", [np.zeros(4_800), np.ones(3)])
def test_silence_and_next_to_no_sound_have_no_features(sound: NDArray[np.float64]) -> None:
    assert features(sound, NOTHING, RATE_HZ) == {}


def test_the_documentation_names_every_feature_of_a_detection_and_no_other() -> None:
    rng = np.random.default_rng(1)
    sound = (1e-3 * rng.standard_normal(2 * RATE_HZ)).astype(np.float32)
    for at in (RATE_HZ, RATE_HZ + RATE_HZ // 5):
        burst = 0.2 * rng.standard_normal(2_000) * np.exp(-np.arange(2_000) / 200)
        sound[at : at + 2_000] += burst.astype(np.float32)
    detector = Detector(RATE_HZ)
    _, last = [*detector.push(Block(sound, 0)), *detector.flush()]
    section = DOCUMENT.read_text().partition("\n## Features\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(last.features)
