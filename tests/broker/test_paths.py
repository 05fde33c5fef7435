"""What bangs from one place say of each other: repeats land together, each as uncertain as the place is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.broker.conftest import Town

from soundranger_broker.acoustics import travel_time_s
from soundranger_broker.association import Associator
from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import CHI2_95_2D, Medium
from soundranger_broker.pathmemory import MOST_SPOTS, PathMemory
from soundranger_broker.paths import (
    ALIKE_M,
    Arrivals,
    Fit,
    Paths,
    expected,
    learnt,
    locate_along,
    travel_slopes,
    unknown,
)
from soundranger_broker.solver import FLOOR_HZ

MEDIUM = Medium(335.0, 1.8, 2.5)
PATH_SIGMA_S, REPEAT_SIGMA_S = 0.008, 0.001
ANYWHERE = (48.0, 11.0, 0.0)
SAME = np.zeros((8, 2))
WALK = np.outer(np.arange(8), [10.0, 0.0])


@dataclass
class World:
    """Fourteen nodes, an air, and delays that change along the way of a shooter, fully after some tens of metres."""

    seed: int
    places: Floats
    nodes: Floats = field(init=False)
    air: Floats = field(init=False)
    delays: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        angles, ranges = self.rng.uniform(0, 2 * np.pi, 14), self.rng.uniform(60, 800, 14)
        self.nodes = np.c_[ranges * np.cos(angles), ranges * np.sin(angles), self.rng.uniform(0, 10, 14)]
        self.air = MEDIUM.mean + self.rng.normal(0, 1, 3) * [1.8, 2.5, 2.5]
        apart = np.linalg.norm(self.places[:, None] - self.places, axis=2)
        alike = np.exp(-0.5 * (apart / ALIKE_M) ** 2) + 1e-9 * np.eye(len(apart))
        self.delays = PATH_SIGMA_S * np.linalg.cholesky(alike) @ self.rng.normal(0, 1, (len(apart), 14))

    def shots(self) -> list[tuple[tuple[str, ...], Arrivals]]:
        """Return, for every place, the names of the nodes that heard the shot, three in four of all, and when."""
        shots = []
        for place, delays in zip(self.places, self.delays, strict=True):
            heard = np.sort(self.rng.permutation(14)[:10])
            times = travel_time_s(self.nodes - [*place, 5.0], *self.air) + delays
            times += self.rng.normal(0, REPEAT_SIGMA_S, 14)
            names = tuple(f"node-{i}" for i in heard)
            shots.append(
                (names, Arrivals(self.nodes[heard], times[heard], np.full(10, REPEAT_SIGMA_S), np.full(10, FLOOR_HZ)))
            )
        return shots


def locate_all(shots: Sequence[tuple[tuple[str, ...], Arrivals]], *, remember: bool = True) -> list[Fit]:
    """Return where shots are, the first of them at about the origin, each in view of those before it if wanted."""
    nothing = unknown(ANYWHERE, MEDIUM, PATH_SIGMA_S)
    anchor, known, last, fits = np.array([2.0, -2.0, 5.0]), nothing, None, []
    for names, arrivals in shots:
        known, fit = _locate(known if remember else nothing, names, arrivals, anchor, 0.0)
        moved_m = 0.0 if last is None else float(np.linalg.norm(fit.theta[:2] - last))
        if moved_m > 1.0:
            known, fit = _locate(known if remember else nothing, names, arrivals, anchor, moved_m)
        fits.append(fit)
        known, last = learnt(known, names, fit), fit.theta[:2]
    return fits


def _locate(
    known: Paths, names: tuple[str, ...], arrivals: Arrivals, anchor: Floats, moved_m: float
) -> tuple[Paths, Fit]:
    before = expected(known, names, MEDIUM, 30.0, moved_m)
    return before, locate_along(before.to(names), anchor, arrivals, np.zeros(3), np.ones(len(names)))


def errors(world: World, fits: Sequence[Fit]) -> Floats:
    return np.array([fit.theta[:2] for fit in fits]) - world.places


@given(
    st.tuples(st.floats(-900, 900), st.floats(5, 900), st.floats(-30, 30)),
    st.tuples(st.floats(310, 360), st.floats(-10, 10), st.floats(-10, 10)),
)
def test_the_slopes_are_those_of_the_travel_time(
    offset: tuple[float, float, float], air: tuple[float, float, float]
) -> None:
    where, how = np.array(offset), np.array(air)
    slopes = travel_slopes(where[None, :], how)[0]
    for unknown_number in range(5):
        step = 0.01 * np.eye(5)[unknown_number]
        shift = np.array([step[0], step[1], 0.0])
        ahead, behind = travel_time_s(where - shift, *(how + step[2:])), travel_time_s(where + shift, *(how - step[2:]))
        assert slopes[unknown_number] == pytest.approx((ahead - behind) / 0.02, rel=1e-3, abs=1e-6)


def test_where_there_are_no_delays_and_no_errors_a_bang_is_where_it_was() -> None:
    world = World(1, np.array([[3.0, -4.0]]))
    world.delays[:] = 0.0
    names, arrivals = world.shots()[0]
    times = travel_time_s(arrivals.nodes - [3.0, -4.0, 5.0], *MEDIUM.mean)
    paths = expected(unknown(ANYWHERE, MEDIUM, 0.0), names, MEDIUM, 0.0, 0.0)
    fit = locate_along(paths, np.array([0.0, 0, 5]), arrivals._replace(times_s=times), np.zeros(3), np.ones(10))
    np.testing.assert_allclose(fit.theta[:2], [3.0, -4.0], atol=1e-3)
    assert fit.weights.min() > 0.9


def test_repeated_bangs_land_together_whichever_nodes_hear_them() -> None:
    def spread_m(*, remember: bool) -> float:
        worlds = (World(seed, SAME) for seed in range(20))
        found = [errors(world, locate_all(world.shots(), remember=remember)) for world in worlds]
        return float(np.median([np.linalg.det(np.cov(one.T)) ** 0.25 for one in found]))

    assert spread_m(remember=True) < 0.5 * spread_m(remember=False)


@pytest.mark.slow
@pytest.mark.parametrize("places", [SAME, WALK], ids=["one place", "walking"])
def test_each_repeated_bang_keeps_the_uncertainty_of_the_place(places: Floats) -> None:
    squares = []
    for seed in range(150):
        world = World(seed, places)
        fits = locate_all(world.shots())
        squares.append(
            [
                miss @ np.linalg.solve(fit.covariance[:2, :2], miss)
                for miss, fit in zip(errors(world, fits), fits, strict=True)
            ]
        )
    # The bangs of a world share its error, so there are 150 samples: 0.018 is one standard deviation.
    assert np.mean(np.array(squares)[:, -1] < CHI2_95_2D) > 0.91
    assert np.mean(np.array(squares) < CHI2_95_2D) > 0.92


def test_the_steps_of_a_walking_shooter_are_seen_better_and_not_shortened() -> None:
    steps: dict[bool, list[Floats]] = {True: [], False: []}
    for seed in range(40):
        world = World(seed, WALK)
        shots = world.shots()
        for remember, found in steps.items():
            places = np.array([fit.theta[:2] for fit in locate_all(shots, remember=remember)])
            found.append(np.diff(places, axis=0) - [10.0, 0.0])
    with_memory, without = (np.concatenate(steps[remember]) for remember in (True, False))
    assert np.median(np.linalg.norm(with_memory, axis=1)) < 0.8 * np.median(np.linalg.norm(without, axis=1))
    assert abs(with_memory[:, 0].mean()) < 0.3


def test_one_late_arrival_spoils_neither_its_bang_nor_the_next() -> None:
    for seed in range(20):
        world = World(seed, SAME)
        shots = world.shots()
        names, arrivals = shots[4]
        late = arrivals._replace(times_s=arrivals.times_s + 0.015 * (np.arange(10) == 3))
        spoilt = locate_all([*shots[:4], (names, late), *shots[5:]])
        moved = errors(world, spoilt) - errors(world, locate_all(shots))
        assert np.linalg.norm(moved, axis=1).max() < 1.0
        assert spoilt[4].weights[3] < 0.3


def test_what_was_learnt_is_forgotten_far_off_and_much_later() -> None:
    names, arrivals = World(1, SAME).shots()[0]
    before, fit = _locate(unknown(ANYWHERE, MEDIUM, PATH_SIGMA_S), names, arrivals, np.array([0.0, 0, 5]), 0.0)
    after = expected(learnt(before, names, fit), names, MEDIUM, 1e6, 1e4)
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-12)
    np.testing.assert_allclose(after.covariance, before.covariance, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 100), st.floats(0, 0.5)), min_size=1, max_size=8),
)
def test_whatever_comes_the_covariances_are_covariances(seed: int, bangs: list[tuple[float, float, float]]) -> None:
    world = World(seed, np.zeros((len(bangs), 2)))
    known, before = unknown(ANYWHERE, MEDIUM, PATH_SIGMA_S), np.inf
    for (later_s, moved_m, mess_s), (names, arrivals) in zip(bangs, world.shots(), strict=True):
        messy = arrivals._replace(times_s=arrivals.times_s + world.rng.normal(0, mess_s, 10))
        paths = expected(known, names, MEDIUM, later_s, moved_m)
        fit = locate_along(paths.to(names), np.array([0.0, 0, 5]), messy, np.zeros(3), np.ones(10))
        known = learnt(paths, names, fit)
        scale = np.sqrt(np.diag(known.covariance))
        before = np.linalg.eigvalsh(known.covariance / np.outer(scale, scale)).min()
        assert before > -1e-9
        assert np.isfinite(fit.theta).all()
        assert np.linalg.eigvalsh(fit.covariance[:2, :2]).min() > 0.0


@pytest.fixture(scope="module")
def dense_town() -> Town:
    """Sixteen nodes within 1,200 m: enough to tell one place's delays from another's."""
    return Town(columns=4)


def settle(town: Town, shots: Sequence[tuple[tuple[float, float], Floats]]) -> list[Bang]:
    """Return the bangs of shots (place in m, delays in s) half a minute apart, each with two nodes deaf to it."""
    rng = np.random.default_rng(7)
    associator = Associator()
    for node, name in enumerate(town.names):
        associator.know(name, *town.geodetic(town.places_m[node]))
    for number, (place, delays) in enumerate(shots):
        deaf = {town.names[node] for node in rng.permutation(len(town.names))[:2]}
        for one in town.hear(*place, 30.0 * (number + 1), rng, late_s=delays):
            if one.node not in deaf:
                associator.add(one)
    return associator.settle(2**62)


def test_an_event_keeps_what_was_known_of_its_paths(dense_town: Town) -> None:
    delays = np.random.default_rng(3).normal(0, PATH_SIGMA_S, 16)
    bangs = settle(dense_town, [((40.0, 30.0), delays)] * 6)
    assert len(bangs) == 6
    assert bangs[0].given.paths is None
    for bang in bangs[1:]:
        assert bang.given.paths is not None
        assert bang.given.paths.nodes == tuple(one.detection.node for one in bang.heard)


@pytest.mark.slow
def test_the_ellipses_hold_bangs_that_share_no_paths_with_their_neighbours(dense_town: Town) -> None:
    held = []
    for seed in range(4):
        delays = np.random.default_rng(seed).normal(0, PATH_SIGMA_S, (8, 16))
        places = [(40.0 + 3.0 * number, 30.0) for number in range(8)]
        for bang, place in zip(settle(dense_town, list(zip(places, delays, strict=True))), places, strict=True):
            theta = bang.location.theta
            at = bang.frame.to_geodetic(float(theta[0]), float(theta[1]), bang.source_up_m)
            miss = np.array(dense_town.offset_m(*at[:2])) - place
            held.append(miss @ np.linalg.solve(bang.location.covariance[:2, :2], miss) < CHI2_95_2D)
    assert np.mean(held) > 0.9


def test_no_more_places_are_remembered_than_stated(dense_town: Town) -> None:
    bang = settle(dense_town, [((40.0, 30.0), np.zeros(16))])[0]
    memory = PathMemory()
    for number in range(MOST_SPOTS + 1):
        memory.observe(shifted(bang, 0.01 * number))
    assert memory.sharpen(shifted(bang, 0.0)).given.paths is None
    assert memory.sharpen(shifted(bang, 0.01)).given.paths is not None


def shifted(bang: Bang, north: float) -> Bang:
    """Return a bang with all its nodes so many degrees further north."""
    heard = tuple(
        replace(one, detection=msgspec.structs.replace(one.detection, lat=one.detection.lat + north))
        for one in bang.heard
    )
    return replace(bang, heard=heard, frame=replace(bang.frame, lat=bang.frame.lat + north))
