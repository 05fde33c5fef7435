"""Association: arrivals of one bang become one bang, whatever else is heard; by what goes in and what comes out."""

import time
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundranger_broker.association import Associator
from soundranger_broker.bang import MIN_NODES, Bang
from soundranger_broker.window import LEAST_LOG_ODDS
from soundranger_node.messages import Detection

if TYPE_CHECKING:
    from tests.broker.conftest import Town

EPOCH_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000
HOUR_S = 3600.0
# Long after the last detection: nothing is on its way any more.
ALL_HEARD_NS = EPOCH_NS + 1000 * SECOND_NS


@dataclass(frozen=True)
class Found:
    """A bang as a test looks at it: place in the town (m), seconds after the epoch, its arrivals."""

    east_m: float
    north_m: float
    at_s: float
    arrivals: frozenset[str]
    silent: tuple[str, ...]


def seen(town: "Town", bangs: Iterable[Bang]) -> list[Found]:
    found = []
    for bang in bangs:
        east, north = float(bang.location.theta[0]), float(bang.location.theta[1])
        lat, lon, _ = bang.frame.to_geodetic(east, north, bang.source_up_m)
        arrivals = frozenset(one.detection.id for one in bang.heard)
        found.append(Found(*town.offset_m(lat, lon), (bang.time_ns - EPOCH_NS) / SECOND_NS, arrivals, bang.silent))
    return found


def aware(town: "Town", names: Sequence[str] = ()) -> Associator:
    """Return an associator that knows of the town's nodes."""
    associator = Associator()
    for node, name in enumerate(town.names):
        if not names or name in names:
            associator.know(name, *town.geodetic(town.places_m[node]))
    return associator


def associate(town: "Town", *parts: list[Detection], associator: Associator | None = None) -> list[Found]:
    """Return the bangs of a file of detections."""
    associator = associator or aware(town)
    bangs = []
    for detection in sorted((one for part in parts for one in part), key=lambda one: one.time_ns):
        associator.add(detection)
        bangs += associator.settle(detection.time_ns)
    return seen(town, bangs + associator.settle(EPOCH_NS + 10**6 * SECOND_NS))


