"""The limit: what is withheld where there is too much, and what never is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.limit import DEFAULT_LIMIT_PER_MINUTE, Limit

RATE_HZ = 1_000


def told_s(limit: Limit, times_s: list[float], level_db: float = -20.0, *, like_blast: bool = True) -> list[float]:
    return [at_s for at_s in times_s if limit.admits(at_s * RATE_HZ, level_db, like_blast=like_blast)]


def every(interval_s: float, start_s: float, end_s: float) -> list[float]:
    return np.arange(start_s, end_s, interval_s).tolist()


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(-60, 0), st.booleans()), max_size=300),
    st.integers(1, 40),
)
def test_no_minute_has_more_than_the_limit_and_nothing_goes_uncounted(
    impulses: list[tuple[float, float, bool]], per_minute: int
) -> None:
    limit, now_s, told = Limit(per_minute, RATE_HZ), 0.0, []
    for gap_s, level_db, like_blast in impulses:
        now_s += gap_s
        if limit.admits(now_s * RATE_HZ, level_db, like_blast=like_blast):
            told.append(now_s)
    assert all(sum(start_s - 60 < at_s <= start_s for at_s in told) <= per_minute for start_s in told)
    assert len(told) + limit.withheld == len(impulses)


@pytest.mark.parametrize("interval_s", [0.03, 0.05, 0.1])
def test_a_burst_of_ten_seconds_is_told_in_full(interval_s: float) -> None:
    rounds = every(interval_s, 5, 15)
    assert told_s(Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ), rounds) == rounds


def test_a_shooting_of_ten_minutes_is_told_in_full() -> None:
    shots = every(0.3, 5, 605)
    assert told_s(Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ), shots) == shots


def test_over_the_limit_the_first_of_a_burst_is_still_told() -> None:
    limit = Limit(100, RATE_HZ)
    assert len(told_s(limit, every(0.05, 0, 10))) == 90
    later = [*every(0.05, 12, 13), *every(0.05, 14, 15)]
    assert told_s(limit, later) == [12.0, 14.0]


def test_a_crowd_of_clicks_is_withheld_but_for_what_is_louder() -> None:
    limit = Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ)
    assert max(told_s(limit, every(0.5, 0, 60), like_blast=False)) < 10
    assert limit.withheld > 90
    assert told_s(limit, [60.2], -10.0, like_blast=False) == [60.2]
    assert told_s(limit, [61.2], -15.0, like_blast=False) == []


def test_after_a_quiet_minute_a_crowd_is_forgotten() -> None:
    limit = Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ)
    told_s(limit, every(0.5, 0, 60), like_blast=False)
    assert told_s(limit, [100.0, 115.0, 125.0], like_blast=False) == [115.0, 125.0]


def test_a_stream_that_counts_from_zero_again_starts_with_the_whole_limit() -> None:
    limit = Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ)
    told_s(limit, every(0.05, 1_000, 1_060))
    assert told_s(limit, [0.5, 1.5]) == [0.5, 1.5]


def test_a_crowd_of_clicks_hides_no_blast() -> None:
    limit = Limit(DEFAULT_LIMIT_PER_MINUTE, RATE_HZ)
    assert max(told_s(limit, every(0.3, 0, 40), like_blast=False)) < 10
    assert told_s(limit, [40.2], -30.0) == [40.2]
