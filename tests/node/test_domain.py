"""The clock that a sound card's times are on is recognised, and its blocks are dated by ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.timekeeping.domain import SERVER_SIGMA_S, driver_sigma_s, recorded_monotonic_ns

BLOCK_S = 0.02
MONOTONIC_NS = 5_000_000_000_000
UTC_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize("called_ns", [MONOTONIC_NS, UTC_NS], ids=["monotonic", "realtime"])
@pytest.mark.parametrize("call_delay_s", [20e-6, 0.03])
def test_a_block_is_dated_by_its_adc_time_however_late_the_call(called_ns: int, call_delay_s: float) -> None:
    current_s = called_ns * 1e-9 - call_delay_s
    recorded_ns = recorded_monotonic_ns(current_s - 0.021, current_s, MONOTONIC_NS, UTC_NS, BLOCK_S)
    assert recorded_ns == pytest.approx(MONOTONIC_NS - (0.021 + call_delay_s) * 1e9, abs=500)


def test_a_clock_of_the_drivers_own_gives_only_the_delay() -> None:
    assert recorded_monotonic_ns(77.0, 77.025, MONOTONIC_NS, UTC_NS, BLOCK_S) == MONOTONIC_NS - 25_000_000


@pytest.mark.parametrize("current_s", [0.0, MONOTONIC_NS * 1e-9, UTC_NS * 1e-9])
@pytest.mark.parametrize("adc_s", [0.0, 2e9])
def test_a_driver_that_knows_no_time_gives_a_block_before_the_call(adc_s: float, current_s: float) -> None:
    recorded_ns = recorded_monotonic_ns(adc_s, current_s, MONOTONIC_NS, UTC_NS, BLOCK_S)
    assert recorded_ns == pytest.approx(MONOTONIC_NS - 20_000_000, abs=500)


@given(st.floats(), st.floats())
def test_whatever_the_driver_says_a_block_was_recorded_its_own_length_ago_and_not_long_before(
    adc_s: float, current_s: float
) -> None:
    before_s = (MONOTONIC_NS - recorded_monotonic_ns(adc_s, current_s, MONOTONIC_NS, UTC_NS, BLOCK_S)) * 1e-9
    assert 0.02 <= before_s <= 6.0


def test_a_clock_set_back_to_the_epoch_still_tells_the_two_apart() -> None:
    current_s = 40.0 - 20e-6
    assert recorded_monotonic_ns(current_s - 0.02, current_s, 30_000_000_000, 40_000_000_000, BLOCK_S) == pytest.approx(
        30_000_000_000 - 20_020_000, abs=500
    )


def test_a_sound_server_is_known_by_its_clock_and_its_delay_is_doubted() -> None:
    assert driver_sigma_s(UTC_NS * 1e-9 - 0.01, MONOTONIC_NS, UTC_NS) == SERVER_SIGMA_S
    assert driver_sigma_s(MONOTONIC_NS * 1e-9 - 0.01, MONOTONIC_NS, UTC_NS) == 0.0
    assert driver_sigma_s(0.0, MONOTONIC_NS, UTC_NS) == 0.0
