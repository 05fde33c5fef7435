"""The simulated town: its physics against closed forms, its determinism, and its honesty about the truth."""

import itertools
import math
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from soundranger_broker.acoustics import absorption_db_per_m, travel_time_s
from soundranger_broker.simulation import (
    Schedule,
    Screen,
    Shot,
    SimulatedSource,
    Town,
    VirtualMicrophone,
    VirtualNode,
    Wall,
    direct_travel_time_s,
    heard_by,
    make_town,
    wall_clock,
)
from soundranger_broker.simulation.propagation import paths, screen_response
from soundranger_node.blocks import Samples, Source
from soundranger_node.errors import InputError

START_NS = 1_767_225_600_000_000_000
NS_PER_S = 1_000_000_000
ALT_M = 45.0
SILENCE_DB_SPL = -200.0
# Friedlander waves have their zero crossing here.
POSITIVE_PHASE_S = 0.0006

places_m = st.floats(-600, 600)
winds_mps = st.floats(-20, 20)
cuts = st.lists(st.integers(0, 30_000), max_size=8)


def town_with(
    *,
    walls: tuple[Wall, ...] = (),
    screens: tuple[Screen, ...] = (),
    wind_mps: tuple[float, float] = (0.0, 0.0),
    noise_db_spl: float = SILENCE_DB_SPL,
    full_scale_db_spl: float = 180.0,
) -> Town:
    """Return a town of one node, in its middle; by default silent, open and calm, and never clipping."""
    node = VirtualNode(
        name="middle",
        lat=52.5,
        lon=5.2,
        alt_m=ALT_M,
        clock_tier="ntp",
        clock_error_s=0.002,
        clock_sigma_s=0.003,
        noise_db_spl=noise_db_spl,
        full_scale_db_spl=full_scale_db_spl,
        walls=walls,
        screens=screens,
    )
    return Town(52.5, 5.2, (node,), 10.0, 70.0, *wind_mps)


def shot_at(
    town: Town, east_m: float, north_m: float, *, fired_s: float = 0.5, level_db_spl: float = 155.0, number: int = 1
) -> Shot:
    """Return a shot at a place of the town's frame, at the height of the node that `town_with` makes."""
    up_m = float(town.frame.to_enu(town.lat, town.lon, ALT_M)[2])
    lat, lon, alt_m = town.frame.to_geodetic(east_m, north_m, up_m)
    time_ns = START_NS + round(fired_s * NS_PER_S)
    return Shot(f"shot-{number}", "incident", time_ns, lat, lon, alt_m, level_db_spl, POSITIVE_PHASE_S)


def record(town: Town, *shots: Shot, seconds: float = 1.0, sample_rate_hz: float = 16_000.0) -> Samples:
    microphone = VirtualMicrophone(town, 0, START_NS, seed=1, sample_rate_hz=sample_rate_hz)
    return microphone.render(0, round(seconds * sample_rate_hz), shots)


def onset_s(samples: Samples) -> float:
    """Return when a lone blast in samples at 16 kHz begins: where the wave's own formula fits best, to 1/64 sample."""
    finer, half = 64, 64
    centre = int(np.argmax(np.abs(samples)))
    cut = samples[centre - half : centre + half].astype(np.float64)
    spectrum = np.fft.rfft(cut)
    fine = np.fft.irfft(np.concatenate([spectrum, np.zeros(half * finer - half)]), 2 * half * finer)
    phase = np.arange(half * finer) / (finer * 16_000) / POSITIVE_PHASE_S
    likeness = np.correlate(fine, (1 - phase) * np.exp(-phase), mode="valid")
    return float((centre - half + np.argmax(likeness) / finer) / 16_000)


def level_db(samples: Samples, frequency_hz: float, sample_rate_hz: float = 16_000.0) -> float:
    """Return the level of one frequency of a recording, against an arbitrary reference."""
    turns = np.exp(-2j * np.pi * frequency_hz * np.arange(len(samples)) / sample_rate_hz)
    return 20 * math.log10(abs(complex(turns @ samples.astype(np.float64))))


