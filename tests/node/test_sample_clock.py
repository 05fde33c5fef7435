"""The sample clock on simulated cards: USB and I2S, with drift, wander, late blocks, overflows and clock steps."""

from dataclasses import replace

import numpy as np
import pytest

from soundranger_broker.simulation.sound_card import (
    I2S,
    USB_FULL_SPEED,
    USB_FULL_SPEED_SCATTERED,
    USB_HIGH_SPEED,
    Lateness,
    SoundCardModel,
)
from soundranger_node.timekeeping.bus import FULL_SPEED_FRAME_S
from soundranger_node.timekeeping.domain import recorded_monotonic_ns
from soundranger_node.timekeeping.sample_clock import MAX_SEGMENTS, SampleClock

RATE_HZ = 48_000
BLOCK = 960
BLOCK_S = 0.02
START_NS = 1_000_000_000_000
SEEDS = range(10)

LAWS = {
    "usb": USB_FULL_SPEED,
    "usb scattered": USB_FULL_SPEED_SCATTERED,
    "usb high speed": USB_HIGH_SPEED,
    "i2s": I2S,
}


def errors_and_sigmas(card: SoundCardModel, seconds: float, frame_s: float = FULL_SPEED_FRAME_S) -> tuple[float, float]:
    """Return the error of a clock after so many seconds, and what it says of it; s."""
    clock = SampleClock(card.sample_rate_hz, frame_s)
    for sample, time_ns in card.times_ns(seconds):
        clock.add(sample, time_ns)
    monotonic_ns, sigma_s = clock.date(sample)
    return (monotonic_ns - card.true_monotonic_ns(sample)) * 1e-9, sigma_s


def over_seeds(card: SoundCardModel, seconds: float) -> tuple[float, float]:
    """Return the mean error of ten such cards, s, and the standard deviation of errors over sigmas."""
    errors, sigmas = np.array([errors_and_sigmas(replace(card, seed=seed), seconds) for seed in SEEDS]).T
    return float(errors.mean()), float(np.std(errors / sigmas))


@pytest.mark.parametrize(
    ("name", "bias_s"), [("usb", 60e-6), ("usb scattered", 60e-6), ("usb high speed", 60e-6), ("i2s", 15e-6)]
)
def test_after_a_minute_the_clock_is_unbiased_and_knows_how_sure_it_is(name: str, bias_s: float) -> None:
    bias, pull = over_seeds(SoundCardModel(LAWS[name], 0, ppm=50.0), 61)
    assert abs(bias) < bias_s / 10
    assert 0.5 < pull < 1.5


