"""The clock of a node: sample to UTC with its terms by name, undated while the clock is bad, and dated afterwards."""

import threading
from dataclasses import replace

import pytest

from soundranger_broker.simulation.sound_card import I2S, PulseChannel, SoundCardModel
from soundranger_node.blocks import Moment, Timebase, Timing, Undatable
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.station_clock import NO_PULSES, SMEAR_NOTICE, StationClock
from soundranger_node.timekeeping.utc_clock import UNRULED_DRIFT, ClockRead
from soundranger_node.utc import utc_ns

S = 1_000_000_000
RATE_HZ = 16_000
CARD = SoundCardModel(I2S, 1, RATE_HZ, 320, ppm=40.0)
GOOD = ClockQuality("ntp", True, 2e-3, 8e-3, "chrony", "3 servers agree")
BAD = replace(GOOD, tier="free", good=False, why="not synchronised")


def read_at(monotonic_ns: int, card: SoundCardModel = CARD) -> ClockRead:
    return ClockRead(monotonic_ns, monotonic_ns + card.offset_ns(monotonic_ns), 300)


def station(quality: ClockQuality, card: SoundCardModel = CARD) -> StationClock:
    return StationClock(
        RATE_HZ,
        boot="boot-1",
        read=read_at(card.start_ns, card),
        quality=quality,
        latency_s=0.00036,
        latency_sigma_s=5e-5,
    )


def feed(clock: StationClock, card: SoundCardModel, seconds: float) -> int:
    """Feed the blocks of so many seconds, and a read each second; return the last sample."""
    for number, (sample, time_ns) in enumerate(card.times_ns(seconds)):
        clock.add(sample, time_ns)
        if number % 50 == 0:
            clock.read(read_at(time_ns, card))
    return sample


def error_s(timing: Timing, sample: float, card: SoundCardModel = CARD) -> float:
    heard_ns = card.true_monotonic_ns(sample) + card.utc_offset_ns - 360_000
    return (timing.time_ns - heard_ns) / S


def test_a_station_clock_is_a_timebase_that_names_every_doubt() -> None:
    clock = station(GOOD)
    timebase: Timebase = clock
    sample = feed(clock, CARD, 70)
    timing = timebase.timing(sample)
    assert set(timing.terms_s) == {"clock", "read", "holdover", "fit", "latency"}
    assert timing.terms_s["clock"] == 2e-3
    assert timing.terms_s["latency"] == 5e-5
    assert timing.tier == "ntp"
    assert timing.undated is None
    assert error_s(timing, sample) == pytest.approx(0.0, abs=5e-6)
    assert clock.ppm == pytest.approx(40.0, abs=1.0)


def test_a_driver_that_does_not_know_its_delay_makes_every_time_doubtful() -> None:
    clock = station(GOOD)
    sample = feed(clock, CARD, 10)
    clock.add(sample + CARD.block, CARD.true_monotonic_ns(sample + CARD.block), driver_sigma_s=0.025)
    assert clock.timing(sample).terms_s["fit"] == pytest.approx(0.025, rel=1e-2)


def test_a_card_that_turns_out_to_be_on_no_bus_with_frames_is_dated_the_better() -> None:
    known, unknown = station(GOOD), station(GOOD)
    steady = SoundCardModel(I2S, 1, RATE_HZ, 320, ppm=1.0)
    known.restart(frame_s=0.0)
    sample = feed(known, steady, 70)
    assert feed(unknown, steady, 70) == sample
    assert known.timing(sample).terms_s["fit"] < 2e-5
    assert unknown.timing(sample).terms_s["fit"] > 1e-4


def test_before_the_clock_is_good_samples_are_undated_and_dated_afterwards() -> None:
    card = replace(CARD, steps=((30.0, 5_000.0),))
    clock = station(BAD, card)
    sample = feed(clock, card, 20)
    timing = clock.timing(sample)
    moment = timing.undated
    assert moment is not None
    assert clock.redate(moment) is Undatable.YET
    later_ns = card.start_ns + 40 * S
    clock.read(read_at(later_ns, card))
    clock.judge(GOOD, later_ns)
    redated = clock.redate(moment)
    assert isinstance(redated, Timing)
    assert error_s(redated, sample, card) == pytest.approx(5_000.0, abs=1e-3)
    assert redated.terms_s["holdover"] == pytest.approx(20 * UNRULED_DRIFT, rel=0.05)
    assert redated.terms_s["fit"] == moment.sigma_s
    assert (redated.tier, redated.undated) == ("ntp", None)


def test_a_moment_of_another_boot_or_of_long_ago_is_never_dated() -> None:
    clock = station(BAD)
    now_ns = CARD.start_ns + 30_000 * S
    clock.read(read_at(now_ns))
    assert clock.redate(Moment("boot-0", now_ns, 1e-4)) is Undatable.EVER
    assert clock.redate(Moment("boot-1", CARD.start_ns, 1e-4)) is Undatable.EVER
    assert clock.redate(Moment("boot-1", now_ns, 1e-4)) is Undatable.YET
    clock.judge(GOOD, now_ns)
    assert clock.redate(Moment("boot-1", CARD.start_ns, 1e-4)) is Undatable.EVER
    assert isinstance(clock.redate(Moment("boot-1", now_ns, 1e-4)), Timing)