@pytest.mark.parametrize("fired_s", [0.5, 0.500_011, 0.500_031_25, 0.500_047_9])
@pytest.mark.parametrize("range_m", [12.0, 97.3, 640.0, 1_205.0])
def test_a_blast_is_heard_when_the_closed_form_says(fired_s: float, range_m: float) -> None:
    town = town_with()
    samples = record(town, shot_at(town, range_m, 0, fired_s=fired_s), seconds=5)
    assert onset_s(samples) == pytest.approx(fired_s + range_m / town.speed_of_sound_mps, abs=0.00002)


def test_the_first_half_of_the_rise_is_at_the_onset_too() -> None:
    town = town_with()
    samples = record(town, shot_at(town, 100, 0), sample_rate_hz=192_000)
    crossing = int(np.argmax(samples > samples.max() / 2)) / 192_000
    assert crossing == pytest.approx(0.5 + 100 / town.speed_of_sound_mps, abs=0.00005)


@pytest.mark.parametrize(("east_m", "speed_gain_mps"), [(700, 8), (-700, -8)])
def test_a_blast_is_early_downwind_and_late_upwind(east_m: float, speed_gain_mps: float) -> None:
    # The shot is east of the node, so a wind that blows west carries it there.
    town = town_with(wind_mps=(-8.0, 0.0))
    samples = record(town, shot_at(town, east_m, 0), seconds=4)
    assert onset_s(samples) == pytest.approx(0.5 + 700 / (town.speed_of_sound_mps + speed_gain_mps), abs=0.00002)


@pytest.mark.parametrize("frequency_hz", [250, 1000, 3000])
@pytest.mark.parametrize("range_m", [25, 100, 400])
def test_each_doubling_of_the_range_costs_6_db_and_the_air(range_m: float, frequency_hz: float) -> None:
    town = town_with()
    near, far = (record(town, shot_at(town, metres, 0), seconds=4) for metres in (range_m, 2 * range_m))
    air_db = range_m * float(absorption_db_per_m(frequency_hz, town.temperature_c, town.humidity_percent))
    lost_db = level_db(near, frequency_hz) - level_db(far, frequency_hz)
    assert lost_db == pytest.approx(20 * math.log10(2) + air_db, abs=0.02)


def test_a_blast_has_its_level_at_1_m_and_the_shape_of_a_friedlander_wave() -> None:
    town = town_with(full_scale_db_spl=155)
    samples = record(town, shot_at(town, 1, 0), sample_rate_hz=384_000)
    after_s = np.arange(len(samples)) / 384_000 - 0.5 - 1 / town.speed_of_sound_mps
    phase = after_s[after_s > 0.00005] / POSITIVE_PHASE_S
    assert samples.max() == pytest.approx(1, abs=0.05)
    # The finite rise leaves the wave some microseconds late.
    np.testing.assert_allclose(samples[after_s > 0.00005], (1 - phase) * np.exp(-phase), atol=0.04)


@settings(max_examples=30, deadline=None)
@given(cuts)
def test_how_a_stream_is_cut_into_blocks_changes_no_sample(cut_at: list[int]) -> None:
    town = town_with(walls=(Wall(200, 30, 5),), noise_db_spl=50, full_scale_db_spl=123)
    shots = [shot_at(town, 80, 10 * number, fired_s=0.3 * number, number=number) for number in range(5)]
    edges = [0, *sorted(cut_at), 30_000]
    parts = VirtualMicrophone(town, 0, START_NS, seed=1)
    whole = VirtualMicrophone(town, 0, START_NS, seed=1).render(0, 30_000, shots)
    cut = [parts.render(start, end - start, shots) for start, end in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(cut), whole)