@pytest.mark.parametrize("ppm", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize(("rate_hz", "block"), [(16_000, 160), (44_100, 2205)])
def test_rate_and_block_size_make_no_difference(rate_hz: int, block: int, ppm: float) -> None:
    card = SoundCardModel(USB_FULL_SPEED_SCATTERED, 0, rate_hz, block, ppm)
    bias, pull = over_seeds(card, 61)
    assert abs(bias) < 10e-6
    assert pull < 1.5


@pytest.mark.parametrize("name", ["usb scattered", "i2s"])
def test_a_crystal_that_wanders_is_followed(name: str) -> None:
    card = SoundCardModel(LAWS[name], 0, ppm=50.0, wander_ppm=1.5, wander_period_s=400.0)
    bias, pull = over_seeds(card, 61)
    assert abs(bias) < 6e-6
    assert pull < 1.5


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seconds", [0.1, 1.0, 5.0])
def test_in_the_first_seconds_the_clock_does_not_claim_more_than_it_knows(name: str, seconds: float) -> None:
    card = SoundCardModel(LAWS[name], 0, ppm=50.0)
    found = np.array([errors_and_sigmas(replace(card, seed=seed), seconds) for seed in range(20)])
    assert np.mean(np.abs(found[:, 0]) < 2 * found[:, 1]) > 0.9
    assert found[:, 1].max() < 2e-3


@pytest.mark.parametrize("law", [USB_FULL_SPEED, USB_HIGH_SPEED, I2S])
@pytest.mark.parametrize("ppm", [0.0, 5.0])
def test_a_clock_that_is_told_the_frame_knows_what_teeth_longer_than_a_window_hide(law: Lateness, ppm: float) -> None:
    card = SoundCardModel(law, 0, ppm=ppm)
    found = np.array([errors_and_sigmas(replace(card, seed=seed), 61, law.frame_s) for seed in SEEDS])
    assert (np.abs(found[:, 0]) < 3 * found[:, 1]).all()
    assert np.median(found[:, 1]) <= law.frame_s + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seed", range(3))
def test_over_a_quarter_of_an_hour_no_date_is_far_outside_its_sigma(name: str, seed: int) -> None:
    ppm = float(np.random.default_rng(seed).uniform(-60, 60))
    card = SoundCardModel(LAWS[name], seed, ppm=ppm, wander_ppm=1.0, wander_period_s=700.0, losses=((333.0, 4000),))
    clock, last, pulls = SampleClock(RATE_HZ, LAWS[name].frame_s), 0, []
    for number, (sample, time_ns) in enumerate(card.times_ns(900)):
        if sample > last + BLOCK:
            clock.restart()
        last = sample
        clock.add(sample, time_ns)
        if number % 500 == 499:
            monotonic_ns, sigma_s = clock.date(sample)
            pulls.append((monotonic_ns - card.true_monotonic_ns(sample)) * 1e-9 / sigma_s)
    assert np.abs(pulls).max() < 5
    assert np.std(pulls) < 1.5


def test_a_clock_that_is_told_of_no_frame_is_sure_within_seconds() -> None:
    found = np.array([errors_and_sigmas(SoundCardModel(I2S, seed, ppm=50.0), 5, 0.0) for seed in SEEDS])
    assert found[:, 1].max() < 5e-6
    assert np.std(found[:, 0] / found[:, 1]) < 1.3


def test_the_rate_is_found() -> None:
    clock = SampleClock(RATE_HZ)
    for sample, time_ns in SoundCardModel(USB_FULL_SPEED_SCATTERED, 1, ppm=-80.0).times_ns(61):
        clock.add(sample, time_ns)
    assert clock.ppm == pytest.approx(-80.0, abs=1.0)


@pytest.mark.parametrize("domain", ["monotonic", "realtime"])
@pytest.mark.parametrize(("name", "bias_s"), [("usb", 60e-6), ("i2s", 15e-6)])
def test_a_clock_step_and_an_overflow_in_the_middle_do_no_harm(name: str, bias_s: float, domain: str) -> None:
    card = SoundCardModel(LAWS[name], 3, ppm=50.0, losses=((75.0, 24_000),), steps=((40.0, -0.52), (100.0, 3600.0)))
    card = replace(card, domain="realtime" if domain == "realtime" else "monotonic")
    clock, lost, errors = SampleClock(RATE_HZ), 0, {}
    for call in card.callbacks(137.0):
        lost += call.missing
        if call.overflow:
            clock.restart()
        sample = call.first + lost
        recorded_ns = recorded_monotonic_ns(call.adc_s, call.current_s, call.monotonic_ns, call.utc_ns, BLOCK_S)
        clock.add(sample, recorded_ns)
        if call.first % RATE_HZ == 0:
            monotonic_ns, sigma_s = clock.date(sample)
            errors[call.first // RATE_HZ] = (monotonic_ns - card.true_monotonic_ns(sample)) * 1e-9, sigma_s
    settled = np.array([errors[second] for second in (61, 74, 136)])
    assert np.abs(settled[:, 0]).max() < bias_s
    everything = np.array(list(errors.values()))
    assert (np.abs(everything[:, 0]) < 4 * everything[:, 1]).all()
    # What was dated in the segment before stays so.
    before_ns, _ = clock.date(70 * RATE_HZ)
    assert (before_ns - card.true_monotonic_ns(70 * RATE_HZ)) * 1e-9 == pytest.approx(0.0, abs=bias_s)


def feed(clock: SampleClock, blocks: range, shift_s: float = 0.0) -> None:
    for block in blocks:
        clock.add(block * BLOCK, START_NS + round((block * BLOCK_S + shift_s) * 1e9))


@pytest.mark.parametrize("shift_s", [0.3, -0.3, 0.02])
def test_a_jump_that_nobody_told_of_begins_a_segment(shift_s: float) -> None:
    clock = SampleClock(RATE_HZ)
    feed(clock, range(530))
    feed(clock, range(530, 800), shift_s)
    after_ns, _ = clock.date(799 * BLOCK)
    assert after_ns == pytest.approx(START_NS + (799 * BLOCK_S + shift_s) * 1e9, abs=20_000)
    before_ns, _ = clock.date(500 * BLOCK)
    assert before_ns == pytest.approx(START_NS + 500 * BLOCK_S * 1e9, abs=20_000)


@pytest.mark.parametrize("frame_s", [FULL_SPEED_FRAME_S, 0.0])
def test_a_millisecond_lost_unnoticed_is_in_the_sigma_or_on_a_bus_without_frames_found(frame_s: float) -> None:
    card, clock, lost = SoundCardModel(I2S, 3, ppm=30.0), SampleClock(RATE_HZ, frame_s), 48
    for sample, time_ns in card.times_ns(140):
        seen = sample if sample < 70 * RATE_HZ else sample - lost
        clock.add(seen, time_ns)
        if sample % (5 * RATE_HZ) < BLOCK and sample > 74 * RATE_HZ:
            monotonic_ns, sigma_s = clock.date(seen)
            error_s = (monotonic_ns - card.true_monotonic_ns(sample)) * 1e-9
            assert abs(error_s) < 2 * sigma_s
            assert sigma_s < (1e-5 if frame_s == 0.0 else 1e-3)


def test_a_computer_that_is_starved_for_two_seconds_is_no_jump() -> None:
    clock = SampleClock(RATE_HZ)
    feed(clock, range(500))
    feed(clock, range(500, 600), 0.4)
    feed(clock, range(600, 1000))
    for block in (450, 550, 650, 999):
        assert clock.date(block * BLOCK)[0] == pytest.approx(START_NS + block * BLOCK_S * 1e9, abs=20_000)
    assert clock._segments[-1].first == 0


def test_a_single_time_that_is_too_early_is_no_time() -> None:
    clock = SampleClock(RATE_HZ)
    feed(clock, range(500))
    feed(clock, range(500, 501), -0.5)
    feed(clock, range(501, 1000))
    for block in (450, 500, 999):
        assert clock.date(block * BLOCK)[0] == pytest.approx(START_NS + block * BLOCK_S * 1e9, abs=20_000)


def test_after_a_restart_the_card_is_known_already() -> None:
    clock = SampleClock(RATE_HZ)
    rows = SoundCardModel(I2S, 1, ppm=80.0).times_ns(75)
    for sample, time_ns in rows[:3500]:
        clock.add(sample, time_ns)
    clock.restart()
    for sample, time_ns in rows[3500:3600]:
        clock.add(sample, time_ns)
    assert clock.ppm == pytest.approx(80.0, abs=3.0)
    assert clock.date(sample)[1] < 5e-5


@pytest.mark.parametrize(("law", "seconds"), [(I2S, 3), (USB_FULL_SPEED_SCATTERED, 61)])
def test_of_a_card_that_was_opened_in_place_of_another_nothing_is_known(law: Lateness, seconds: float) -> None:
    clock = SampleClock(RATE_HZ, law.frame_s)
    for sample, time_ns in SoundCardModel(law, 1, ppm=80.0).times_ns(75):
        clock.add(sample, time_ns)
    clock.restart(law.frame_s)
    other, before = SoundCardModel(law, 2, ppm=-60.0, start_ns=2_000_000_000_000), sample + RATE_HZ
    for sample, time_ns in other.times_ns(seconds):
        clock.add(before + sample, time_ns)
    monotonic_ns, sigma_s = clock.date(before + sample)
    assert abs(monotonic_ns - other.true_monotonic_ns(sample)) < 4e9 * sigma_s


def test_lost_samples_begin_a_new_segment_and_the_old_one_keeps_its_dates() -> None:
    clock = SampleClock(RATE_HZ)
    clock.add(0, START_NS)
    clock.restart()
    clock.add(RATE_HZ, START_NS + 5_000_000_000)
    assert clock.date(RATE_HZ / 2)[0] == START_NS + 500_000_000
    assert clock.date(RATE_HZ + 48.0)[0] == START_NS + 5_001_000_000


def test_late_questions_are_answered_from_their_own_time() -> None:
    card = SoundCardModel(I2S, 1, ppm=20.0, wander_ppm=2.0, wander_period_s=300.0)
    clock = SampleClock(RATE_HZ)
    for sample, time_ns in card.times_ns(400):
        clock.add(sample, time_ns)
    for second in (399, 330, 250, 200):
        error_ns = clock.date(second * RATE_HZ)[0] - card.true_monotonic_ns(second * RATE_HZ)
        assert error_ns == pytest.approx(0, abs=10_000)


def test_memory_is_bounded() -> None:
    clock = SampleClock(RATE_HZ)
    feed(clock, range(40_000))
    for number in range(40_000, 40_020):
        clock.restart()
        feed(clock, range(number, number + 1))
    assert len(clock._segments) == MAX_SEGMENTS
    assert max(len(segment.x) for segment in clock._segments) <= 2 * 240 * 50 + 1024


def test_a_clock_that_was_fed_nothing_says_so() -> None:
    clock = SampleClock(RATE_HZ)
    assert clock.ppm == 0.0
    with pytest.raises(ValueError, match="no block has come yet"):
        clock.date(0)


def test_a_card_with_one_very_late_law_is_still_dated() -> None:
    card = SoundCardModel(Lateness(0.0, 5e-3), 1, ppm=50.0)
    error_s, sigma_s = errors_and_sigmas(card, 61)
    assert abs(error_s) < 4 * sigma_s
    assert sigma_s < 2e-4