def assert_is(found: Found, place_m: tuple[float, float], at_s: float, within_m: float = 8.0) -> None:
    assert np.hypot(found.east_m - place_m[0], found.north_m - place_m[1]) < within_m
    assert found.at_s == pytest.approx(at_s, abs=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_a_single_shot_is_one_bang_with_all_its_arrivals(town: "Town", seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = (float(rng.uniform(-400, 400)), float(rng.uniform(-400, 400)))
    heard = town.hear(*place, 10.5, rng)
    (bang,) = associate(town, heard)
    assert_is(bang, place, 10.5)
    assert bang.arrivals == {one.id for one in heard}
    assert bang.silent == ()


@pytest.mark.parametrize("place", [(-46.957, -113.439), (42.535, -193.976)])
@pytest.mark.parametrize("after_ms", [-2, 0, 1, 2, 4])
def test_a_shot_at_the_turn_of_a_second_is_one_bang(town: "Town", place: tuple[float, float], after_ms: int) -> None:
    windy = replace(town, wind_mps=(5.0, 2.0))
    (bang,) = associate(windy, windy.hear(*place, 10.0 + after_ms / 1000))
    assert_is(bang, place, 10.0 + after_ms / 1000)


@pytest.mark.parametrize("seed", range(4))
def test_two_shots_shortly_after_one_another_are_two_bangs(town: "Town", seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (-200.0, 150.0), (180.0, -120.0)
    bangs = associate(town, town.hear(*first, 10.2, rng), town.hear(*second, 10.6, rng))
    assert len(bangs) == 2
    assert_is(bangs[0], first, 10.2)
    assert_is(bangs[1], second, 10.6)


def test_two_rounds_of_one_gun_are_two_bangs_at_one_place(town: "Town") -> None:
    rng = np.random.default_rng(5)
    bangs = associate(town, town.hear(50.0, 80.0, 10.2, rng), town.hear(50.0, 80.0, 10.6, rng))
    assert [round(bang.at_s, 1) for bang in bangs] == [10.2, 10.6]
    for bang in bangs:
        assert_is(bang, (50.0, 80.0), bang.at_s)


@pytest.mark.parametrize("seed", range(6))
def test_echoes_make_no_second_shot(town: "Town", seed: int) -> None:
    rng = np.random.default_rng(seed)
    heard = town.hear(100.0, -50.0, 10.3, rng)
    walls_s = rng.uniform(0.05, 0.4, len(town.places_m))
    echoes = town.hear(100.0, -50.0, 10.3, rng, late_s=walls_s, weaker_db=6.0)
    (bang,) = associate(town, heard, echoes)
    assert_is(bang, (100.0, -50.0), 10.3)


def test_arrivals_that_went_round_a_building_are_part_of_the_bang_and_do_not_move_it(town: "Town") -> None:
    rng = np.random.default_rng(8)
    late_s = np.zeros(len(town.places_m))
    late_s[[2, 6]] = 0.03
    (bang,) = associate(town, town.hear(20.0, 60.0, 10.4, rng, late_s=late_s))
    assert len(bang.arrivals) == 9
    assert_is(bang, (20.0, 60.0), 10.4)


def test_an_hour_of_false_triggers_is_no_bang(town: "Town") -> None:
    assert associate(town, town.chatter(np.random.default_rng(9), HOUR_S, 2.0)) == []


def test_a_shot_is_found_among_false_triggers(town: "Town") -> None:
    rng = np.random.default_rng(10)
    places = [(float(east), float(north)) for east, north in rng.uniform(-350, 350, (10, 2))]
    shots = [one for number, place in enumerate(places) for one in town.hear(*place, 20.4 + 15 * number, rng)]
    bangs = associate(town, shots, town.chatter(rng, 200.0, 4.0))
    for number, place in enumerate(places):
        (bang,) = (one for one in bangs if abs(one.at_s - 20.4 - 15 * number) < 0.1)
        assert_is(bang, place, 20.4 + 15 * number, within_m=12.0)


def test_three_nodes_make_no_bang_and_four_do(town: "Town") -> None:
    heard = town.hear(0.0, 0.0, 10.5, np.random.default_rng(11))
    assert associate(town, heard[:3], associator=aware(town, [one.node for one in heard[:3]])) == []
    assert len(associate(town, heard[:5], associator=aware(town, [one.node for one in heard[:5]]))) == 1


def test_what_was_not_likely_enough_is_told_once_when_its_step_is_settled(town: "Town") -> None:
    associator = aware(town)
    for one in town.chatter(np.random.default_rng(2), 40.0, 20.0):
        associator.add(one)
    associator.glance([], ALL_HEARD_NS)
    assert associator.refused() == []
    assert associator.settle(EPOCH_NS + 100 * SECOND_NS) == []
    refused = associator.refused()
    assert refused
    steps = [one.time_ns // SECOND_NS for one in refused]
    assert steps == sorted(steps)
    assert all(one.log_odds < LEAST_LOG_ODDS and len(one.heard) >= MIN_NODES for one in refused)
    assert associator.refused() == []


def test_a_double_report_is_one_arrival(town: "Town") -> None:
    heard = town.hear(70.0, -20.0, 10.5, np.random.default_rng(12))
    again = [msgspec.structs.replace(one, id=f"{one.id}-b", time_ns=one.time_ns + 3_000_000) for one in heard]
    (bang,) = associate(town, heard, again)
    assert bang.arrivals == {one.id for one in heard}


def test_a_node_that_was_near_and_heard_nothing_is_named(town: "Town") -> None:
    rng = np.random.default_rng(13)
    before = town.hear(10.0, 10.0, 5.5, rng)
    deaf = town.names[4]
    heard = [one for one in town.hear(10.0, 10.0, 25.5, rng) if one.node != deaf]
    bangs = associate(town, before, heard)
    assert [bang.silent for bang in bangs] == [(), (deaf,)]


def test_a_name_that_was_heard_once_is_no_silent_node(town: "Town") -> None:
    heard = town.hear(10.0, 10.0, 25.5, np.random.default_rng(13))
    others, near = [one for one in heard if one.node != town.names[4]], town.report(4, 5.5)
    again = town.report(4, 8.5)
    assert [bang.silent for bang in associate(town, [near], others)] == [()]
    assert [bang.silent for bang in associate(town, [near, again], others)] == [(town.names[4],)]


def test_a_node_that_sleeps_is_not_silent(town: "Town") -> None:
    rng = np.random.default_rng(13)
    associator = aware(town)
    asleep = town.names[4]
    bangs = []
    for one in town.hear(10.0, 10.0, 5.5, rng):
        associator.add(one)
    bangs += associator.settle(EPOCH_NS + 20 * SECOND_NS)
    associator.sleep(asleep, EPOCH_NS + 21 * SECOND_NS)
    for one in town.hear(10.0, 10.0, 25.5, rng):
        if one.node != asleep:
            associator.add(one)
    bangs += associator.settle(EPOCH_NS + 60 * SECOND_NS)
    assert [bang.silent for bang in seen(town, bangs)] == [(), ()]


def test_a_node_that_is_heard_again_is_awake(town: "Town") -> None:
    rng = np.random.default_rng(14)
    associator, deaf = aware(town), town.names[4]
    associator.sleep(deaf, EPOCH_NS)
    awake = town.hear(10.0, 10.0, 5.5, rng)
    without = [one for one in town.hear(10.0, 10.0, 25.5, rng) if one.node != deaf]
    assert [bang.silent for bang in associate(town, awake, without, associator=associator)] == [(), (deaf,)]


def test_a_node_that_nobody_told_of_is_heard_too(town: "Town") -> None:
    (bang,) = associate(town, town.hear(30.0, 40.0, 10.5), associator=Associator())
    assert_is(bang, (30.0, 40.0), 10.5)


def a_busy_minute(town: "Town", seed: int) -> list[Detection]:
    rng = np.random.default_rng(seed)
    parts = [town.hear(*town.somewhere(rng), at_s, rng) for at_s in (5.3, 11.7, 12.2, 24.6, 40.4)]
    return sorted(
        [*town.chatter(rng, 60.0, 3.0), *(one for part in parts for one in part)], key=lambda one: one.time_ns
    )


@given(seed=st.integers(0, 3), cuts=st.lists(st.floats(0, 80), max_size=12))
@settings(max_examples=4, deadline=None)
def test_a_stream_in_any_portions_gives_what_the_file_gives(town: "Town", seed: int, cuts: list[float]) -> None:
    detections = a_busy_minute(town, seed)
    associator, bangs = aware(town), list[Bang]()
    waiting = list(detections)
    for cut_s in sorted(cuts):
        cut_ns = EPOCH_NS + round(cut_s * SECOND_NS)
        while waiting and waiting[0].time_ns < cut_ns:
            associator.add(waiting.pop(0))
        associator.glance(waiting[:3], cut_ns)
        bangs += associator.settle(cut_ns)
    for one in waiting:
        associator.add(one)
    bangs += associator.settle(EPOCH_NS + 1000 * SECOND_NS)
    streamed, filed = seen(town, bangs), associate(town, detections)
    assert [bang.arrivals for bang in streamed] == [bang.arrivals for bang in filed]
    assert [(bang.east_m, bang.north_m, bang.at_s) for bang in streamed] == [
        pytest.approx((bang.east_m, bang.north_m, bang.at_s), abs=1e-3) for bang in filed
    ]


def test_a_busy_minute_gives_its_five_shots(town: "Town") -> None:
    for seed in range(4):
        assert [round(bang.at_s, 1) for bang in associate(town, a_busy_minute(town, seed))] == [
            pytest.approx(at_s, abs=0.11) for at_s in (5.3, 11.7, 12.2, 24.6, 40.4)
        ]


def test_names_do_not_matter(town: "Town") -> None:
    detections = a_busy_minute(town, 2)
    renamed = [msgspec.structs.replace(one, id=f"x{len(detections) - number}") for number, one in enumerate(detections)]
    here, there = associate(town, detections), associate(town, renamed)
    assert [(bang.east_m, bang.north_m, bang.at_s) for bang in here] == [
        pytest.approx((bang.east_m, bang.north_m, bang.at_s)) for bang in there
    ]


def test_a_glance_sees_the_bang_as_soon_as_enough_nodes_have_heard_it_and_settles_nothing(town: "Town") -> None:
    heard = town.hear(10.0, 20.0, 10.5, np.random.default_rng(15))
    associator = aware(town)
    assert associator.glance(heard[:3], ALL_HEARD_NS) == []
    (first,) = seen(town, associator.glance(heard[:6], ALL_HEARD_NS))
    assert_is(first, (10.0, 20.0), 10.5, within_m=15.0)
    (again,) = seen(town, associator.glance(heard[:6], ALL_HEARD_NS))
    assert again == first
    (bang,) = associate(town, heard, associator=associator)
    assert len(bang.arrivals) == 9


def test_a_glance_at_nodes_that_nobody_told_of_sees_the_bang_too(town: "Town") -> None:
    (bang,) = seen(town, Associator().glance(town.hear(10.0, 20.0, 10.5), ALL_HEARD_NS))
    assert_is(bang, (10.0, 20.0), 10.5)


def test_a_node_that_may_still_hear_a_bang_is_not_silent_about_it(town: "Town") -> None:
    heard, associator = town.hear(10.0, 20.0, 10.5), aware(town)
    for at_s in np.arange(0.0, 9.0, 0.3):
        associator.add(town.report(round(at_s / 0.3) % len(town.names), float(at_s)))
    nearest, others = heard[0], heard[1:]
    (early,) = associator.glance(others, nearest.time_ns - SECOND_NS // 10)
    (late,) = associator.glance(others, nearest.time_ns + SECOND_NS // 10)
    assert early.silent == ()
    assert late.silent == (nearest.node,)
    assert early.log_odds > late.log_odds


@pytest.mark.parametrize("seed", range(4))
def test_glances_at_each_report_see_what_one_glance_at_all_of_them_sees(town: "Town", seed: int) -> None:
    rng = np.random.default_rng(seed)
    heard = [*town.hear(-300.0, 200.0, 10.2, rng), *town.hear(250.0, -150.0, 10.7, rng)]
    reports = sorted([*heard, *town.chatter(rng, 5.0, 13.0)], key=lambda one: one.time_ns)
    growing = aware(town)
    for count in range(1, len(reports) + 1):
        last = seen(town, growing.glance(reports[:count], reports[count - 1].time_ns))
    at_once = seen(town, aware(town).glance(reports, reports[-1].time_ns))
    assert len(last) == len(at_once) == 2
    assert {one.arrivals for one in last} == {one.arrivals for one in at_once}


def test_a_report_that_was_long_on_its_way_is_seen_with_the_others(town: "Town") -> None:
    heard, associator = town.hear(10.0, 20.0, 10.5), aware(town)
    for one in heard[:3]:
        associator.add(one)
    assert associator.glance([], heard[2].time_ns + 4 * SECOND_NS) == []
    for one in heard[3:6]:
        associator.add(one)
    (bang,) = seen(town, associator.glance([], heard[2].time_ns + 5 * SECOND_NS))
    assert bang.arrivals == {one.id for one in heard[:6]}


def test_nodes_that_give_their_detections_the_same_ids_lose_none(town: "Town") -> None:
    shots = [(10.2, (-200.0, 150.0)), (11.4, (180.0, -120.0))]
    heard = [town.hear(*place, at_s) for at_s, place in shots]
    # Each node counts from one; in the second shot another is first.
    parts = [
        [msgspec.structs.replace(one, id=str((rank + shift) % len(part))) for rank, one in enumerate(part)]
        for shift, part in enumerate(heard)
    ]
    associator, bangs = aware(town), list[Bang]()
    for one in sorted((one for part in parts for one in part), key=lambda one: one.time_ns):
        associator.add(one)
        bangs += associator.settle(one.time_ns)
    bangs += associator.settle(ALL_HEARD_NS)
    assert [len(bang.heard) for bang in bangs] == [len(part) for part in heard]


def test_a_glance_does_not_see_again_what_is_settled(town: "Town") -> None:
    associator = aware(town)
    for one in town.hear(10.0, 20.0, 10.5):
        associator.add(one)
    assert len(associator.settle(EPOCH_NS + 60 * SECOND_NS)) == 1
    assert associator.glance([], ALL_HEARD_NS) == []


def test_nothing_fired_before_the_decided_time_comes_later(town: "Town") -> None:
    associator, decided_ns = aware(town), 0
    for one in a_busy_minute(town, 1):
        associator.add(one)
        for bang in associator.settle(one.time_ns):
            assert bang.time_ns >= decided_ns
        decided_ns = associator.decided_ns(one.time_ns)


def test_a_jump_of_years_is_cheap(town: "Town") -> None:
    heard = town.hear(10.0, 20.0, 10.5)
    years_ns = 20 * 365 * 86_400 * SECOND_NS
    later = [
        msgspec.structs.replace(one, id=f"{one.id}-later", time_ns=one.time_ns + years_ns)
        for one in town.hear(-50.0, 80.0, 10.5)
    ]
    associator = aware(town)
    start_s = time.process_time()
    bangs = []
    for one in (*heard, *later):
        associator.add(one)
        bangs += associator.settle(one.time_ns)
    bangs += associator.settle(later[-1].time_ns + 100 * SECOND_NS)
    assert time.process_time() - start_s < 2.0
    assert len(bangs) == 2
    assert bangs[1].time_ns - bangs[0].time_ns == pytest.approx(years_ns, abs=10**6)


@pytest.mark.slow
def test_memory_stays_bounded_over_an_hour_of_chatter(town: "Town") -> None:
    associator = aware(town)
    # One node in the rain, the others now and then.
    rain = [town.report(0, at_s, 10.0, f"rain-{number}") for number, at_s in enumerate(np.arange(0.0, HOUR_S, 0.25))]
    others = town.chatter(np.random.default_rng(16), HOUR_S, 3.0)
    tracemalloc.start()
    sizes = []
    for number, one in enumerate(sorted([*rain, *others], key=lambda one: one.time_ns)):
        associator.add(one)
        associator.settle(one.time_ns)
        associator.refused()
        if number % 2_000 == 1_999:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # Python keeps up to 2,000 tuples of a size for later, which takes the first minutes.
    assert max(sizes) - sizes[1] < 200_000


def test_a_node_that_states_an_impossible_precision_spoils_nothing(town: "Town") -> None:
    heard = town.hear(10.0, 20.0, 10.5, np.random.default_rng(17))
    heard[3] = msgspec.structs.replace(heard[3], time_sigma_s=1e-300, position_sigma_m=1e-300)
    (bang,) = associate(town, heard)
    assert_is(bang, (10.0, 20.0), 10.5)


@pytest.mark.parametrize("snr_db", [-400.0, -50.0, 0.0, 120.0, 400.0])
def test_a_node_that_misstates_its_level_spoils_nothing(town: "Town", snr_db: float) -> None:
    heard = town.hear(10.0, 20.0, 10.5, np.random.default_rng(20))
    heard[2] = msgspec.structs.replace(heard[2], snr_db=snr_db)
    (bang,) = associate(town, heard)
    assert len(bang.arrivals) >= 8
    assert_is(bang, (10.0, 20.0), 10.5)


def test_a_node_that_does_not_know_the_time_is_no_evidence(town: "Town") -> None:
    heard = town.hear(10.0, 20.0, 10.5, np.random.default_rng(18))
    vague = msgspec.structs.replace(heard[0], time_sigma_s=1.0, time_ns=heard[0].time_ns + 700_000_000)
    (bang,) = associate(town, [vague, *heard[1:]])
    assert vague.id not in bang.arrivals
    assert_is(bang, (10.0, 20.0), 10.5)


def test_a_node_that_claims_to_be_off_africa_spoils_nothing(town: "Town") -> None:
    associator = Associator()
    associator.know("no-fix", 0.0, 0.0, 0.0)
    for node, name in enumerate(town.names):
        associator.know(name, *town.geodetic(town.places_m[node]))
    heard = town.hear(10.0, 20.0, 10.5, np.random.default_rng(19))
    lost = [
        msgspec.structs.replace(town.report(0, 10.0 + 0.3 * number), node="no-fix", lat=0.0, lon=0.0)
        for number in range(10)
    ]
    (bang,) = associate(town, heard, lost, associator=associator)
    assert_is(bang, (10.0, 20.0), 10.5)