def test_a_microphone_remembers_nothing_of_what_it_rendered_before() -> None:
    town = town_with(noise_db_spl=50, full_scale_db_spl=123)
    shots = [shot_at(town, 80, number, fired_s=0.01 * number, number=number) for number in range(100)]
    microphone = VirtualMicrophone(town, 0, START_NS, seed=1)
    before = microphone.render(0, 16_000, shots)
    microphone.render(400_000, 16_000, shots[:3])
    np.testing.assert_array_equal(microphone.render(0, 16_000, shots), before)


def test_the_seed_decides_the_noise_and_each_node_has_its_own() -> None:
    town = make_town(4)

    def noise(node_index: int, seed: int) -> Samples:
        return VirtualMicrophone(town, node_index, START_NS, seed).render(0, 4000, ())

    np.testing.assert_array_equal(noise(0, 1), noise(0, 1))
    assert abs(np.corrcoef(noise(0, 1), noise(0, 2))[0, 1]) < 0.5
    assert abs(np.corrcoef(noise(0, 1), noise(1, 1))[0, 1]) < 0.5


@pytest.mark.parametrize("sample_rate_hz", [16_000.0, 48_000.0])
def test_the_background_has_the_level_of_its_node_except_in_gusts(sample_rate_hz: float) -> None:
    town = town_with(noise_db_spl=50, full_scale_db_spl=123)
    seconds = record(town, seconds=240, sample_rate_hz=sample_rate_hz).reshape(240, -1)
    levels_db_spl = 123 + 10 * np.log10(np.mean(seconds.astype(np.float64) ** 2, axis=1))
    assert np.percentile(levels_db_spl, 40) == pytest.approx(50, abs=0.7)
    assert levels_db_spl.max() > 53
    assert levels_db_spl.max() < 61
    assert np.abs(np.diff(levels_db_spl)).max() < 5


def test_the_background_falls_by_3_db_an_octave() -> None:
    samples = record(town_with(noise_db_spl=50, full_scale_db_spl=123), seconds=60).reshape(-1, 16_000)
    power = np.mean(np.abs(np.fft.rfft(samples)) ** 2, axis=0)
    bands_db = [10 * math.log10(power[low : 2 * low].mean()) for low in (60, 120, 240, 480, 960, 1920, 3840)]
    np.testing.assert_allclose(np.diff(bands_db), -3.01, atol=0.7)


def test_a_blast_nearby_clips_at_full_scale() -> None:
    town = town_with(full_scale_db_spl=123)
    near, far = (record(town, shot_at(town, range_m, 0)) for range_m in (5, 100))
    assert near.max() == 1
    assert np.count_nonzero(near == 1) >= 3
    assert near.min() >= -1
    assert 0.1 < far.max() < 1


def test_a_wall_sends_an_echo_from_the_mirror_image_later_and_weaker_and_duller() -> None:
    town = town_with(walls=(Wall(bearing_deg=180, distance_m=30, loss_db=6),))
    shot = shot_at(town, 0, 200)
    direct, echo = paths(town, town.nodes[0], shot)
    assert echo.delay_s == pytest.approx((200 + 2 * 30) / town.speed_of_sound_mps, abs=1e-6)
    samples = record(town, shot, seconds=2)
    between = round((0.5 + (direct.delay_s + echo.delay_s) / 2) * 16_000)
    first, second = samples[:between], samples[between:]
    assert onset_s(second) + between / 16_000 == pytest.approx(0.5 + echo.delay_s, abs=0.0002)
    spread_db = 20 * math.log10(260 / 200)
    assert level_db(first, 100) - level_db(second, 100) == pytest.approx(6 + spread_db, abs=0.2)
    assert level_db(first, 4000) - level_db(second, 4000) > 6 + spread_db + 6


def test_a_shot_behind_a_wall_has_no_echo_from_it() -> None:
    town = town_with(walls=(Wall(bearing_deg=0, distance_m=30, loss_db=6),))
    assert len(paths(town, town.nodes[0], shot_at(town, 0, 29))) == 2
    assert len(paths(town, town.nodes[0], shot_at(town, 0, 31))) == 1


