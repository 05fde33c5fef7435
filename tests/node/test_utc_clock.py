"""Monotonic time to UTC: steps, leap seconds, judgements that come, change and stay away."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.smear import SMEAR_RATE, SmearWatch
from soundranger_node.timekeeping.system_clock import boot_id, read_clocks
from soundranger_node.timekeeping.utc_clock import (
    FRESH_S,
    HELD_DRIFT,
    MAX_HOLDOVER_S,
    UNRULED_DRIFT,
    VOUCHED_S,
    ClockRead,
    UtcClock,
    narrowest,
)
from soundranger_node.utc import utc_ns

S = 1_000_000_000
OFFSET_NS = utc_ns("2026-11-24T22:00:00Z")
GOOD = ClockQuality("ntp", True, 2e-3, 8e-3, "chrony", "3 servers agree")
BAD = replace(GOOD, good=False, why="not synchronised")


def read_at(monotonic_s: float, offset_ns: int = OFFSET_NS, width_ns: int = 300) -> ClockRead:
    monotonic_ns = round(monotonic_s * S)
    return ClockRead(monotonic_ns, monotonic_ns + offset_ns, width_ns)


def test_of_several_reads_the_narrowest_is_taken() -> None:
    reads = [(0, 100, 45, 2 * S, 90), (100, 205, 85, 3 * S + 105, 110), (200, 400, 230, 4 * S, 260)]
    assert narrowest(reads) == ClockRead(105, 205, 10, slewed_ns=20, slept_s=3)


def test_the_computers_clocks_are_read() -> None:
    first, second = read_clocks(), read_clocks()
    assert second.monotonic_ns > first.monotonic_ns
    assert 0 <= first.width_ns < 50_000_000
    drift_ns = (second.utc_ns - second.monotonic_ns) - (first.utc_ns - first.monotonic_ns)
    assert abs(drift_ns) <= first.width_ns + second.width_ns


def test_a_boot_has_one_id_and_an_unknown_one_that_of_the_run(tmp_path: Path) -> None:
    assert boot_id("run") == boot_id("other run")
    assert len(boot_id("run")) == 36
    assert boot_id("run", tmp_path / "none") == "run"


def test_a_moment_is_dated_by_the_difference_of_the_clocks() -> None:
    dated = UtcClock(read_at(100), replace(GOOD, ahead_s=0.25), 100 * S).date(110 * S)
    assert dated.utc_ns == OFFSET_NS + 110 * S - S // 4
    assert dated.terms_s == {"clock": 2e-3, "read": pytest.approx(300e-9 / 12**0.5), "holdover": 0.0}
    assert (dated.tier, dated.good) == ("ntp", True)


def test_a_read_that_took_long_does_not_replace_a_better_one() -> None:
    clock = UtcClock(read_at(100), GOOD, 100 * S)
    clock.read(read_at(101, OFFSET_NS + 20_000_000, 50_000_000))
    assert clock.date(101 * S).utc_ns == OFFSET_NS + 101 * S
    assert clock.date(101 * S).terms_s["read"] < 1e-6
    clock.read(read_at(102, OFFSET_NS + 50, 100))
    assert clock.date(101 * S).utc_ns == OFFSET_NS + 101 * S + 50


def test_a_step_counts_for_what_was_before_it_too_once_the_clock_is_judged_again() -> None:
    clock = UtcClock(read_at(100), GOOD, 100 * S)
    stepped_ns = OFFSET_NS - 520_000_000
    clock.read(read_at(110, stepped_ns))
    assert not clock.date(105 * S).good
    clock.judge(GOOD, 112 * S)
    dated = clock.date(105 * S)
    assert dated.good
    assert dated.utc_ns == stepped_ns + 105 * S
    # Nobody ruled the clock's rate while it was wrong.
    assert dated.terms_s["holdover"] == pytest.approx(7 * UNRULED_DRIFT)
    assert clock.notices(112 * S) == ["stepped by -0.52 s at 2026-11-24T22:01:49Z"]
    assert clock.why(112 * S) == "3 servers agree; stepped by -0.52 s at 2026-11-24T22:01:49Z"
    assert clock.notices(2 * 86_400 * S) == []


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=20))
def test_reads_that_only_took_longer_are_no_step(widths_ns: list[int]) -> None:
    clock = UtcClock(read_at(0), GOOD, 0)
    for number, width_ns in enumerate(widths_ns, start=1):
        clock.read(read_at(number, OFFSET_NS + width_ns // 2, width_ns))
    assert clock.notices(100 * S) == []
    assert clock.date(0).good


@pytest.mark.parametrize(("leap", "step_s"), [("insert", -1), ("delete", 1)])
def test_across_a_leap_second_each_side_keeps_its_own_time(leap: str, step_s: int) -> None:
    announced = replace(GOOD, leap="insert" if leap == "insert" else "delete")
    midnight_ns = utc_ns("2027-01-01T00:00:00Z")
    offset_ns = midnight_ns - 1000 * S
    clock = UtcClock(read_at(999, offset_ns), announced, 999 * S)
    clock.read(read_at(1002, offset_ns + step_s * S))
    assert clock.date(998 * S).utc_ns == midnight_ns - 2 * S
    # The read came two seconds later, but the kernel leaps at midnight.
    leap_ns = 1000 * S - max(0, step_s) * S
    assert clock.date(leap_ns - 1).utc_ns == midnight_ns - max(0, step_s) * S - 1
    assert clock.date(leap_ns).utc_ns == midnight_ns - max(0, -step_s) * S
    assert clock.date(1010 * S).utc_ns == midnight_ns + (10 + step_s) * S
    assert clock.date(998 * S).good
    assert clock.notices(1010 * S)[0].startswith("leap second")


def test_a_second_at_another_hour_or_unannounced_is_a_step() -> None:
    midnight_ns = utc_ns("2027-01-01T00:00:00Z")
    for quality, offset_ns in ((GOOD, midnight_ns - 1000 * S), (replace(GOOD, leap="insert"), OFFSET_NS)):
        clock = UtcClock(read_at(999, offset_ns), quality, 999 * S)
        clock.read(read_at(1002, offset_ns - S))
        assert clock.date(998 * S).utc_ns == offset_ns + 997 * S


def test_a_clock_that_nobody_judges_any_more_grows_doubtful_then_free_then_useless() -> None:
    clock = UtcClock(read_at(0), GOOD, 0)
    assert clock.date(round(FRESH_S) * S).terms_s["holdover"] == 0.0
    half_an_hour = clock.date(1800 * S)
    assert half_an_hour.terms_s["holdover"] == pytest.approx(HELD_DRIFT * (1800 - FRESH_S))
    assert half_an_hour.tier == "ntp"
    assert "not judged again for 1800 s" in clock.why(1800 * S)
    assert clock.date(round(VOUCHED_S + 1) * S).tier == "free"
    useless_s = round(MAX_HOLDOVER_S / HELD_DRIFT + FRESH_S) + 10
    useless = clock.date(useless_s * S)
    assert (useless.good, useless.pending) == (False, True)
    clock.judge(GOOD, useless_s * S)
    assert clock.date(useless_s * S).good


def test_before_the_clock_was_good_time_drifts_away_until_it_is_none() -> None:
    clock = UtcClock(read_at(0), BAD, 0)
    assert (clock.date(10 * S).good, clock.date(10 * S).pending) == (False, True)
    clock.read(read_at(6000, OFFSET_NS + 3 * S))
    clock.judge(GOOD, 6000 * S)
    minute_before = clock.date(5940 * S)
    assert minute_before.good
    assert minute_before.utc_ns == OFFSET_NS + 5943 * S
    assert minute_before.terms_s["holdover"] == pytest.approx(60 * UNRULED_DRIFT)
    too_long_before = clock.date(100 * S)
    assert (too_long_before.good, too_long_before.pending) == (False, False)


def test_a_clock_that_is_lost_and_found_without_a_step_kept_its_rate_in_between() -> None:
    clock = UtcClock(read_at(0), GOOD, 0)
    clock.judge(BAD, 100 * S)
    clock.read(read_at(3000))
    assert (clock.date(200 * S).good, clock.date(200 * S).pending) == (False, True)
    clock.judge(GOOD, 3000 * S)
    assert clock.date(200 * S).terms_s["holdover"] == pytest.approx(2800 * HELD_DRIFT)


def test_how_far_a_clock_is_ahead_counts_only_if_measured_since_it_was_stepped() -> None:
    measured = replace(GOOD, tier="pps", ahead_s=0.03, age_s=0.8)
    clock = UtcClock(read_at(100), measured, 100 * S)
    clock.read(read_at(110, OFFSET_NS + S // 3))
    clock.judge(measured, 110 * S)
    assert not clock.date(110 * S).good
    clock.judge(replace(measured, ahead_s=0.03 + 1 / 3), 112 * S)
    assert clock.date(112 * S).good
    assert clock.date(112 * S).utc_ns == pytest.approx(OFFSET_NS + 112 * S - 30_000_000, abs=100)


def test_a_clock_that_is_only_measured_keeps_no_rate_while_the_pulse_is_gone() -> None:
    clock = UtcClock(read_at(0), replace(GOOD, tier="pps", ahead_s=0.03), 0)
    clock.judge(BAD, 100 * S)
    clock.judge(replace(GOOD, tier="pps", ahead_s=0.05), 1000 * S)
    assert clock.date(200 * S).terms_s["holdover"] == pytest.approx(800 * UNRULED_DRIFT)


def test_a_moment_too_long_ago_is_given_up_while_the_clock_is_still_bad() -> None:
    clock = UtcClock(read_at(0), BAD, 0)
    clock.read(read_at(20_000))
    assert not clock.date(10 * S).pending
    assert clock.date(19_000 * S).pending


@pytest.mark.parametrize(
    ("noon", "change", "suspected"),
    [
        ("2026-12-31T12:00:00Z", SMEAR_RATE, True),
        ("2027-01-01T12:00:00Z", -SMEAR_RATE + 1e-6, True),
        ("2026-06-30T12:00:00Z", -SMEAR_RATE, True),
        ("2026-12-31T12:00:00Z", 4e-6, False),
        ("2026-12-30T12:00:00Z", SMEAR_RATE, False),
        ("2026-12-31T18:00:00Z", SMEAR_RATE, False),
    ],
)
def test_a_smeared_leap_second_shows_in_the_rate(noon: str, change: float, suspected: bool) -> None:
    watch, noon_ns = SmearWatch(), utc_ns(noon)
    found = [
        watch.suspects(noon_ns + minute * 60 * S, 20e-6 + (change if minute > 5 else 0.0)) for minute in range(-90, 100)
    ]
    assert not any(found[:90])
    assert any(found) == suspected
