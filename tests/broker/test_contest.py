"""The contest: every bang gets its own arrivals, whoever was given them first, and ghosts get none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from soundranger_broker import scoring
from soundranger_broker.contest import Contest, Hypothesis
from soundranger_broker.joint import JointEvidence
from soundranger_broker.levels import MEASURES
from soundranger_broker.location import ANY_LATE, ANY_PATH, Medium
from soundranger_broker.rounds import Again, Rounds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SPEED_MPS = 340.0
SIGMA_S = 0.001
SEARCH_SIGMA_S = 0.008
CLUTTER_HZ = 0.5
START_S = -0.05
MEDIUM = Medium(SPEED_MPS, 1.8, 2.5)
AGAIN = Again((0.1, 3.0), (10.0, 0.3), 15.0)

COLUMNS, SIDE_M = 4, 1500.0
CELLS = np.arange(COLUMNS**2)
NODES: Floats = (
    (np.c_[CELLS % COLUMNS, CELLS // COLUMNS] + np.random.default_rng(1).uniform(0.2, 0.8, (COLUMNS**2, 2)))
    * SIDE_M
    / COLUMNS
)
NOBODY = Rounds(
    np.zeros((0, 2)), np.zeros(0), np.zeros((0, len(NODES)), dtype=bool), np.zeros((0, len(NODES), MEASURES))
)


class Heard:
    """What the nodes heard: the contest, and which arrival each bang made at each node."""

    def __init__(self, times_s: Floats, earlier: Rounds = NOBODY) -> None:
        """Take arrival times (k, n) of k bangs, or of their echoes, at n nodes; NaN where one was not heard."""
        order = np.argsort(times_s, axis=0)
        counts = np.isfinite(times_s).sum(axis=0)
        starts = np.r_[0, np.cumsum(counts)]
        self.rows = np.full(times_s.shape, -1)
        flat = []
        for node in range(times_s.shape[1]):
            own = [int(k) for k in order[:, node] if np.isfinite(times_s[k, node])]
            self.rows[own, node] = starts[node] + np.arange(len(own))
            flat += [times_s[k, node] for k in own]
        owner = np.repeat(np.arange(len(NODES)), counts)
        self.arrivals = scoring.Arrivals(
            np.array(flat),
            np.full(len(owner), SEARCH_SIGMA_S),
            scoring.gain(np.full(len(owner), SEARCH_SIGMA_S), np.full(len(owner), CLUTTER_HZ)),
            np.ones(len(owner), dtype=bool),
            starts,
        )
        evidence = scoring.Evidence(
            places=np.c_[NODES[owner], np.zeros(len(owner))],
            sigmas_s=np.full(len(owner), SIGMA_S),
            log_clutter=np.full(len(owner), np.log(CLUTTER_HZ)),
            snr_db=np.full(len(owner), 20.0),
            medium=MEDIUM.mean,
            precision=MEDIUM.precision,
            log_shares=np.log(ANY_PATH),
            late_shares=np.array(ANY_LATE),
            log_prior=float(np.log(20.0 / 3600.0 / 1e6)),
            low=NODES.min(axis=0),
            high=NODES.max(axis=0),
            fall_m=300.0,
            least_log_odds=2.0,
        )
        scene = scoring.make_scene(NODES, np.zeros(len(NODES), dtype=np.int64), SPEED_MPS, 2000.0, math.inf)
        levels_db = np.full((len(owner), MEASURES), np.nan)
        self.evidence = JointEvidence(scene, self.arrivals, evidence, levels_db, earlier, AGAIN)
        self.contest = Contest(self.evidence, 4, START_S)

    def settle(self, points: Floats, chosen: Ints) -> list[Hypothesis]:
        """Return what stands of drafts, in the order of time."""
        drafts = [(9.0, point, row) for point, row in zip(points, chosen, strict=True)]
        return sorted(self.contest.settle(drafts), key=lambda one: float(one[1][2]))


def arrival_times(points: Floats, rng: np.random.Generator, range_m: float = 1100.0, missed: float = 0.0) -> Floats:
    """Return when bangs at points (k, 3) come to each node, (k, n); NaN where they do not."""
    away_m = np.linalg.norm(points[:, None, :2] - NODES, axis=2)
    times: Floats = points[:, 2:] + away_m / SPEED_MPS + rng.normal(0.0, SIGMA_S, away_m.shape)
    times[(away_m > range_m) | (rng.random(away_m.shape) < missed)] = np.nan
    return times


def series(count: int, period_s: float = 0.1) -> Floats:
    """Return rounds from one place, (k, 3)."""
    return np.array([(700.0, 650.0, 0.2 + number * period_s) for number in range(count)])


def test_a_lone_bang_is_left_as_it_is() -> None:
    rng = np.random.default_rng(0)
    points = np.array([[700.0, 600.0, 0.3]])
    heard = Heard(arrival_times(points, rng))
    draft = (17.0, points[0], heard.rows[0])
    assert heard.contest.settle([draft]) == [draft]


def test_a_bang_that_rests_on_three_arrivals_is_none() -> None:
    rng = np.random.default_rng(0)
    points = np.array([[700.0, 600.0, 0.3]])
    times = arrival_times(points, rng)
    five = np.argsort(times[0])[:5]
    times[0, np.setdiff1d(np.arange(len(NODES)), five)] = np.nan
    draft = (9.0, points[0], Heard(times).rows[0])
    assert len(Heard(times).contest.settle([draft])) == 1
    # Two came a long way round: a place may be put where four agree, but no place agrees with all five.
    times[0, five[1]] += 0.15
    times[0, five[3]] += 0.25
    assert Heard(times).contest.settle([draft]) == []


def test_a_lone_bang_that_is_not_likely_enough_is_none() -> None:
    rng = np.random.default_rng(0)
    points = np.array([[700.0, 600.0, 0.3]])
    heard = Heard(arrival_times(points, rng))
    assert heard.contest.settle([(1.0, points[0], heard.rows[0])]) == []


def test_a_draft_that_its_arrivals_put_before_the_start_takes_no_part() -> None:
    rng = np.random.default_rng(0)
    # The draft of the first of two rounds has it after the start, its arrivals before.
    points = np.array([[700.0, 600.0, START_S - 0.01], [700.0, 600.0, START_S + 0.25]])
    heard = Heard(arrival_times(points, rng))
    settled = heard.settle(points + np.array([0.0, 0.0, 0.02]), heard.rows)
    assert [row.tolist() for _, _, row in settled] == [heard.rows[1].tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_two_bangs_at_once_get_their_own_arrivals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.array([[500.0, 600.0, 0.20], [850.0, 800.0, 0.25]])
    heard = Heard(arrival_times(points, rng))
    draft = heard.rows.copy()
    # The first took what it could from the second: every node where both came within a tenth of a second.
    near = np.abs(np.diff(arrival_times(points, rng), axis=0)[0]) < 0.1
    draft[:, near] = draft[::-1, near]
    draft[1, near] = -1
    settled = heard.settle(points, draft)
    assert [row.tolist() for _, _, row in settled] == heard.rows.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_rounds_taken_for_the_next_are_put_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = series(3)
    heard = Heard(arrival_times(points, rng))
    # South of the gun every node has the next round in the place of each, as a gun 17 m further north would make it.
    south = NODES[:, 1] < points[0, 1]
    draft = heard.rows.copy()
    draft[:-1, south] = heard.rows[1:, south]
    draft[-1, south] = -1
    settled = heard.settle(points + np.array([0.0, 17.0, 0.05]), draft)
    assert [row.tolist() for _, _, row in settled] == heard.rows.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_rounds_come_to_every_node_in_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = series(5, 0.07)
    heard = Heard(arrival_times(points, rng, missed=0.15))
    shuffled = heard.rows.copy()
    for node in range(len(NODES)):
        shuffled[:, node] = rng.permutation(shuffled[:, node])
    settled = heard.settle(points, shuffled)
    assert len(settled) == len(points)
    for node in range(len(NODES)):
        own = [row[node] for _, _, row in settled if row[node] >= 0]
        assert own == sorted(own)


@pytest.mark.parametrize("seed", range(5))
def test_a_ghost_made_of_the_echoes_of_a_series_is_dropped(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = series(4, 0.2)
    # Six walls that happen to send every round back as a gun 10 m away would be heard.
    echoes = arrival_times(points + np.array([10.0, 0.0, 0.12]), rng)
    echoes[:, rng.permutation(len(NODES))[6:]] = np.nan
    heard = Heard(np.concatenate([arrival_times(points, rng), echoes]))
    settled = heard.settle(np.concatenate([points, points + np.array([10.0, 0.0, 0.12])]), heard.rows)
    assert [row.tolist() for _, _, row in settled] == heard.rows[:4].tolist()


def test_a_weak_round_stands_after_others_and_not_alone() -> None:
    rng = np.random.default_rng(3)
    points = series(4, 0.15)
    times = arrival_times(points, rng, range_m=900.0)
    # A truck beside the gun: the last round is heard by ten of sixteen.
    times[3, np.argsort(np.linalg.norm(NODES - points[3, :2], axis=1))[10:]] = np.nan
    together = Heard(times)
    assert len(together.settle(points, together.rows)) == 4
    alone = Heard(times[3:])
    (after_odds,) = [odds for odds, point, _ in together.settle(points, together.rows) if point[2] > 0.6]
    alone_claim = alone.evidence.claim(points[3], alone.rows[0])
    assert after_odds > alone.evidence.odds([alone_claim], alone_claim) + 5.0


def test_a_round_after_a_settled_one_is_likelier() -> None:
    rng = np.random.default_rng(4)
    points = series(1)
    times = arrival_times(points, rng)
    levels_db = np.full((1, len(NODES), MEASURES), np.nan)
    before = Rounds(points[:, :2] + 3.0, points[:, 2] - 0.3, np.isfinite(times), levels_db)
    fresh, after = Heard(times), Heard(times, before)
    fresh_odds, after_odds = (
        one.evidence.odds([draft := one.evidence.claim(points[0], one.rows[0])], draft) for one in (fresh, after)
    )
    assert after_odds > fresh_odds + 5.0


@given(seed=st.integers(0, 10_000), rounds=st.integers(1, 4), drafted=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_whatever_the_drafts_the_evidence_does_not_fall_and_no_arrival_is_owned_twice(
    seed: int, rounds: int, drafted: int
) -> None:
    rng = np.random.default_rng(seed)
    places = np.c_[rng.uniform(0.0, SIDE_M, (rounds, 2)), rng.uniform(0.0, 1.0, rounds)]
    heard = Heard(arrival_times(np.concatenate([places, places + np.array([0.0, 0.0, 0.15])]), rng, missed=0.2))
    # Drafts that share no arrival, and nothing else can be said for.
    drafts = np.full((drafted, len(NODES)), -1)
    for node in range(len(NODES)):
        low, high = heard.arrivals.starts[node : node + 2]
        dealt = rng.permutation(np.r_[np.arange(low, high), np.full(drafted, -1)])[:drafted]
        drafts[:, node] = dealt
    drafts = drafts[(drafts >= 0).sum(axis=1) >= 4]
    points = np.c_[rng.uniform(0.0, SIDE_M, (len(drafts), 2)), rng.uniform(0.0, 1.0, len(drafts))]
    contest, evidence = heard.contest, heard.evidence
    before = [evidence.claim(point, row) for point, row in zip(points, drafts, strict=True)]
    after = contest.improve(before)
    assert evidence.of(after) >= evidence.of(before)
    owned = [int(i) for one in after for i in one.chosen if i >= 0]
    assert len(owned) == len(set(owned))
    assert all((one.chosen >= 0).sum() >= 4 for one in after)
    assert all(evidence.odds(after, one) > 1.99 for one in after)
    assert contest.improve(after) == after