@given(places_m, places_m, st.floats(0, 360), st.floats(1, 100), st.tuples(winds_mps, winds_mps))
def test_no_echo_comes_before_the_direct_sound_in_any_wind(
    east_m: float, north_m: float, bearing_deg: float, distance_m: float, wind_mps: tuple[float, float]
) -> None:
    town = town_with(walls=(Wall(bearing_deg, distance_m, 6),), wind_mps=wind_mps)
    direct, *echoes = paths(town, town.nodes[0], shot_at(town, east_m, north_m))
    assert all(echo.delay_s >= direct.delay_s - 1e-9 and echo.range_m >= direct.range_m - 1e-6 for echo in echoes)


def test_a_screen_delays_and_muffles_only_what_comes_from_behind_it() -> None:
    screened = town_with(screens=(Screen(bearing_deg=350, width_deg=40, detour_m=1.0),))
    still = town_with()
    speed_mps = still.speed_of_sound_mps
    for bearing_deg, late_s in ((331, 1 / speed_mps), (5, 1 / speed_mps), (329, 0), (15, 0), (170, 0)):
        east_m, north_m = (300 * turn(math.radians(bearing_deg)) for turn in (math.sin, math.cos))
        shot = shot_at(still, east_m, north_m)
        behind, direct = (direct_travel_time_s(town, town.nodes[0], shot) for town in (screened, still))
        assert behind - direct == pytest.approx(late_s, abs=1e-9)
    behind_db, open_db = (level_db(record(town, shot_at(town, 0, 300), seconds=2), 500) for town in (screened, still))
    assert open_db - behind_db == pytest.approx(10 * math.log10(3 + 40 * 500 / speed_mps), abs=1.5)


@given(st.floats(0.01, 5), st.floats(1, 10_000))
def test_a_screen_keeps_to_the_chart_of_maekawa(detour_m: float, frequency_hz: float) -> None:
    response = screen_response(np.array([frequency_hz]), detour_m, 340)
    chart_db = 10 * math.log10(3 + 40 * detour_m * frequency_hz / 340)
    assert -20 * math.log10(abs(response[0])) == pytest.approx(chart_db, abs=1.51)


@given(st.integers(0, 50), st.floats(60, 175), st.floats(0, 30), places_m, places_m)
@settings(max_examples=40, deadline=None)
def test_a_louder_shot_is_heard_by_every_node_that_hears_a_quieter_one(
    seed: int, level_db_spl: float, more_db: float, east_m: float, north_m: float
) -> None:
    town = make_town(seed)
    quiet = shot_at(town, east_m, north_m, level_db_spl=level_db_spl)
    louder = replace(quiet, level_db_spl=level_db_spl + more_db)
    assert set(heard_by(town, quiet)) <= set(heard_by(town, louder))


def test_a_node_hears_a_shot_from_15_db_above_its_background_on() -> None:
    town = town_with(noise_db_spl=50, full_scale_db_spl=123)
    shot = shot_at(town, 500, 0)
    silent = town_with(full_scale_db_spl=123)
    peak_db_spl = 123 + 20 * math.log10(record(silent, shot, seconds=3).max())
    just_heard = shot.level_db_spl + 50 + 15 - peak_db_spl
    assert heard_by(town, replace(shot, level_db_spl=just_heard + 0.2)) == ["middle"]
    assert heard_by(town, replace(shot, level_db_spl=just_heard - 0.2)) == []


def test_most_shots_are_heard_by_six_nodes_or_more() -> None:
    heard = [
        len(heard_by(town, shot))
        for town, seed in ((make_town(seed), seed) for seed in range(6))
        for shot in Schedule(town, seed, START_NS).shots(START_NS, START_NS + 100 * NS_PER_S)
    ]
    assert len(heard) > 60
    assert np.mean(np.array(heard) >= 6) > 0.9


