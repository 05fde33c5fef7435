"""Changes of the monotonic clock's rate are told once each, and what a busy computer reads late is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.timekeeping.slew import MIN_CHANGE, SlewWatch
from soundranger_node.timekeeping.utc_clock import ClockRead

S = 1_000_000_000


def read_at(second: int, slewed_ns: float, width_ns: int = 300) -> ClockRead:
    return ClockRead(second * S, 0, width_ns, round(slewed_ns))


@pytest.mark.parametrize("rate", [0.05, -1e-3, 2 * MIN_CHANGE])
def test_a_slew_is_told_when_it_begins_and_when_it_ends(rate: float) -> None:
    watch = SlewWatch(read_at(0, 0))
    slewed_s = [rate * min(max(second - 10.4, 0.0), 20.0) for second in range(1, 60)]
    told = [second for second, each_s in enumerate(slewed_s, start=1) if watch.changed(read_at(second, each_s * S))]
    assert told == [11, 31]


def test_a_daemon_that_follows_a_crystal_is_no_slew() -> None:
    watch = SlewWatch(read_at(0, 0))
    assert not any(watch.changed(read_at(second, 40e3 * second + 0.05 * second**2)) for second in range(1, 60))


@given(st.lists(st.integers(0, 50_000_000), min_size=2, max_size=30))
def test_reads_that_took_long_are_no_slew(widths_ns: list[int]) -> None:
    watch = SlewWatch(read_at(0, 0))
    # The raw clock may have been read anywhere between the two readings.
    reads = [read_at(second, width_ns / 2, width_ns) for second, width_ns in enumerate(widths_ns, start=1)]
    assert not any(watch.changed(read) for read in reads)
