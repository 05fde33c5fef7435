"""Echoes: what tells a further round from one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_node.echo import LAG_S, MEMORY_S, WAVE_S, Echoes, around_onset

RATE_HZ = 16_000
COUNT = round((WAVE_S + 2 * LAG_S) * RATE_HZ)


def wave(seed: int, shift: int = 0) -> NDArray[np.float32]:
    draws = np.random.default_rng(seed).standard_normal(3 * COUNT)
    return draws[COUNT - shift : 2 * COUNT - shift].astype(np.float32)


def after_a_blast(delay_s: float, level_db: float, second: NDArray[np.float32]) -> dict[str, float]:
    echoes = Echoes(RATE_HZ)
    echoes.features(0.0, 0.0, wave(1), click=False)
    return echoes.features(delay_s * RATE_HZ, level_db, second, click=False)


@pytest.mark.parametrize("shift", [-10, 0, 10])
def test_a_copy_is_alike_whatever_its_level_and_where_its_onset_was_picked(shift: int) -> None:
    features = after_a_blast(0.3, -6.0, np.float32(-0.5) * wave(1, shift))
    assert features["echo_likeness"] == pytest.approx(1, abs=1e-3)
    assert features["echo_delay_s"] == 0.3
    assert features["echo_level_db"] == -6.0


def test_another_sound_is_not_alike() -> None:
    assert after_a_blast(0.3, -6.0, wave(2))["echo_likeness"] < 0.4


def test_an_equal_round_is_no_echo_and_a_weak_blurred_one_is() -> None:
    assert after_a_blast(0.1, 0.0, wave(1))["echo"] < 0.1
    assert after_a_blast(0.1, -15.0, wave(2))["echo"] > 0.9


def test_it_is_never_certain() -> None:
    assert after_a_blast(0.1, -60.0, wave(2))["echo"] < 0.99
    assert after_a_blast(0.1, 40.0, wave(1))["echo"] > 0.01


def test_it_is_compared_with_the_loudest_in_memory() -> None:
    echoes = Echoes(RATE_HZ)
    for at_s, level_db in ((0.0, -10.0), (0.5, 0.0), (1.0, -12.0)):
        echoes.features(at_s * RATE_HZ, level_db, wave(1), click=False)
    assert echoes.features(1.5 * RATE_HZ, -12.0, wave(1), click=False)["echo_delay_s"] == 1.0


def test_what_came_long_before_does_not_echo() -> None:
    assert after_a_blast(MEMORY_S + 0.1, -20.0, wave(2)) == {"echo": 0.0}


def test_a_stream_that_counts_from_zero_again_has_heard_nothing() -> None:
    echoes = Echoes(RATE_HZ)
    echoes.features(1e9, 0.0, wave(1), click=False)
    assert echoes.features(0.5 * RATE_HZ, -6.0, wave(1), click=False) == {"echo": 0.0}


def test_a_blast_after_the_shock_wave_of_its_bullet_is_no_echo_of_it() -> None:
    echoes = Echoes(RATE_HZ)
    echoes.features(0.0, 0.0, wave(1), click=True)
    assert echoes.features(0.2 * RATE_HZ, -15.0, wave(2), click=False) == {"echo": 0.0}
    assert echoes.features(0.3 * RATE_HZ, -15.0, wave(3), click=True)["echo_delay_s"] == 0.3


def test_digital_silence_is_like_nothing() -> None:
    assert after_a_blast(0.1, -20.0, np.zeros(COUNT, np.float32))["echo_likeness"] == 0


@pytest.mark.parametrize("onset", [0, 5, 500, 995, 1_000])
def test_what_lies_beyond_the_sound_is_silent(onset: int) -> None:
    sound = np.arange(1.0, 1_001.0)
    lag = round(LAG_S * RATE_HZ)
    expected = [sound[index] if 0 <= index < 1_000 else 0 for index in range(onset - lag, onset - lag + COUNT)]
    assert around_onset(sound, onset, RATE_HZ).tolist() == expected