def test_a_seed_makes_one_town_and_another_makes_another() -> None:
    assert make_town(7) == make_town(7)
    assert make_town(7) != make_town(8)


@pytest.mark.parametrize(("nodes", "side_m"), [(3, 500.0), (9, 1200.0), (14, 3000.0)])
def test_a_town_has_its_nodes_within_its_square_and_apart(nodes: int, side_m: float) -> None:
    places = make_town(3, nodes, side_m).node_places_m()
    apart_m = np.linalg.norm(places[:, None] - places[None, :], axis=-1) + np.eye(nodes) * side_m
    assert places.shape == (nodes, 3)
    assert np.abs(places[:, :2]).max() <= side_m / 2
    assert apart_m.min() > 0.3 * side_m / math.ceil(math.sqrt(nodes))


@pytest.mark.parametrize(("nodes", "side_m"), [(2, 1200.0), (9, 0.0), (9, -5.0), (9, math.nan), (9, math.inf)])
def test_a_town_without_an_area_is_refused(nodes: int, side_m: float) -> None:
    with pytest.raises(InputError, match="area"):
        make_town(1, nodes, side_m)


def test_clocks_are_as_wrong_as_they_say() -> None:
    nodes = [node for seed in range(200) for node in make_town(seed).nodes]
    errors = np.array([node.clock_error_s / node.clock_sigma_s for node in nodes])
    assert np.mean(errors) == pytest.approx(0, abs=0.1)
    assert np.std(errors) == pytest.approx(1, abs=0.07)
    assert {node.clock_tier for node in nodes} == {"gps", "ntp"}


@given(st.lists(st.integers(-20, 400), min_size=2, max_size=6))
@settings(deadline=None)
def test_a_schedule_is_the_same_whoever_asks_and_in_whatever_pieces(edges_s: list[int]) -> None:
    town = make_town(5)
    edges_ns = [START_NS + second * NS_PER_S for second in sorted(edges_s)]
    asked = Schedule(town, 2, START_NS)
    pieces = [asked.shots(start, end) for start, end in reversed(list(itertools.pairwise(edges_ns)))]
    whole = Schedule(town, 2, START_NS).shots(edges_ns[0], edges_ns[-1])
    assert sum(reversed(pieces), ()) == whole
    assert all(edges_ns[0] <= shot.time_ns < edges_ns[-1] and shot.time_ns >= START_NS for shot in whole)


def test_every_eight_seconds_someone_fires_once_or_a_burst_from_within_the_hull_of_the_nodes() -> None:
    town = make_town(5)
    shots = Schedule(town, 2, START_NS).shots(START_NS, START_NS + 1600 * NS_PER_S)
    incidents = [list(group) for _, group in itertools.groupby(shots, lambda shot: shot.incident)]
    assert len(incidents) == 200
    assert len({shot.id for shot in shots}) == len(shots)
    assert [shot.time_ns for shot in shots] == sorted(shot.time_ns for shot in shots)
    assert {len(incident) for incident in incidents} == {1, 2, 3, 4, 5, 6}
    for incident in incidents:
        gaps_s = np.diff([shot.time_ns for shot in incident]) / NS_PER_S
        assert np.all((gaps_s >= 60 / 700 - 1e-6) & (gaps_s <= 60 / 300 + 1e-6))
        assert len({(shot.lat, shot.lon) for shot in incident}) == 1
    hull = Delaunay(town.node_places_m()[:, :2])
    fired_at = town.frame.to_enu([shot.lat for shot in shots], [shot.lon for shot in shots])[:, :2]
    assert np.all(hull.find_simplex(fired_at * 0.9999) >= 0)


@pytest.mark.parametrize("every_s", [3.9, 0.0, -8.0, math.nan, math.inf])
def test_a_schedule_too_dense_for_its_bursts_is_refused(every_s: float) -> None:
    with pytest.raises(InputError, match="simulated shots"):
        Schedule(make_town(5), 2, START_NS, every_s)


