"""The onset picker, against impulses whose onset is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from soundranger_node.onset import akaike_criterion, pick_onset

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
def test_a_sharp_onset_is_picked_to_a_sample(onset: float, seed: int) -> None:
    picked = pick_onset(blast(onset, seed=seed), TRIGGER, LEAD, RATE_HZ)
    assert picked.sample == pytest.approx(onset, abs=1.0)


def test_the_peak_is_never_the_time() -> None:
    picked = pick_onset(blast(580, rise_s=1e-3), TRIGGER, LEAD, RATE_HZ)
    assert picked.sample == pytest.approx(580, abs=2)
    assert picked.rise_s == pytest.approx(1e-3, abs=3e-4)


@pytest.mark.parametrize("rise_s", [2e-4, 5e-4, 1e-3])
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_sigma_is_honest_where_noise_hides_the_foot_of_the_rise(rise_s: float, noise: float) -> None:
    picks = [pick_onset(blast(580, rise_s, noise, seed), TRIGGER, LEAD, RATE_HZ) for seed in range(200)]
    pulls = np.abs([(pick.sample - 580) / RATE_HZ / pick.sigma_s for pick in picks])
    assert np.quantile(pulls, 0.68) < 1.5


def test_sigma_is_never_below_a_tenth_of_a_millisecond_nor_a_quarter_of_a_sample() -> None:
    assert pick_onset(blast(580, noise=0), TRIGGER, LEAD, RATE_HZ).sigma_s >= 1e-4
    assert pick_onset(blast(580, noise=0), TRIGGER, LEAD, 1_000).sigma_s >= 0.25e-3


def test_a_slower_rise_in_more_noise_is_less_sure() -> None:
    sigmas = [
        float(np.median([pick_onset(blast(580, *about, seed), TRIGGER, LEAD, RATE_HZ).sigma_s for seed in range(50)]))
        for about in ((2e-4, 0.001), (1e-3, 0.01), (1e-3, 0.1))
    ]
    assert sigmas == sorted(sigmas)
    assert sigmas[0] < sigmas[2] / 3


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


@given(st.integers(20, 180), st.integers(0, 100))
def test_the_criterion_is_least_where_the_variance_changes(split: int, seed: int) -> None:
    sound = np.random.default_rng(seed).standard_normal(200)
    sound[split:] *= 30
    # Element k is for k + 1 samples of noise; the first loud samples may happen to be small.
    assert int(np.argmin(akaike_criterion(sound))) == pytest.approx(split - 1, abs=4)
