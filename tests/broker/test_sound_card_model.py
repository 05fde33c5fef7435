"""The model of a sound card does what hardware does, and the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest

from soundranger_broker.simulation.sound_card import (
    I2S,
    USB_FULL_SPEED,
    USB_FULL_SPEED_SCATTERED,
    USB_HIGH_SPEED,
    Lateness,
    PulseChannel,
    SoundCardModel,
)

RATE_HZ = 48_000
BLOCK = 960
PUNCTUAL = Lateness(0.0, 0.0, late_share=0.0)


def lateness_s(card: SoundCardModel, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return how late each block's end seems."""
    return np.array(
        [
            (time_ns - card.true_monotonic_ns(sample + card.block)) * 1e-9 + card.block / card.sample_rate_hz
            for sample, time_ns in card.times_ns(seconds)
        ]
    )


@pytest.mark.parametrize("law", [USB_FULL_SPEED, USB_FULL_SPEED_SCATTERED, USB_HIGH_SPEED, I2S])
def test_blocks_are_never_early_and_one_in_a_hundred_is_very_late(law: Lateness) -> None:
    late_s = lateness_s(SoundCardModel(law, 1, ppm=50.0), 200)
    assert late_s.min() > -1e-8
    assert np.mean(late_s > law.frame_s + 1e-3) == pytest.approx(0.01, abs=0.005)
    assert np.median(late_s) == pytest.approx(law.frame_s / 2 + law.scheduling_s, rel=0.4)


def test_a_usb_card_is_late_along_a_saw_tooth_as_long_as_its_drift_takes_for_a_frame() -> None:
    late_s = lateness_s(SoundCardModel(replace(USB_FULL_SPEED, scheduling_s=0.0, late_share=0.0), 1, ppm=50.0), 60)
    jumps = np.flatnonzero(np.diff(late_s) > 0.5e-3)
    assert np.diff(jumps) * 0.02 == pytest.approx([20.0] * (len(jumps) - 1), abs=0.05)
    assert late_s.max() < 1e-3


def test_the_driver_tells_what_the_node_is_to_undo() -> None:
    card = SoundCardModel(
        PUNCTUAL, 1, ppm=100.0, losses=((1.0, 24_000),), steps=((2.0, -0.5),), domain="realtime", start_ns=7_000_000_000
    )
    calls = list(card.callbacks(4.0))
    assert [call.first for call in calls] == [number * BLOCK for number in range(len(calls))]
    assert [call.overflow for call in calls] == [call.missing == 24_000 for call in calls]
    assert sum(call.missing for call in calls) == 24_000
    for call, lost in ((calls[0], 0), (calls[-1], 24_000)):
        end_s = card.true_s(call.first + lost + BLOCK) + 7.0
        assert call.monotonic_ns * 1e-9 == pytest.approx(end_s, abs=1e-3)
        assert call.utc_ns - call.monotonic_ns == card.offset_ns(call.monotonic_ns)
        assert call.current_s == pytest.approx(call.utc_ns * 1e-9, abs=1e-3)
        assert call.current_s - call.adc_s == pytest.approx(0.02, abs=1e-6)
    assert card.offset_ns(calls[-1].monotonic_ns) - card.utc_offset_ns == -500_000_000


def test_the_rate_wanders_within_its_bounds() -> None:
    card = SoundCardModel(PUNCTUAL, 1, ppm=30.0, wander_ppm=2.0, wander_period_s=300.0)
    rates = [(card.true_s((second + 1) * RATE_HZ) - card.true_s(second * RATE_HZ) - 1) * 1e6 for second in range(300)]
    assert (min(rates), max(rates)) == pytest.approx((28.0, 32.0), abs=0.05)


def test_the_same_seed_gives_the_same_card_and_another_one_another() -> None:
    card = SoundCardModel(USB_FULL_SPEED_SCATTERED, 1)
    assert list(card.callbacks(5.0)) == list(card.callbacks(5.0))
    assert list(card.callbacks(5.0)) != list(replace(card, seed=2).callbacks(5.0))


@pytest.mark.parametrize("level", [0.5, -0.5])
def test_a_pulse_rises_at_each_whole_second_of_utc(level: float) -> None:
    card = SoundCardModel(PUNCTUAL, 1, ppm=100.0)
    channel = PulseChannel(card, level=level, noise=0.0, absent=range(2, 3))
    signal = channel.render(0, 4 * RATE_HZ)
    for second, there in ((1, True), (2, False), (3, True)):
        sample = (second / (1 + 100e-6)) * RATE_HZ
        window = signal[round(sample) - 20 : round(sample) + 20]
        assert (np.abs(window).max() > 0.4) == there
        if there:
            assert np.interp(sample, np.arange(len(signal)), signal) == pytest.approx(level / 2, abs=0.05)


def test_an_ac_coupled_pulse_ends_with_an_opposite_spike_and_cut_samples_are_the_same() -> None:
    card = SoundCardModel(PUNCTUAL, 1)
    channel = PulseChannel(card, noise=0.0)
    whole = channel.render(0, 2 * RATE_HZ)
    assert whole[RATE_HZ + 4800 : RATE_HZ + 4820].min() == pytest.approx(-0.5, abs=0.05)
    parts = np.concatenate([channel.render(first, 960) for first in range(0, 2 * RATE_HZ, 960)])
    assert parts == pytest.approx(whole, abs=1e-4)
