"""The onset picker, against impulses whose onset is known."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.onset import Onset, pick_onset

RATE_HZ = 12_000
TRIGGER = 600
LEAD = 60


def blast(onset: float, rise_s: float = 2e-4, noise: float = 1e-3, seed: int = 0) -> NDArray[np.float32]:
    """Return 1,000 samples with a blast that rises like a half cosine to 1 and decays within 2 ms."""
    after_s = np.maximum(np.arange(1_000) - onset, 0) / RATE_HZ
    rise: NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * np.minimum(after_s / rise_s, 1))
    sound = rise * np.exp(-np.maximum(after_s - rise_s, 0) / 2e-3)
    background = noise * np.random.default_rng(seed).standard_normal(1_000)
    return np.asarray(sound + background, dtype=np.float32)


@given(st.floats(570, 595), st.integers(0, 1_000))
@settings(deadline=None)
def test_a_sharp_onset_is_picked_to_a_sample(onset: float, seed: int) -> None:
    picked = pick_onset(blast(onset, seed=seed), TRIGGER, LEAD, RATE_HZ)
    assert picked.sample == pytest.approx(onset, abs=1.0)


def test_the_peak_is_never_the_time() -> None:
    picked = pick_onset(blast(580, rise_s=1e-3), TRIGGER, LEAD, RATE_HZ)
    assert picked.sample == pytest.approx(580, abs=2)
    assert picked.rise_s == pytest.approx(1e-3, abs=3e-4)


def picks(rise_s: float, noise: float, count: int = 100, clip: float = np.inf) -> list[Onset]:
    """Return the onsets of blasts at 580, clipped at `clip`, in different noise."""
    sounds = (np.clip(blast(580, rise_s, noise, seed), -clip, clip) for seed in range(count))
    return [pick_onset(sound, TRIGGER, LEAD, RATE_HZ) for sound in sounds]


def errors_s(picked: list[Onset]) -> NDArray[np.float64]:
    return np.array([(pick.sample - 580) / RATE_HZ for pick in picked])


@pytest.mark.parametrize("rise_s", [2e-4, 5e-4, 1e-3])
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_sigma_is_honest_where_noise_hides_the_foot_of_the_rise(rise_s: float, noise: float) -> None:
    picked = picks(rise_s, noise)
    pulls = np.abs(errors_s(picked) / [pick.sigma_s for pick in picked])
    assert np.quantile(pulls, 0.68) < 1
    assert np.quantile(pulls, 0.95) < 2


def test_the_spread_is_neither_boasting_nor_timid() -> None:
    about = [(rise_s, noise) for rise_s in (2e-4, 5e-4, 1e-3) for noise in (0.01, 0.03, 0.1, 0.2)]
    picked = [pick for one in about for pick in picks(*one, count=50)]
    pulls = errors_s(picked) / [pick.spread_s for pick in picked]
    assert 0.7 < np.sqrt(np.mean(np.square(pulls))) < 1.2
    assert np.mean(np.abs(pulls) > 3) < 0.01


@pytest.mark.parametrize(("noise", "within_s"), [(0.01, 7e-5), (0.03, 7e-5), (0.1, 1.2e-4), (0.2, 3e-4)])
def test_errors_grow_no_faster_than_the_noise(noise: float, within_s: float) -> None:
    for rise_s in (2e-4, 5e-4, 1e-3):
        assert np.sqrt(np.mean(np.square(errors_s(picks(rise_s, noise))))) < within_s


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_clipped_sound_is_picked_as_well_and_as_honestly(noise: float) -> None:
    for rise_s in (2e-4, 5e-4, 1e-3):
        picked = picks(rise_s, noise, clip=math.sqrt(noise))
        errors = errors_s(picked)
        assert np.sqrt(np.mean(np.square(errors))) < 1.5e-4
        assert np.std(errors / [pick.sigma_s for pick in picked]) < 1.2


def test_sigma_is_never_below_a_tenth_of_a_millisecond_nor_a_quarter_of_a_sample() -> None:
    assert pick_onset(blast(580, noise=0), TRIGGER, LEAD, RATE_HZ).sigma_s >= 1e-4
    assert pick_onset(blast(580, noise=0), TRIGGER, LEAD, 1_000).sigma_s >= 0.25e-3


def test_a_slower_rise_in_more_noise_is_less_sure() -> None:
    about = ((2e-4, 0.001), (1e-3, 0.01), (1e-3, 0.1), (1e-3, 0.2))
    spreads_s = [float(np.median([pick.spread_s for pick in picks(*one, count=50)])) for one in about]
    assert spreads_s == sorted(spreads_s)
    assert spreads_s[0] < spreads_s[2] / 3


def test_clipping_moves_the_onset_by_less_than_a_tenth_of_a_millisecond() -> None:
    sound = blast(580, rise_s=4e-4)
    whole = pick_onset(sound, TRIGGER, LEAD, RATE_HZ).sample
    clipped = pick_onset(np.minimum(sound, 0.1), TRIGGER, LEAD, RATE_HZ).sample
    assert abs(clipped - whole) / RATE_HZ < 1e-4


def test_an_onset_on_rumble_is_picked_as_without() -> None:
    rumble = 0.5 * np.sin(2 * np.pi * 8 * np.arange(1_000) / RATE_HZ)
    picked = pick_onset((blast(580) + rumble).astype(np.float32), TRIGGER, LEAD, RATE_HZ)
    assert picked.sample == pytest.approx(580, abs=1.5)


def test_a_forerunner_of_the_blast_is_the_onset() -> None:
    sound = blast(590) + 0.6 * blast(560)
    assert pick_onset(sound, TRIGGER, LEAD, RATE_HZ).sample == pytest.approx(560, abs=1.5)


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_a_handful_of_samples_gives_an_onset_within_them(length: int) -> None:
    sound = np.linspace(0, 1, length, dtype=np.float32)
    for trigger in range(length):
        assert 0 <= pick_onset(sound, trigger, LEAD, RATE_HZ).sample < length


@given(
    st_numpy.arrays(np.float32, st.integers(1, 700), elements=st.floats(-1, 1, width=32)),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 300),
    st.sampled_from([1_000, 8_000, 12_000, 44_100, 48_000]),
)
@example(np.array([0, 1, 1, 0, *[1] * 11, 0, *[1] * 37], np.float32), 0.25, 0, 12_000)
# The first of each sample rate computes its shapes.
@settings(deadline=None)
def test_any_sound_has_an_onset_within_it_and_a_sigma(sound: Samples, at: float, lead: int, rate_hz: int) -> None:
    trigger = int(at * len(sound))
    picked = pick_onset(sound, trigger, lead, rate_hz)
    assert max(0, trigger - lead) <= picked.sample <= len(sound) - 1
    assert 1e-4 <= picked.sigma_s < 1
    assert 0 < picked.spread_s <= picked.sigma_s
    assert 0 <= picked.rise_s <= len(sound) / rate_hz


@given(st.floats(560, 595), st.integers(0, 1_000), st.floats(-80, 0))
@settings(deadline=None)
def test_neither_polarity_nor_level_moves_an_onset(onset: float, seed: int, level_db: float) -> None:
    sound = blast(onset, noise=0.02, seed=seed)
    picked, changed = (pick_onset(one, TRIGGER, LEAD, RATE_HZ) for one in (sound, -(10 ** (level_db / 20)) * sound))
    assert changed.sample == pytest.approx(picked.sample, abs=0.01)
    assert changed.spread_s == pytest.approx(picked.spread_s, rel=0.01)


def test_an_onset_out_of_digital_silence_is_picked() -> None:
    assert pick_onset(blast(583.3, noise=0), TRIGGER, LEAD, RATE_HZ).sample == pytest.approx(583.3, abs=0.9)


def test_the_sound_before_the_background_does_not_matter() -> None:
    sound = blast(580, noise=0.01)
    louder_before = np.concatenate((np.ones(1_000, np.float32), sound))
    after_it = pick_onset(louder_before, 1_000 + TRIGGER, LEAD, RATE_HZ)
    assert after_it.sample - 1_000 == pytest.approx(pick_onset(sound, TRIGGER, LEAD, RATE_HZ).sample, abs=1e-6)


def test_sigma_tells_where_nothing_can_be_heard() -> None:
    picked = picks(2e-4, noise=2.0, count=50)
    assert np.median([pick.sigma_s for pick in picked]) > 1e-3
    assert np.std(errors_s(picked) / [pick.sigma_s for pick in picked]) < 1.5


@pytest.mark.parametrize("full", [0.1, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.02, -0.05])
def test_clipped_sound_on_an_offset_is_picked_like_whole_sound(full: float, offset: float) -> None:
    sounds = [blast(583.3, 1e-4, noise=1e-3, seed=seed) for seed in range(20)]
    clipped = [np.clip(sound + np.float32(offset), -full, full) for sound in sounds]
    errors = [pick_onset(sound, TRIGGER, LEAD, RATE_HZ).sample - 583.3 for sound in clipped]
    assert np.abs(errors).max() < 1