def never_wait(_utc_ns: int, _closed: threading.Event) -> None:
    """Pace a source as fast as it is asked."""


@pytest.mark.parametrize("side_m", [1_200.0, 8_000.0])
def test_a_source_yields_all_that_its_microphone_hears_in_blocks_of_100_ms(side_m: float) -> None:
    town = make_town(6, side_m=side_m)
    schedule = Schedule(town, 3, START_NS)
    source: Source = SimulatedSource(VirtualMicrophone(town, 2, START_NS, seed=1), schedule, never_wait)
    blocks = list(itertools.islice(source.blocks(), 300))
    assert [block.first for block in blocks] == list(range(0, 300 * 1600, 1600))
    assert {block.samples.dtype for block in blocks} == {np.dtype(np.float32)}
    shots = schedule.shots(START_NS, START_NS + 30 * NS_PER_S)
    whole = VirtualMicrophone(town, 2, START_NS, seed=1).render(0, 300 * 1600, shots)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), whole)


def test_a_source_waits_for_the_end_of_each_block() -> None:
    waited_ns: list[int] = []
    town = make_town(6)
    source = SimulatedSource(
        VirtualMicrophone(town, 0, START_NS, seed=1),
        Schedule(town, 3, START_NS),
        lambda utc_ns, _closed: waited_ns.append(utc_ns),
    )
    for number, _ in enumerate(itertools.islice(source.blocks(), 3), start=1):
        assert waited_ns == [START_NS + block * NS_PER_S // 10 for block in range(1, number + 1)]


def test_a_source_dates_its_samples_by_a_clock_that_is_wrong() -> None:
    town = town_with()
    source = SimulatedSource(VirtualMicrophone(town, 0, START_NS, seed=1), Schedule(make_town(6), 3, 0), never_wait)
    timing = source.timebase.timing(16_000.5)
    assert timing.time_ns == START_NS + NS_PER_S + 31_250 + 2_000_000
    assert timing.sigma_s == 0.003
    assert timing.tier == "ntp"


def test_a_source_ends_at_once_when_another_thread_closes_it() -> None:
    town = make_town(6)
    tomorrow_ns = 4_000_000_000 * NS_PER_S
    source = SimulatedSource(
        VirtualMicrophone(town, 0, tomorrow_ns, seed=1), Schedule(town, 3, tomorrow_ns), wall_clock
    )
    heard: list[object] = []
    listener = threading.Thread(target=lambda: heard.extend(source.blocks()))
    listener.start()
    source.close()
    source.close()
    listener.join(timeout=5)
    assert not listener.is_alive()
    assert heard == []


def test_the_wall_clock_does_not_wait_for_what_is_past() -> None:
    closed = threading.Event()
    waiter = threading.Thread(target=wall_clock, args=(START_NS, closed))
    waiter.start()
    waiter.join(timeout=5)
    assert not waiter.is_alive()


def shots_and_nodes(town: Town) -> Iterator[tuple[Shot, VirtualNode]]:
    shots = Schedule(town, 1, START_NS).shots(START_NS, START_NS + 60 * NS_PER_S)
    return itertools.product(shots, town.nodes)


def test_the_direct_travel_time_is_the_exact_one_in_the_wind_of_the_town() -> None:
    town = make_town(9)
    wind_mps = (town.wind_east_mps, town.wind_north_mps)
    for shot, node in shots_and_nodes(town):
        offset_m = town.frame.to_enu(node.lat, node.lon, node.alt_m) - town.frame.to_enu(shot.lat, shot.lon, shot.alt_m)
        late_s = direct_travel_time_s(town, node, shot) - travel_time_s(offset_m, town.speed_of_sound_mps, *wind_mps)
        detours_s = [0.0, *(screen.detour_m / town.speed_of_sound_mps for screen in node.screens)]
        assert min(abs(late_s - detour_s) for detour_s in detours_s) < 1e-9
