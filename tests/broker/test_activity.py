"""How many bangs are expected: fast up, slowly down."""

import pytest

from soundranger_broker.activity import MEMORY_S, Activity
from soundranger_broker.given import EXPECTED_PER_HOUR_KM2

NOW_NS = 1_767_225_600_000_000_000


def after(seconds: float) -> int:
    return NOW_NS + round(seconds * 1e9)


def fireworks(per_s: float, for_s: float) -> Activity:
    activity = Activity()
    for number in range(round(per_s * for_s)):
        activity = activity.after(after(number / per_s))
    return activity


def test_a_network_that_heard_nothing_expects_about_what_it_was_told() -> None:
    assert Activity().per_hour_km2(NOW_NS, 2.0) == pytest.approx(EXPECTED_PER_HOUR_KM2, rel=0.6)


def test_a_long_firework_is_expected_to_go_on() -> None:
    activity = fireworks(3.0, 10 * MEMORY_S)
    assert activity.per_hour_km2(after(10 * MEMORY_S), 4.0) == pytest.approx(3.0 * 3600.0 / 4.0, rel=0.6)


def test_more_bangs_make_more_expected_and_silence_less() -> None:
    activity = fireworks(1.0, 10.0)
    during = activity.per_hour_km2(after(10.0), 4.0)
    assert during > Activity().per_hour_km2(after(10.0), 4.0)
    assert activity.per_hour_km2(after(600.0), 4.0) < during
