"""The frame, against the ellipsoid's own figures and pymap3d's independent solution along geodesics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymap3d.vincenty import vdist

from soundranger_broker.geodesy import Frame, roughly_m

latitudes = st.floats(-85, 85)
longitudes = st.floats(-180, 180)
offsets_m = st.floats(-5_000, 5_000)


@given(latitudes, longitudes, offsets_m, offsets_m, st.floats(-100, 1_000))
def test_a_place_goes_to_degrees_and_back(lat: float, lon: float, east_m: float, north_m: float, up_m: float) -> None:
    frame = Frame(lat, lon)
    assert frame.to_enu(*frame.to_geodetic(east_m, north_m, up_m)) == pytest.approx([east_m, north_m, up_m], abs=1e-6)


@given(latitudes, longitudes)
def test_the_origin_is_nowhere(lat: float, lon: float) -> None:
    assert Frame(lat, lon).to_enu(lat, lon) == pytest.approx([0, 0, 0], abs=1e-8)


@given(latitudes, longitudes, st.floats(1, 10_000), st.floats(0, 2 * math.pi))
def test_distances_are_those_along_the_earth_to_a_centimetre(
    lat: float, lon: float, distance_m: float, azimuth: float
) -> None:
    frame = Frame(lat, lon)
    east, north = distance_m * math.sin(azimuth), distance_m * math.cos(azimuth)
    down = -(distance_m**2) / 2 / 6_371_000
    there_lat, there_lon, _ = frame.to_geodetic(east, north, down)
    assert vdist(lat, lon, there_lat, there_lon)[0] == pytest.approx(distance_m, abs=0.02)


@pytest.mark.parametrize(
    ("lat", "north_m", "east_m"),
    # The length of a degree of latitude and of longitude on WGS84.
    [(0.0, 110_574.3, 111_319.5), (45.0, 111_131.8, 78_846.8), (60.0, 111_412.3, 55_800.2)],
)
def test_a_thousandth_of_a_degree_has_the_published_length(lat: float, north_m: float, east_m: float) -> None:
    half = 0.0005
    frame = Frame(lat, 20.0)
    north = frame.to_enu(lat + half, 20.0)[1] - frame.to_enu(lat - half, 20.0)[1]
    east = frame.to_enu(lat, 20.0 + half)[0] - frame.to_enu(lat, 20.0 - half)[0]
    assert north == pytest.approx(north_m / 1000, abs=0.001)
    assert east == pytest.approx(east_m / 1000, abs=0.001)


def test_the_earth_falls_away_below_the_tangent_plane() -> None:
    _, _, up_m = Frame(0.0, 0.0).to_enu(0.0, 0.05)
    assert up_m == pytest.approx(-6_378_137 * (1 - math.cos(math.radians(0.05))), abs=1e-3)


def test_a_frame_reaches_over_the_date_line() -> None:
    east_m, north_m, _ = Frame(-17.0, 179.999).to_enu(-17.0, -179.999)
    assert 0 < east_m < 220
    assert abs(north_m) < 0.01


def test_a_frame_amid_places_is_near_most_of_them() -> None:
    frame = Frame.amid([48.1, 48.11, 48.12, 0.0, -90.0], [11.5, 11.51, 11.52, 0.0, 0.0])
    assert np.hypot(*frame.to_enu(48.11, 11.51)[:2]) < 5_000


@given(latitudes, longitudes)
def test_a_frame_amid_places_is_near_them_wherever_they_are(lat: float, lon: float) -> None:
    around = [(lon + move + 180) % 360 - 180 for move in (-0.001, 0.0, 0.001)]
    assert np.hypot(*Frame.amid([lat - 0.001, lat, lat + 0.001], around).to_enu(lat, lon)[:2]) < 1_500


def test_the_same_network_has_the_same_frame_whoever_is_heard() -> None:
    assert Frame.amid([48.1371, 48.1372], [11.5751, 11.5752]) == Frame.amid([48.1381], [11.5763])


def test_many_places_are_taken_at_once() -> None:
    lats, lons = np.full((4, 2), 48.001), np.full((4, 2), 11.0)
    enu = Frame(48.0, 11.0).to_enu(lats, lons, 500.0)
    assert enu.shape == (4, 2, 3)
    assert enu[3, 1] == pytest.approx(Frame(48.0, 11.0).to_enu(48.001, 11.0, 500.0))


@given(st.floats(-70, 70), longitudes, st.lists(st.tuples(offsets_m, offsets_m), min_size=2, max_size=6))
def test_rough_places_are_as_far_apart_as_the_frame_has_them_though_one_is_off(
    lat: float, lon: float, places: list[tuple[float, float]]
) -> None:
    frame = Frame(lat, lon)
    fixes = np.array([frame.to_geodetic(*place)[:2] for place in [(0.0, 0.0), *places, *places]])
    rough = roughly_m(*np.vstack([[[0.0, 0.0]], fixes]).T)[1:]
    off_m = np.linalg.norm((rough - rough[0])[1:] - np.array([*places, *places]), axis=1)
    assert off_m.max() < 0.02 * 7_100.0
