"""The detector: what is an impulse and what is not, and that the size of blocks does not matter."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from soundranger_node.blasts import blasts
from soundranger_node.blocks import Block
from soundranger_node.detector import Detector, Impulse

Sound = NDArray[np.float32]
RATE_HZ = 48_000
NOISE_DBFS = -60.0


def noise(seconds: float, level_dbfs: float = NOISE_DBFS, rate_hz: int = RATE_HZ, seed: int = 1) -> Sound:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(round(seconds * rate_hz)) * 10 ** (level_dbfs / 20)).astype(np.float32)


def with_blast(sound: Sound, at_s: float, peak: float = 0.1, decay_s: float = 0.002, rate_hz: int = RATE_HZ) -> Sound:
    """Add a blast that rises within 0.1 ms and rings at 700 Hz."""
    time_s = np.arange(len(sound)) / rate_hz - at_s
    after = np.maximum(time_s, 0)
    shape = np.minimum(after / 1e-4, 1) * np.exp(-after / decay_s) * np.cos(2 * np.pi * 700 * after)
    return (sound + peak * shape).astype(np.float32)


def detect(sound: Sound, rate_hz: int = RATE_HZ, block: int = 4_800) -> list[Impulse]:
    detector = Detector(rate_hz)
    found = []
    for first in range(0, len(sound), block):
        found += detector.push(Block(sound[first : first + block], first))
    return found + detector.flush()


def onsets_s(found: list[Impulse], rate_hz: int = RATE_HZ) -> list[float]:
    return [impulse.onset_sample / rate_hz for impulse in found]


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_000, 44_100, 48_000, 192_000])
def test_a_blast_in_noise_is_one_impulse_at_its_onset_at_any_rate(rate_hz: int) -> None:
    found = detect(with_blast(noise(2, rate_hz=rate_hz), 1.2345, rate_hz=rate_hz), rate_hz)
    assert onsets_s(found, rate_hz) == [pytest.approx(1.2345, abs=2e-4)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9_000), min_size=1, max_size=30),
    st.sampled_from([8_000, 12_000, 44_100]),
    st.lists(st.floats(0.0, 1.9), max_size=5),
    st.floats(-90, -20),
)
def test_the_size_of_blocks_does_not_matter(
    sizes: list[int], rate_hz: int, blasts_s: list[float], level_dbfs: float
) -> None:
    sound = noise(2, level_dbfs, rate_hz)
    for at_s in blasts_s:
        sound = with_blast(sound, at_s, rate_hz=rate_hz)
    sound[rate_hz // 2 : rate_hz] = 0
    detector = Detector(rate_hz)
    found, first = [], 0
    for size in itertools.cycle(sizes):
        if first >= len(sound):
            break
        found += detector.push(Block(sound[first : first + size], first))
        first += size
    assert found + detector.flush() == detect(sound, rate_hz, len(sound))


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.integers(1, 4_000),
        elements=st.floats(-1, 1, width=32),
        fill=st.sampled_from([np.float32(0), np.float32(1e-3)]),
    )
)
def test_whatever_the_sound_an_impulse_lies_in_it_and_has_finite_numbers(sound: Sound) -> None:
    for impulse in detect(sound, 8_000, 500):
        assert 0 <= impulse.onset_sample <= len(sound)
        assert impulse.onset_sigma_s >= 1e-4
        numbers = [impulse.snr_db, impulse.peak_dbfs, impulse.rise_s, impulse.duration_s, *impulse.features.values()]
        assert all(math.isfinite(number) for number in numbers)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("count", [1, 100, 10_000])
def test_samples_that_cannot_be_sound_neither_are_impulses_nor_hide_any(bad: float, count: int) -> None:
    sound = with_blast(with_blast(noise(4), 1.0), 3.0)
    sound[2 * RATE_HZ :][:count] = bad
    assert onsets_s(detect(sound)) == pytest.approx([1.0, 3.0], abs=2e-4)


def test_the_first_shot_waits_for_no_shapes() -> None:
    blasts.cache_clear()
    detector = Detector(RATE_HZ)
    known = blasts.cache_info().misses
    assert len(detector.push(Block(np.clip(with_blast(with_blast(noise(2), 0.5), 1.0, peak=9), -1, 1), 0))) == 2
    assert blasts.cache_info().misses == known


@pytest.mark.parametrize("level_dbfs", [-100, -60, -20])
def test_steady_noise_is_no_impulse_from_the_first_sample_on(level_dbfs: float) -> None:
    assert detect(noise(20, level_dbfs)) == []


def test_silence_is_no_impulse() -> None:
    assert detect(np.zeros(RATE_HZ, np.float32)) == []


@pytest.mark.parametrize(("hertz", "peak"), [(0, 0.3), (2, 0.5), (50, 0.1)])
def test_an_offset_rumble_or_hum_neither_triggers_nor_hides_a_blast(hertz: float, peak: float) -> None:
    hum = peak * np.cos(2 * np.pi * hertz * np.arange(3 * RATE_HZ) / RATE_HZ)
    sound = with_blast((noise(3) + hum).astype(np.float32), 2.0)
    assert onsets_s(detect(sound)) == [pytest.approx(2.0, abs=2e-4)]


def test_the_steps_between_digital_silence_and_sound_are_no_impulses() -> None:
    sound = noise(6, -40) + np.float32(0.2)
    sound[RATE_HZ : 2 * RATE_HZ] = 0
    sound[3 * RATE_HZ : 4 * RATE_HZ] = 0
    assert detect(sound) == []


@pytest.mark.parametrize("rate_hz", [12_000, 48_000])
@pytest.mark.parametrize("positive_s", [1e-3, 3e-3, 10e-3])
@pytest.mark.parametrize("noise_dbfs", [-60, -80])
def test_a_blast_that_begins_like_a_step_is_no_step(rate_hz: int, positive_s: float, noise_dbfs: float) -> None:
    # Friedlander's wave, without air or microphone to soften its front: what a gun nearby sounds like.
    since = np.maximum(np.arange(2 * rate_hz) / rate_hz - 1.0, 0) / positive_s
    blast = np.where(np.arange(2 * rate_hz) >= rate_hz, 0.3 * (1 - since) * np.exp(-since), 0)
    found = detect((noise(2, noise_dbfs, rate_hz) + blast).astype(np.float32), rate_hz)
    assert onsets_s(found, rate_hz) == [pytest.approx(1.0, abs=2e-4)]


def test_a_blast_straight_out_of_digital_silence_is_found() -> None:
    sound = with_blast(np.zeros(RATE_HZ, np.float32), 0.5, peak=0.5, decay_s=0.02)
    assert onsets_s(detect(sound)) == [pytest.approx(0.5, abs=5e-4)]


def test_a_blast_within_the_first_quarter_of_a_second_is_found() -> None:
    assert onsets_s(detect(with_blast(noise(1), 0.1))) == [pytest.approx(0.1, abs=2e-4)]


def test_a_card_that_wakes_at_full_scale_makes_the_node_deaf_for_no_more_than_ten_seconds() -> None:
    waking = np.sign(noise(1)).astype(np.float32)
    found = detect(np.concatenate((waking, with_blast(noise(11), 9.5, peak=0.05))))
    assert onsets_s(found) == [pytest.approx(10.5, abs=2e-4)]


def test_a_blast_just_before_the_end_is_found() -> None:
    assert onsets_s(detect(with_blast(noise(1), 0.99))) == [pytest.approx(0.99, abs=2e-4)]


@pytest.mark.parametrize("interval_s", [0.05, 0.1, 0.2])
def test_every_round_of_automatic_fire_is_an_impulse_of_its_own(interval_s: float) -> None:
    rounds = [1 + number * interval_s for number in range(20)]
    sound = noise(6)
    for at_s in rounds:
        sound = with_blast(sound, at_s, decay_s=0.005)
    assert onsets_s(detect(sound)) == pytest.approx(rounds, abs=3e-4)


def test_faint_rounds_among_their_echoes_are_all_found_at_1200_a_minute() -> None:
    rounds = [1 + number * 0.05 for number in range(20)]
    sound = noise(2.5)
    for at_s in rounds:
        for after_s, peak, decay_s in ((0, 0.016, 0.002), (0.0213, 0.008, 0.004), (0.093, 0.0056, 0.006)):
            sound = with_blast(sound, at_s + after_s, peak, decay_s)
    assert onsets_s(detect(sound)) == pytest.approx(rounds, abs=1e-3)


def test_reverberation_that_dies_away_adds_no_impulse() -> None:
    tail = noise(3, -30, seed=2) * np.exp(-np.maximum(np.arange(3 * RATE_HZ) / RATE_HZ - 1, 0) / 0.3)
    tail[:RATE_HZ] = 0
    sound = with_blast((noise(3) + tail).astype(np.float32), 1.0, peak=0.5)
    assert onsets_s(detect(sound)) == [pytest.approx(1.0, abs=3e-4)]


def test_a_blast_right_after_a_faint_click_is_still_found() -> None:
    sound = with_blast(with_blast(noise(2), 1.0, peak=0.02), 1.035, peak=0.5)
    assert onsets_s(detect(sound)) == pytest.approx([1.0, 1.035], abs=2e-4)


def test_the_noise_level_is_that_of_the_noise_and_follows_it() -> None:
    detector = Detector(RATE_HZ)
    detector.push(Block(noise(5, -60), 0))
    assert detector.noise_dbfs == pytest.approx(-60, abs=1)
    detector.push(Block(noise(20, -40), 5 * RATE_HZ))
    assert detector.noise_dbfs == pytest.approx(-40, abs=1)
    detector.push(Block(noise(5, -60), 25 * RATE_HZ))
    assert detector.noise_dbfs == pytest.approx(-60, abs=1)


def test_without_sound_there_is_no_noise_level() -> None:
    detector = Detector(RATE_HZ)
    detector.push(Block(np.zeros(RATE_HZ, np.float32), 0))
    assert detector.noise_dbfs is None


def test_one_shot_and_its_reverberation_lift_the_noise_level_by_at_most_3_db() -> None:
    detector = Detector(RATE_HZ)
    tail = noise(1.5, -20, seed=2)
    detector.push(Block(noise(5), 0))
    detector.push(Block(tail, 5 * RATE_HZ))
    assert detector.noise_dbfs is not None
    assert detector.noise_dbfs < NOISE_DBFS + 3.5


def test_a_gap_ends_what_was_open_and_counts_in_the_samples_of_the_stream() -> None:
    detector = Detector(RATE_HZ)
    gap = 1_000_000
    first = with_blast(noise(1), 0.98)
    second = with_blast(noise(1), 0.5)
    assert detector.push(Block(first, 0)) == []
    found = [*detector.push(Block(second, len(first) + gap)), *detector.flush()]
    assert [one.onset_sample for one in found] == pytest.approx(
        [0.98 * RATE_HZ, RATE_HZ + gap + 0.5 * RATE_HZ], abs=2e-4 * RATE_HZ
    )


def test_more_than_the_limit_of_a_minute_is_withheld_and_counted() -> None:
    detector = Detector(8_000, limit_per_minute=5)
    sound = noise(90, rate_hz=8_000)
    for number in range(8):
        sound = with_blast(sound, 1 + number, rate_hz=8_000)
    sound = with_blast(sound, 80, rate_hz=8_000)
    found = [*detector.push(Block(sound, 0)), *detector.flush()]
    assert onsets_s(found, 8_000) == pytest.approx([1, 2, 3, 4, 5, 80], abs=3e-4)
    assert detector.withheld == 3


def test_what_is_said_of_a_blast_is_what_was_put_in() -> None:
    (impulse,) = detect(with_blast(noise(2), 1.0, peak=0.1))
    # The ringing has passed its first 0.1 ms when the rise is complete.
    peak = 0.1 * math.exp(-0.05) * math.cos(2 * math.pi * 0.07)
    assert impulse.peak_dbfs == pytest.approx(20 * math.log10(peak), abs=0.5)
    # Energy of the ringing over 3 ms, in closed form: peak^2 / 4 * decay / 3 ms, less what the rise and the fall take.
    assert impulse.snr_db == pytest.approx(10 * math.log10(0.1**2 / 4 * 0.002 / 0.003) - NOISE_DBFS, abs=2)
    assert impulse.rise_s == pytest.approx(1e-4, abs=5e-5)
    assert impulse.duration_s == pytest.approx(0.003, abs=0.003)
    assert impulse.clipped == 0


def test_clipped_samples_are_counted_and_the_onset_stays() -> None:
    sound = np.clip(with_blast(noise(2), 1.0, peak=8.0), -1, 1)
    (impulse,) = detect(sound)
    assert impulse.clipped > 50
    assert impulse.peak_dbfs == pytest.approx(0, abs=0.1)
    assert impulse.onset_sample / RATE_HZ == pytest.approx(1.0, abs=1e-4)


def test_a_click_is_higher_than_a_thump() -> None:
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ - 1
    shape = np.where(time_s > 0, 0.3 * np.exp(-np.maximum(time_s, 0) / 0.003), 0)
    (click,), (thump,) = (
        detect((noise(2) + shape * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)) for hertz in (5_000, 350)
    )
    assert click.features["high_share"] > 0.9
    assert thump.features["low_share"] > 0.6
    assert click.features["zero_crossing_hz"] > thump.features["zero_crossing_hz"]
    assert click.features["centroid_hz"] > 4_000
    assert thump.features["centroid_hz"] < 1_000


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000, 192_000])
def test_a_faint_blast_in_the_hiss_of_a_microphone_is_no_click_at_any_rate(rate_hz: int) -> None:
    found = detect(with_blast(noise(2, rate_hz=rate_hz), 1.2345, peak=0.02, rate_hz=rate_hz), rate_hz)
    assert onsets_s(found, rate_hz) == [pytest.approx(1.2345, abs=5e-4)]
    assert found[0].features["centroid_hz"] < 1_500
