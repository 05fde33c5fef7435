"""The clutter rate of a node: its background and its echoes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_broker.clutter import (
    ECHO_MEMORY_S,
    ECHOES,
    LEAST_LEVEL_RATIO,
    LEAST_SOUND_RATIO,
    MEMORY_S,
    MOST_LEVEL_RATIO,
    MOST_SOUND_RATIO,
    PRIOR_COUNT,
    ClutterModel,
    echo_level_ratio,
    echo_sound_ratio,
)

NOW_NS = 1_767_225_600_000_000_000
QUIET_HZ = PRIOR_COUNT / MEMORY_S
reports = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 60)), max_size=60).map(sorted)


def after(seconds: float) -> int:
    return NOW_NS + round(seconds * 1e9)


def rate_hz(model: ClutterModel, seconds: float, snr_db: float = 20.0) -> float:
    return heard_hz(model, after(seconds), snr_db)


def heard_hz(model: ClutterModel, time_ns: int, snr_db: float, echo: float | None = None) -> float:
    return model.hear(time_ns, snr_db, echo) + model.background_hz(time_ns)


def test_a_node_that_has_said_nothing_has_the_prior_rate() -> None:
    assert rate_hz(ClutterModel(), 0.0) == pytest.approx(QUIET_HZ)


def test_the_background_is_what_was_reported_in_the_last_minute() -> None:
    model = ClutterModel()
    for second in range(0, 600, 12):
        rate_hz(model, second)
    # Five reports in a minute, 12 s apart: too far apart to be echoes of one another.
    assert rate_hz(model, 600.0) == pytest.approx((PRIOR_COUNT + 5) / MEMORY_S, rel=0.01)


def test_after_a_minute_of_silence_all_is_forgotten() -> None:
    model = ClutterModel()
    for number in range(50):
        rate_hz(model, number * 0.1)
    assert rate_hz(model, 5.0 + MEMORY_S) == pytest.approx(QUIET_HZ)
    assert len(model.reports) == 1


def test_a_weaker_sound_soon_after_a_loud_one_is_probably_an_echo() -> None:
    model = ClutterModel()
    rate_hz(model, 0.0, 30.0)
    expected = echo_level_ratio(-10.0) * sum(rate * math.exp(-0.1 / decay_s) for rate, decay_s in ECHOES)
    assert rate_hz(model, 0.1, 20.0) == pytest.approx(2 * QUIET_HZ + expected)


def test_where_a_node_compared_the_sounds_that_counts_and_not_the_levels() -> None:
    def second_hz(echo: float | None) -> float:
        model = ClutterModel()
        rate_hz(model, 0.0, 30.0)
        return heard_hz(model, after(0.1), 20.0, echo)

    assert second_hz(0.05) < second_hz(None) < second_hz(0.95)
    assert second_hz(0.5) == pytest.approx(
        2 * QUIET_HZ + sum(rate * math.exp(-0.1 / decay_s) for rate, decay_s in ECHOES)
    )


def test_echoes_die_away() -> None:
    def echo_hz(delay_s: float) -> float:
        model = ClutterModel()
        rate_hz(model, 0.0, 30.0)
        return rate_hz(model, delay_s, 20.0)

    rates = [echo_hz(delay_s) for delay_s in (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 9.9)]
    assert rates == sorted(rates, reverse=True)
    assert echo_hz(ECHO_MEMORY_S + 0.1) == pytest.approx(2 * QUIET_HZ)


def test_a_much_louder_sound_is_no_echo() -> None:
    model = ClutterModel()
    rate_hz(model, 0.0, 20.0)
    assert rate_hz(model, 0.1, 29.0) == pytest.approx(2 * QUIET_HZ)


def test_an_echo_hardly_adds_to_the_background() -> None:
    echoing, plain = ClutterModel(), ClutterModel()
    for second in range(0, 48, 12):
        for model in (echoing, plain):
            rate_hz(model, second, 30.0)
        for echo in range(1, 6):
            rate_hz(echoing, second + 0.1 * echo, 20.0)
    quiet, loud = rate_hz(plain, 59.0), rate_hz(echoing, 59.0)
    assert quiet < loud < 1.2 * quiet


def test_a_copy_learns_nothing_for_the_original() -> None:
    model = ClutterModel()
    rate_hz(model, 0.0)
    copy = model.copy()
    for number in range(1, 20):
        rate_hz(copy, number)
    assert rate_hz(model, 20.0) == pytest.approx(2 * QUIET_HZ)


@given(st.floats(-400, 400))
def test_levels_alone_never_decide(change_db: float) -> None:
    assert LEAST_LEVEL_RATIO * 0.999 <= echo_level_ratio(change_db) <= MOST_LEVEL_RATIO * 1.001


@given(st.floats(-1e9, 1e9))
def test_one_comparison_of_sounds_never_decides(echo: float) -> None:
    assert LEAST_SOUND_RATIO <= echo_sound_ratio(echo) <= MOST_SOUND_RATIO


def test_a_fall_of_the_level_speaks_for_an_echo_and_none_against() -> None:
    assert echo_level_ratio(-12.0) > 1.0
    assert echo_level_ratio(0.0) < 1.0


@given(reports)
def test_whatever_is_heard_the_rate_is_bounded_and_so_is_the_memory(heard: list[tuple[float, float]]) -> None:
    model = ClutterModel()
    most_hz = QUIET_HZ + len(heard) / MEMORY_S + MOST_LEVEL_RATIO * sum(rate for rate, _ in ECHOES)
    for seconds, snr_db in heard:
        assert QUIET_HZ <= rate_hz(model, seconds, snr_db) <= most_hz * 1.001
        assert after(seconds) - model.reports[0][0] <= MEMORY_S * 1e9
        assert all(0.0 < share <= 1.0 for _, share in model.reports)


def test_what_a_bang_made_is_no_background_but_still_echoes() -> None:
    model = ClutterModel()
    model.hear(after(0.0), 30.0)
    model.claim(after(0.0))
    assert model.background_hz(after(20.0)) == pytest.approx(QUIET_HZ)
    assert model.hear(after(0.1), 20.0) > QUIET_HZ


def test_the_background_at_a_time_does_not_depend_on_what_was_heard_later() -> None:
    early, late = ClutterModel(), ClutterModel()
    for model in (early, late):
        model.hear(after(0.0), 20.0)
    for second in range(30, 90, 12):
        late.hear(after(second), 20.0)
    assert late.background_hz(after(20.0)) == early.background_hz(after(20.0))


def test_in_the_first_minute_the_background_is_what_was_reported_in_as_much_of_it_as_was_listened() -> None:
    model = ClutterModel()
    for second in range(20):
        model.hear(after(second), 20.0)

    so_far_hz, a_minute_hz = model.background_hz(after(20.0), 20.0), model.background_hz(after(20.0))
    assert so_far_hz - QUIET_HZ == pytest.approx(3.0 * (a_minute_hz - QUIET_HZ))
    assert 0.3 < so_far_hz < 1.1
