"""A place surveyed in from a GPS: honest about errors that hours do not average away, and kept over restarts."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pymap3d
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from soundranger_node.timekeeping.gpsd import Fix
from soundranger_node.timekeeping.survey import (
    CORRELATION_S,
    MOVED_BLOCKS,
    PERSISTENT_M,
    PROVISIONAL_BLOCKS,
    SURVEY_BLOCKS,
    TYPICAL_SPREAD_M,
    Survey,
    SurveyedPlace,
    estimate,
    offset_m,
    shared_variance,
)

LAT, LON, ALT_M = 48.13743, 11.57549, 567.0
TIME = "2026-11-24T22:17:16.000Z"
AWAY_M = np.array([300.0, 0.0, 0.0])


def gps_errors_m(
    random: np.random.Generator,
    count: int,
    step_s: float,
    spread_m: NDArray[np.float64],
    persistent_m: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (count, 3) errors: a Gauss-Markov process of ten minutes, and a part that stays."""
    keep = math.exp(-step_s / CORRELATION_S)
    errors = np.empty((count, 3))
    errors[0] = random.normal(0, spread_m)
    kicks = random.normal(0, spread_m * math.sqrt(1 - keep**2), (count, 3))
    for number in range(1, count):
        errors[number] = keep * errors[number - 1] + kicks[number]
    return errors + random.normal(0, persistent_m)


def fix(east_m: float = 0.0, north_m: float = 0.0, up_m: float = 0.0, lat: float = LAT, lon: float = LON) -> Fix:
    lat, lon, alt_m = pymap3d.enu2geodetic(east_m, north_m, up_m, lat, lon, ALT_M)
    return Fix(mode=3, time=TIME, lat=float(lat), lon=(float(lon) + 180) % 360 - 180, altHAE=float(alt_m))


def feed(survey: Survey, errors_m: NDArray[np.float64], began_s: float = 0.0, **where: float) -> float:
    """Give it a fix every 30 s; return when the next one is due."""
    for number, (east_m, north_m, up_m) in enumerate(errors_m):
        survey.add(fix(east_m, north_m, up_m, **where), began_s + 30.0 * number)
    return began_s + 30.0 * len(errors_m)


def fixes(minutes: int, seed: int = 1) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return gps_errors_m(random, 2 * minutes + 1, 30.0, TYPICAL_SPREAD_M, np.zeros(3))


def surveyed(path: Path) -> Survey:
    survey = Survey(path)
    feed(survey, fixes(SURVEY_BLOCKS))
    return survey


@pytest.mark.parametrize("minutes", [5, 15, 60, 180, 360])
def test_the_truth_lies_within_the_stated_sigma_at_the_right_rate(minutes: int) -> None:
    random = np.random.default_rng(minutes)
    scores = []
    for _ in range(400):
        found = estimate(gps_errors_m(random, minutes, 60.0, TYPICAL_SPREAD_M, PERSISTENT_M))
        scores.append(found.place_m / found.sigma_m)
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1.0, abs=0.12)
    assert np.mean(np.abs(scores) < 1) == pytest.approx(0.68, abs=0.08)


@pytest.mark.parametrize("times", [0.6, 2.0])
def test_a_receiver_better_or_worse_than_typical_is_found_out_within_hours(times: float) -> None:
    random = np.random.default_rng(3)
    scores = []
    for _ in range(300):
        found = estimate(gps_errors_m(random, SURVEY_BLOCKS, 60.0, times * TYPICAL_SPREAD_M, PERSISTENT_M))
        scores.append(found.place_m / found.sigma_m)
    assert 0.8 < np.sqrt(np.mean(np.square(scores))) < 1.2


def test_more_fixes_in_the_same_time_make_it_no_better() -> None:
    sparse, dense = Survey(Path("unused")), Survey(Path("unused"))
    for second in range(0, 1_201, 1):
        dense.add(fix(), float(second))
    for second in range(0, 1_201, 30):
        sparse.add(fix(), float(second))
    assert sparse.place is not None
    assert dense.place is not None
    assert dense.place.position_sigma_m == sparse.place.position_sigma_m > 2


def test_a_time_far_longer_than_the_correlation_averages_as_twice_the_correlation_over_it() -> None:
    assert shared_variance(1e6) == pytest.approx(2 * CORRELATION_S / 1e6, rel=1e-3)
    assert shared_variance(1.0) == pytest.approx(1.0, rel=1e-3)


@given(st.integers(1, SURVEY_BLOCKS), st.floats(0, 100), st.integers(0, 2**32 - 1))
def test_sigma_is_never_below_what_stays(minutes: int, spread_m: float, seed: int) -> None:
    blocks_m = np.random.default_rng(seed).normal(0, spread_m, (minutes, 3))
    assert estimate(blocks_m).sigma_m >= np.sqrt(np.mean(PERSISTENT_M**2)) * (1 - 1e-12)


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500))
def test_offsets_are_those_of_exact_geodesy(lat: float, lon: float, east_m: float, north_m: float) -> None:
    other = pymap3d.enu2geodetic(east_m, north_m, 0.0, lat, lon, 100.0)
    found_m = offset_m(float(other[0]), float(other[1]), float(other[2]), (lat, lon, 100.0))
    # Meridians meet near the poles: what that costs is far below a survey's sigma anywhere with a gun.
    tolerance_m = 0.3 if abs(lat) < 80 else 100.0
    assert found_m[:2] == pytest.approx([east_m, north_m], abs=tolerance_m)