def test_a_moment_before_the_computer_was_suspended_is_never_dated() -> None:
    clock = station(BAD)
    moment = clock.timing(feed(clock, CARD, 10)).undated
    assert moment is not None
    assert clock.redate(moment) is Undatable.YET
    later_ns = CARD.start_ns + 11 * S
    clock.read(replace(read_at(later_ns), utc_ns=read_at(later_ns).utc_ns + 3_600 * S, slept_s=3_600))
    clock.judge(GOOD, later_ns)
    assert clock.redate(moment) is Undatable.EVER
    assert clock.timing(0).undated is None


@pytest.mark.parametrize(("rate", "duration_s"), [(0.05, 6), (-1e-3, 50)])
def test_a_clock_that_is_slewed_makes_no_date_worse_than_its_sigma_once_that_is_over(
    rate: float, duration_s: int
) -> None:
    def slewed_ns(monotonic_ns: int) -> int:
        since_s = (monotonic_ns - CARD.start_ns) / S - 70.0
        return round(rate * min(max(since_s, 0.0), duration_s) * S)

    clock = station(GOOD)
    for number, (sample, raw_ns) in enumerate(CARD.times_ns(110 + duration_s)):
        slew_ns = slewed_ns(raw_ns)
        clock.add(sample, raw_ns + slew_ns)
        if number % 50 == 0:
            raw = read_at(raw_ns)
            clock.read(ClockRead(raw_ns + slew_ns, raw.utc_ns + slew_ns, 300, slew_ns))
        over_s = raw_ns / S - CARD.start_ns / S - 70.0 - duration_s
        if number % 25 == 0 and over_s > 1.5:
            timing = clock.timing(sample)
            off_s = error_s(timing, sample) - slewed_ns(CARD.true_monotonic_ns(sample)) / S
            assert abs(off_s) < 4 * timing.terms_s["fit"] + 1e-6


def test_with_a_pulse_the_samples_are_dated_by_it_and_by_the_system_clock_when_it_stops() -> None:
    clock, channel = station(GOOD), PulseChannel(CARD)
    for sample, time_ns in CARD.times_ns(12):
        clock.add(sample, time_ns)
        clock.add_pps(channel.render(sample, CARD.block), sample)
    timing = clock.timing(sample)
    assert timing.tier == "pps"
    assert set(timing.terms_s) == {"pps", "latency"}
    assert timing.terms_s["pps"] < 2e-5
    assert error_s(timing, sample) == pytest.approx(0.0, abs=3e-5)
    status = clock.status()
    assert status.tier == "pps"
    assert status.bound_s is not None
    assert status.bound_s < 1e-4
    assert "pulses of a GPS" in (status.why or "")
    clock.restart()
    assert clock.timing(sample).tier == "ntp"


def test_a_pulse_channel_that_is_silent_is_told() -> None:
    clock, channel = station(GOOD), PulseChannel(CARD, level=0.0)
    for sample, time_ns in CARD.times_ns(3):
        clock.add(sample, time_ns)
        clock.add_pps(channel.render(sample, CARD.block), sample)
    assert clock.timing(sample).tier == "ntp"
    assert (clock.status().why or "").endswith(NO_PULSES)


def test_the_status_says_what_happened() -> None:
    card = replace(CARD, steps=((5.0, -0.52),))
    clock = station(GOOD, card)
    feed(clock, card, 10)
    assert not clock.status().good
    clock.judge(GOOD, card.start_ns + 10 * S)
    status = clock.status()
    assert (status.tier, status.good, status.source) == ("ntp", True, "chrony")
    assert status.bound_s == pytest.approx(8e-3, abs=2e-4)
    assert status.sigma_s == pytest.approx(2e-3, rel=0.01)
    assert (status.why or "").startswith("3 servers agree; stepped by -0.52 s at ")


def test_a_bound_that_nobody_states_is_three_sigma() -> None:
    clock = station(replace(GOOD, bound_s=None))
    assert clock.status().bound_s == pytest.approx(6e-3, rel=0.01)


def test_before_the_first_block_there_is_a_status_but_no_time() -> None:
    clock = station(GOOD)
    assert clock.status().ppm == 0.0
    with pytest.raises(ValueError, match="no block has come yet"):
        clock.timing(0)


def test_a_smeared_leap_second_is_told() -> None:
    noon_ns = utc_ns("2026-12-31T12:00:00Z")
    clock = StationClock(RATE_HZ, boot="b", read=ClockRead(0, noon_ns - 3000 * S, 100), quality=GOOD)
    smear = 1 / 86_400
    for block in range(6300):
        nominal_s = float(block)
        # From noon on, the computer's clock runs slow by a second a day, and the card's seems to run fast.
        clock.add(block * RATE_HZ, round((nominal_s - smear * max(0.0, nominal_s - 3000)) * S))
        if block % 60 == 0:
            clock.read(ClockRead(block * S, noon_ns + (block - 3000) * S, 100))
    assert SMEAR_NOTICE in (clock.status().why or "")


def test_watchers_and_capture_may_call_at_once() -> None:
    clock = station(GOOD)
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            for number in range(2000):
                now_ns = CARD.start_ns + number * S // 100
                clock.read(read_at(now_ns))
                clock.judge(GOOD, now_ns)
                clock.redate(Moment("boot-1", now_ns, 1e-4))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to fail by it
            failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for sample, time_ns in CARD.times_ns(20):
        clock.add(sample, time_ns)
        clock.timing(sample)
    watcher.join()
    assert failures == []
    assert error_s(clock.timing(sample), sample) == pytest.approx(0.0, abs=1e-4)
