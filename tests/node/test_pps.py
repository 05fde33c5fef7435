"""The pulse of a GPS on a channel of the sound card: found whatever the wiring, labelled, fitted, and missed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from soundranger_broker.simulation.sound_card import I2S, PulseChannel, SoundCardModel
from soundranger_node.timekeeping.pps import MAX_HOLDOVER_S, MIN_PULSES, EdgeFinder, PpsClock

S = 1_000_000_000
RATE_HZ = 16_000
CARD = SoundCardModel(I2S, 1, RATE_HZ, 320, ppm=40.0, wander_ppm=1.5, wander_period_s=400.0)
CHANNEL = PulseChannel(CARD)


def rough(error_s: float = 0.1) -> Callable[[float], int | None]:
    return lambda sample: CARD.true_monotonic_ns(sample) + CARD.utc_offset_ns + round(error_s * S)


def hear(clock: PpsClock, channel: PulseChannel, start_s: float, end_s: float) -> None:
    block = RATE_HZ // 10
    for first in range(round(start_s * RATE_HZ), round(end_s * RATE_HZ), block):
        clock.add(channel.render(first, block), first)


def error_and_sigma(clock: PpsClock, sample: float) -> tuple[float, float]:
    dated = clock.date(sample)
    assert dated is not None
    return (dated[0] - CARD.true_monotonic_ns(sample) - CARD.utc_offset_ns) / S, dated[1]


@pytest.mark.parametrize(
    "channel",
    [
        CHANNEL,
        replace(CHANNEL, level=-0.3),
        replace(CHANNEL, coupling_s=None, width_s=0.2),
        replace(CHANNEL, level=0.02, noise=2e-4),
        replace(CHANNEL, coupling_s=0.0005),
        replace(CHANNEL, width_s=0.002),
    ],
    ids=["ac", "swapped", "dc", "weak", "spikes", "short"],
)
def test_samples_are_dated_to_some_microseconds_whatever_the_wiring(channel: PulseChannel) -> None:
    clock = PpsClock(RATE_HZ, rough())
    hear(clock, channel, 0, 20)
    error_s, sigma_s = error_and_sigma(clock, 20.0 * RATE_HZ)
    assert abs(error_s) < min(30e-6, 3 * sigma_s)
    assert sigma_s < 20e-6


@pytest.mark.parametrize("block", [160, 320, 777])
def test_pulses_are_found_wherever_blocks_are_cut(block: int) -> None:
    finder, whole = EdgeFinder(RATE_HZ), EdgeFinder(RATE_HZ)
    signal = CHANNEL.render(0, 6 * RATE_HZ)
    found = [
        rise for first in range(0, len(signal), block) for rise in finder.push(signal[first : first + block], first)
    ]
    assert found == pytest.approx(whole.push(signal, 0), abs=1e-6)
    assert found == pytest.approx(
        [(second - (CARD.true_s(second * RATE_HZ) - second)) * RATE_HZ for second in (1, 2, 3, 4, 5)], abs=0.2
    )


@pytest.mark.parametrize("seed", range(3))
def test_noise_speech_hum_and_clicks_are_no_pulses(seed: int) -> None:
    random = np.random.default_rng(seed)
    time_s = np.arange(20 * RATE_HZ) / RATE_HZ
    speech = random.normal(0, 0.1, len(time_s)) * (np.sin(2 * np.pi * 2.3 * time_s) > 0)
    clicks = (random.random(len(time_s)) < 1e-4) * random.uniform(-1, 1, len(time_s))
    for sound in (speech, 0.3 * np.sin(2 * np.pi * 50 * time_s), clicks, np.zeros_like(time_s)):
        clock = PpsClock(RATE_HZ, rough())
        for first in range(0, len(sound), 320):
            clock.add(sound[first : first + 320].astype(np.float32), first)
        assert clock.date(len(sound)) is None


def test_a_click_among_pulses_and_pulses_that_are_missing_do_no_harm() -> None:
    clock = PpsClock(RATE_HZ, rough())
    hear(clock, replace(CHANNEL, absent=range(8, 12)), 0, 15)
    click = np.zeros(RATE_HZ // 2, np.float32)
    click[3000:3050] = 0.9
    clock.add(CHANNEL.render(15 * RATE_HZ, RATE_HZ // 2) + click, 15 * RATE_HZ)
    hear(clock, CHANNEL, 15.5, 20)
    error_s, sigma_s = error_and_sigma(clock, 20.0 * RATE_HZ)
    assert abs(error_s) < 3 * sigma_s
    assert clock.pulses == 15


def test_after_a_bang_on_the_wire_weak_pulses_are_found_again() -> None:
    clock, weak = PpsClock(RATE_HZ, rough()), replace(CHANNEL, level=0.05, noise=2e-4)
    hear(clock, weak, 0, 5)
    bang = np.zeros(RATE_HZ, np.float32)
    bang[8000:8100] = 0.9
    clock.add(bang, 5 * RATE_HZ)
    hear(clock, weak, 6, 26)
    assert clock.pulses > 10
    error_s, sigma_s = error_and_sigma(clock, 26.0 * RATE_HZ)
    assert abs(error_s) < 3 * sigma_s


def test_when_the_pulses_stop_the_sigma_grows_until_nothing_is_claimed() -> None:
    clock = PpsClock(RATE_HZ, rough())
    hear(clock, CHANNEL, 0, 35)
    sigmas = []
    for later_s in (0, 10, 60, 200):
        error_s, sigma_s = error_and_sigma(clock, (35.0 + later_s) * RATE_HZ)
        assert abs(error_s) < 3 * sigma_s
        sigmas.append(sigma_s)
    assert sigmas == sorted(sigmas)
    assert sigmas[-1] > 50e-6
    assert clock.date((40 + MAX_HOLDOVER_S) * RATE_HZ) is None


def test_without_a_clock_that_knows_the_second_a_pulse_has_no_label() -> None:
    for unsure in (rough(0.45), lambda _: None):
        clock = PpsClock(RATE_HZ, unsure)
        hear(clock, CHANNEL, 0, 10)
        assert clock.pulses == 0


def test_a_system_clock_that_is_set_right_moves_the_second_of_the_pulses() -> None:
    ahead = rough(1.1)
    clock = PpsClock(RATE_HZ, lambda sample: ahead(sample))  # noqa: PLW0108 - it is replaced below
    hear(clock, CHANNEL, 0, 12)
    assert error_and_sigma(clock, 12.0 * RATE_HZ)[0] == pytest.approx(1.0, abs=1e-4)
    ahead = rough(0.05)
    hear(clock, CHANNEL, 12, 14)
    assert clock.date(14.0 * RATE_HZ) is None
    hear(clock, CHANNEL, 14, 14 + MIN_PULSES)
    assert error_and_sigma(clock, 19.0 * RATE_HZ)[0] == pytest.approx(0.0, abs=1e-4)


def test_after_lost_samples_the_pulses_begin_anew() -> None:
    clock = PpsClock(RATE_HZ, rough())
    hear(clock, CHANNEL, 0, 10)
    clock.restart()
    assert clock.date(10.0 * RATE_HZ) is None


def test_pulses_that_all_lie_elsewhere_make_a_new_line() -> None:
    clock = PpsClock(RATE_HZ, rough())
    hear(clock, CHANNEL, 0, 10)
    # The stream lost 5 ms unnoticed: its samples count on, the pulses come sooner.
    block, lost = RATE_HZ // 10, 80
    for first in range(10 * RATE_HZ, 24 * RATE_HZ, block):
        clock.add(CHANNEL.render(first + lost, block), first)
    dated = clock.date(24.0 * RATE_HZ)
    assert dated is not None
    true_ns = CARD.true_monotonic_ns(24.0 * RATE_HZ + lost) + CARD.utc_offset_ns
    assert (dated[0] - true_ns) / S == pytest.approx(0.0, abs=3 * dated[1])