def test_a_place_is_provisional_after_some_minutes_and_grows_better(tmp_path: Path) -> None:
    survey = Survey(tmp_path / "place.json")
    now_s = feed(survey, fixes(PROVISIONAL_BLOCKS - 1))
    assert survey.place is None
    feed(survey, fixes(PROVISIONAL_BLOCKS), now_s)
    first = survey.place
    feed(survey, fixes(120), now_s + 600)
    later = survey.place

    assert first is not None
    assert later is not None
    assert not first.frozen
    assert later.position_sigma_m < first.position_sigma_m
    assert 0 < survey.progress < 1
    assert not (tmp_path / "place.json").exists()


def test_after_hours_the_place_is_frozen_and_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "place.json"
    survey = surveyed(path)
    place = survey.place

    assert place is not None
    assert place.frozen
    assert place.surveyed_ns == 1_795_558_636_000_000_000
    assert place.minutes == SURVEY_BLOCKS
    assert survey.progress == 1
    error_m = np.linalg.norm(offset_m(place.lat, place.lon, place.alt_m, (LAT, LON, ALT_M)))
    assert error_m < 3 * 3**0.5 * place.position_sigma_m
    assert 1 < place.spread_m < 4
    assert [file.name for file in path.parent.iterdir()] == ["place.json"]

    again = Survey(path)
    assert again.place == place
    assert again.progress == 1
    feed(again, fixes(60, seed=2) + 5.0)
    assert again.place == place
    assert again.problem is None


@pytest.mark.parametrize(("lat", "lon"), [(-17.0, 180.0), (0.0, 0.0), (70.0, -179.999999)])
def test_a_place_at_the_date_line_or_the_equator_is_found(tmp_path: Path, lat: float, lon: float) -> None:
    survey = Survey(tmp_path / "place.json")
    feed(survey, fixes(60), lat=lat, lon=lon)
    place = survey.place
    assert place is not None
    assert np.abs(offset_m(place.lat, place.lon, place.alt_m, (lat, lon, ALT_M))).max() < 12


def test_wild_fixes_among_good_ones_do_not_move_the_place(tmp_path: Path) -> None:
    errors_m = fixes(SURVEY_BLOCKS)
    errors_m[::7] = 800.0
    survey = Survey(tmp_path / "place.json")
    feed(survey, errors_m)
    place = survey.place
    assert place is not None
    assert np.abs(offset_m(place.lat, place.lon, place.alt_m, (LAT, LON, ALT_M))).max() < 5


def test_a_node_that_is_moved_says_so_and_is_surveyed_in_again(tmp_path: Path) -> None:
    path = tmp_path / "place.json"
    surveyed(path)
    survey = Survey(path)

    now_s = feed(survey, fixes(MOVED_BLOCKS - 5) + AWAY_M)
    assert survey.problem is None
    now_s = feed(survey, fixes(10) + AWAY_M, now_s)

    assert survey.problem is not None
    assert "moved" in survey.problem
    assert not path.exists()
    provisional = survey.place
    assert provisional is not None
    assert not provisional.frozen
    assert offset_m(provisional.lat, provisional.lon, 0.0, (LAT, LON, 0.0))[0] == pytest.approx(300, abs=12)

    feed(survey, fixes(SURVEY_BLOCKS) + AWAY_M, now_s)
    assert survey.progress == 1
    assert survey.problem is None
    assert Survey(path).place == survey.place


def test_bad_reception_for_less_than_half_an_hour_is_no_move(tmp_path: Path) -> None:
    survey = surveyed(tmp_path / "place.json")
    place = survey.place
    now_s = 1e6
    for _ in range(3):
        now_s = feed(survey, fixes(MOVED_BLOCKS - 5) + AWAY_M, now_s)
        now_s = feed(survey, fixes(5), now_s)
    assert survey.place == place
    assert survey.problem is None


def test_fixes_without_height_count_for_nothing_and_an_old_gpsd_is_told(tmp_path: Path) -> None:
    survey = Survey(tmp_path / "place.json")
    for minute in range(20):
        survey.add(Fix(mode=2, lat=LAT, lon=LON), 60.0 * minute)
        survey.add(Fix(mode=3), 60.0 * minute)
        survey.add(Fix(mode=3, lat=LAT, lon=LON), 60.0 * minute)
    assert (survey.place, survey.problem) == (None, None)
    survey.add(Fix(mode=3, lat=LAT, lon=LON, alt=520.0), 1_200.0)
    assert survey.problem is not None
    assert "3.20" in survey.problem
    survey.add(fix(), 1_260.0)
    assert survey.problem is None


@pytest.mark.parametrize("moment", [None, "1987-01-01T00:00:00.000Z", "nonsense"])
def test_a_receiver_that_does_not_know_the_date_is_frozen_too(tmp_path: Path, moment: str | None) -> None:
    path = tmp_path / "place.json"
    survey = Survey(path)
    for minute in range(SURVEY_BLOCKS + 1):
        survey.add(Fix(mode=3, time=moment, lat=LAT, lon=LON, altHAE=ALT_M), 60.0 * minute)
    assert survey.place is not None
    assert (survey.place.frozen, survey.place.surveyed_ns) == (True, None)
    assert Survey(path).place == survey.place


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{}", b"[" * 60_000, b'{"lat":1,"lon":2,"alt_m":3,"position_sigma_m":0}']
)
def test_a_state_file_that_cannot_be_read_is_told_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "place.json"
    path.write_bytes(content)
    survey = Survey(path)
    assert survey.place is None
    assert survey.problem is not None
    assert str(path) in survey.problem
    feed(survey, fixes(SURVEY_BLOCKS))
    assert survey.problem is None
    assert msgspec.json.decode(path.read_bytes(), type=SurveyedPlace) == survey.place


def test_a_place_that_cannot_be_written_is_told_and_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    survey = surveyed(tmp_path / "file" / "place.json")
    assert survey.place is not None
    assert survey.problem is not None
    assert "restart" in survey.problem
