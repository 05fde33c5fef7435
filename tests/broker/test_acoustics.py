"""The acoustics of the open air, against closed forms and the tables of ISO 9613."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soundranger_broker.acoustics import absorption_db_per_m, pressure_pa, speed_of_sound_mps, travel_time_s

coordinates_m = st.floats(-3000, 3000)
offsets_m = st.tuples(coordinates_m, coordinates_m, coordinates_m)
wind_components_mps = st.floats(-40, 40)


def midband_hz(thirds_above_1_khz: int) -> float:
    """Return the exact middle of a third-octave band, for which the standard's tables are computed."""
    return float(1000 * 10 ** (thirds_above_1_khz / 10))


@pytest.mark.parametrize(("temperature_c", "speed_mps"), [(-20, 318.9), (0, 331.3), (20, 343.2), (40, 354.7)])
def test_the_speed_of_sound_is_that_of_the_tables_of_dry_air(temperature_c: float, speed_mps: float) -> None:
    assert speed_of_sound_mps(temperature_c) == pytest.approx(speed_mps, abs=0.1)


def test_there_is_no_speed_of_sound_below_absolute_zero() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        speed_of_sound_mps(-274)


@pytest.mark.parametrize(
    ("offset_m", "wind_mps", "seconds"),
    [
        ((300, 400, 0), (0, 0), 500 / 340),
        ((500, 0, 0), (10, 0), 500 / 350),
        ((-500, 0, 0), (10, 0), 500 / 330),
        ((0, 500, 0), (10, 0), 500 / math.sqrt(340**2 - 10**2)),
        ((0, 0, 500), (0, 10), 500 / math.sqrt(340**2 - 10**2)),
        ((0, 0, 0), (3, 4), 0),
    ],
)
def test_wind_carries_sound(
    offset_m: tuple[float, float, float], wind_mps: tuple[float, float], seconds: float
) -> None:
    assert travel_time_s(offset_m, 340, *wind_mps) == pytest.approx(seconds, rel=1e-12)


@given(offsets_m, wind_components_mps, wind_components_mps)
@example((-2.2e-308, 0.0, 0.0), -1.0, 0.0)
def test_the_receiver_lies_on_the_drifted_front_when_the_sound_arrives(
    offset_m: tuple[float, float, float], east_mps: float, north_mps: float
) -> None:
    time_s = float(travel_time_s(offset_m, 340, east_mps, north_mps))
    front = np.subtract(offset_m, np.multiply((east_mps, north_mps, 0), time_s))
    assert time_s >= 0
    assert np.linalg.norm(front) == pytest.approx(340 * time_s, abs=1e-6)


@given(offsets_m, offsets_m, wind_components_mps, wind_components_mps)
def test_no_way_round_is_faster_than_the_straight_one(
    first_m: tuple[float, float, float],
    second_m: tuple[float, float, float],
    east_mps: float,
    north_mps: float,
) -> None:
    legs_s = travel_time_s([first_m, second_m], 340, east_mps, north_mps)
    assert travel_time_s(np.add(first_m, second_m), 340, east_mps, north_mps) <= legs_s.sum() + 1e-9


@pytest.mark.parametrize(
    ("temperature_c", "humidity_percent", "thirds_above_1_khz", "db_per_km"),
    [
        (-20, 10, -13, 0.589),
        (-20, 70, 0, 11.5),
        (-20, 100, 6, 31.4),
        (0, 10, 0, 14.0),
        (0, 100, -9, 0.354),
        (10, 70, -9, 0.411),
        (10, 70, 0, 3.66),
        (10, 70, 6, 32.8),
        (20, 10, 6, 109),
        (20, 15, 8, 175),
        (20, 70, 0, 4.98),
        (20, 80, 10, 105),
        (30, 50, 0, 7.03),
        (50, 70, 9, 80.3),
    ],
)
def test_absorption_is_that_of_table_1_of_iso_9613_1(
    temperature_c: float, humidity_percent: float, thirds_above_1_khz: int, db_per_km: float
) -> None:
    absorption = absorption_db_per_m(midband_hz(thirds_above_1_khz), temperature_c, humidity_percent)
    assert 1000 * absorption == pytest.approx(db_per_km, rel=0.006)


@pytest.mark.parametrize(
    ("temperature_c", "humidity_percent", "db_per_km"),
    [
        (10, 70, [0.1, 0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117]),
        (20, 70, [0.1, 0.3, 1.1, 2.8, 5.0, 9.0, 22.9, 76.6]),
        (30, 70, [0.1, 0.3, 1.0, 3.1, 7.4, 12.7, 23.1, 59.3]),
        (15, 20, [0.3, 0.6, 1.2, 2.7, 8.2, 28.2, 88.8, 202]),
        (15, 50, [0.1, 0.5, 1.2, 2.2, 4.2, 10.8, 36.2, 129]),
        (15, 80, [0.1, 0.3, 1.1, 2.4, 4.1, 8.3, 23.7, 82.8]),
    ],
)
def test_absorption_is_that_of_table_2_of_iso_9613_2(
    temperature_c: float, humidity_percent: float, db_per_km: list[float]
) -> None:
    octaves_hz = [midband_hz(thirds) for thirds in range(-12, 12, 3)]
    absorption = absorption_db_per_m(octaves_hz, temperature_c, humidity_percent)
    assert 1000 * absorption == pytest.approx(db_per_km, rel=0.005, abs=0.052)


def test_thin_air_absorbs_more_of_a_high_tone() -> None:
    at_sea, on_a_mountain = (absorption_db_per_m(8000, 20, 70, pressure_kpa) for pressure_kpa in (101.325, 70.0))
    assert on_a_mountain > at_sea


@pytest.mark.parametrize(("level_db_spl", "pascal"), [(0, 20e-6), (93.979, 1.0), (120, 20.0)])
def test_a_level_is_a_pressure(level_db_spl: float, pascal: float) -> None:
    assert pressure_pa(level_db_spl) == pytest.approx(pascal, rel=1e-4)
