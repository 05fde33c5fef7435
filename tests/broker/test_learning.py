"""What a network learns of itself while it listens: nodes at wrong places, and wrong clocks."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundranger_broker.association import Associator
from soundranger_broker.bang import Bang
from soundranger_node.messages import Detection

if TYPE_CHECKING:
    from tests.broker.conftest import Town

GAP_S = 10.0
SHOTS = 30


def spoilt(
    town: "Town", spoil: Callable[[Detection, int], Detection], shots: int = SHOTS
) -> tuple[list[Detection], list[tuple[float, float]]]:
    """Return what nodes report of shots all over the town, each as `spoil` makes it, and where the shots were."""
    rng = np.random.default_rng(5)
    places = [town.somewhere(rng) for _ in range(shots)]
    reports = [
        spoil(one, number)
        for number, place in enumerate(places)
        for one in town.hear(*place, 5.0 + number * GAP_S, rng)
    ]
    return sorted(reports, key=lambda one: one.time_ns), places


def run(detections: Iterable[Detection]) -> tuple[list[Bang], Associator]:
    associator = Associator()
    bangs: list[Bang] = []
    for one in detections:
        associator.add(one)
        bangs += associator.settle(one.time_ns)
    bangs += associator.settle(10**19)
    return bangs, associator


def errors_m(town: "Town", bangs: Iterable[Bang], places: Iterable[tuple[float, float]]) -> list[float]:
    found = []
    for bang, place in zip(bangs, places, strict=True):
        theta = bang.location.theta
        lat, lon, _ = bang.frame.to_geodetic(float(theta[0]), float(theta[1]))
        found.append(float(np.hypot(*np.subtract(town.offset_m(lat, lon), place))))
    return found


def moved(town: "Town", one: Detection, node: int, east_m: float, north_m: float) -> Detection:
    """Return a report of a node that states a place so far from where it is."""
    if one.node != town.names[node]:
        return one
    lat, lon, _ = town.geodetic(town.places_m[node] + [east_m, north_m, 0.0])
    return msgspec.structs.replace(one, lat=lat, lon=lon)


@pytest.mark.slow
@pytest.mark.parametrize(("east_m", "north_m"), [(100.0, 0.0), (-40.0, 60.0), (-15.0, -20.0)])
def test_a_node_that_states_a_wrong_place_is_found_with_its_error_and_moves_no_bang(
    town: "Town", east_m: float, north_m: float
) -> None:
    detections, places = spoilt(town, lambda one, _: moved(town, one, 2, east_m, north_m))
    bangs, associator = run(detections)
    (fault,) = associator.faults()
    assert (fault.node, fault.kind) == (town.names[2], "place")
    assert fault.size_m == pytest.approx(np.hypot(east_m, north_m), abs=5.0)
    assert np.median(errors_m(town, bangs, places)[SHOTS // 2 :]) < 2.0


def test_a_node_that_states_its_right_place_again_is_believed(town: "Town") -> None:
    detections, _ = spoilt(town, lambda one, number: moved(town, one, 2, 80.0 if number < SHOTS // 2 else 0.0, 0.0))
    assert not run(detections)[1].faults()


@pytest.mark.slow
def test_a_node_that_was_moved_back_is_believed_after_some_bangs(town: "Town") -> None:
    there = replace(town, seed=town.seed)
    there.places_m[2] += [80.0, 0.0, 0.0]
    rng = np.random.default_rng(6)
    reports = []
    for number in range(2 * SHOTS):
        world = there if number < SHOTS else town
        heard = world.hear(*town.somewhere(rng), 5.0 + number * GAP_S, rng)
        reports += [moved(there, one, 2, -80.0, 0.0) if world is there else one for one in heard]
    half = [one for one in reports if one.time_ns < reports[0].time_ns + SHOTS * GAP_S * 1e9]
    assert [fault.kind for fault in run(half)[1].faults()] == ["place"]
    assert not run(reports)[1].faults()


def test_a_node_that_jumps_five_kilometres_costs_no_bang(town: "Town") -> None:
    detections, places = spoilt(town, lambda one, number: moved(town, one, 2, 5_000.0 * (number % 3 == 1), 0.0))
    bangs, _ = run(detections)
    assert max(errors_m(town, bangs, places)) < 10.0


def late_by(town: "Town", one: Detection, late_s: float) -> Detection:
    """Return a report of a town in which the clock of one node is late."""
    return msgspec.structs.replace(one, time_ns=one.time_ns + round(late_s * 1e9) * (one.node == town.names[4]))


@pytest.mark.parametrize("late_s", [-0.3, 0.05, 0.4])
def test_a_clock_that_is_off_is_found_though_no_bang_claims_its_arrivals_and_others_are_not_blamed(
    town: "Town", late_s: float
) -> None:
    detections, places = spoilt(town, lambda one, _: late_by(town, one, late_s))
    bangs, associator = run(detections)
    (fault,) = associator.faults()
    assert (fault.node, fault.kind) == (town.names[4], "clock")
    assert fault.size_s == pytest.approx(late_s, abs=0.005)
    assert np.median(errors_m(town, bangs, places)[SHOTS // 2 :]) < 2.0


def told(bang: Bang) -> tuple[int, frozenset[str], tuple[float, ...], float]:
    return (
        bang.time_ns,
        frozenset(one.detection.id for one in bang.heard),
        tuple(bang.location.theta.tolist()),
        bang.log_odds,
    )


@given(portions=st.lists(st.integers(1, 40), min_size=1, max_size=12), every=st.integers(0, 5))
@settings(max_examples=5, deadline=None)
def test_what_is_learnt_depends_on_the_detections_alone_not_on_their_portions(
    town: "Town", portions: list[int], every: int
) -> None:
    detections, _ = spoilt(town, lambda one, _: late_by(town, one, 0.2), 12)
    whole, knows = run(detections)
    associator = Associator()
    bangs: list[Bang] = []
    begin, number = 0, 0
    while begin < len(detections):
        portion = detections[begin : begin + portions[number % len(portions)]]
        for one in portion:
            associator.add(one)
        bangs += associator.settle(portion[-1].time_ns)
        if every and number % every == 0:
            associator.glance([], portion[-1].time_ns)
        begin, number = begin + len(portion), number + 1
    bangs += associator.settle(10**19)
    assert [told(bang) for bang in bangs] == [told(bang) for bang in whole]
    assert list(associator.faults()) == list(knows.faults())
