"""The line below late points, and the curve, jumps and teeth that a sound card's times make of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from soundranger_node.timekeeping.bus import FULL_SPEED_FRAME_S as FRAME_S
from soundranger_node.timekeeping.envelope import (
    HULL_POINTS,
    MAX_SLOPE,
    MIN_POINTS,
    Floats,
    lower_envelope,
    support_line,
)
from soundranger_node.timekeeping.lateness import Fit, Prior, envelope_jumps, fit

BLOCK_S = 0.02
NO_FRAME = Prior(hidden_s=0.0, frame_s=0.0)


def window(seconds: float) -> Floats:
    return np.arange(round(seconds / BLOCK_S), dtype=np.float64) * BLOCK_S


@given(arrays(np.float64, st.integers(1, 2 * HULL_POINTS), elements=st.floats(-1e-2, 1e-2)))
def test_the_support_line_is_below_every_point_and_touches_one(y: NDArray[np.float64]) -> None:
    x = np.arange(len(y), dtype=float)
    offset, slope = support_line(x, y)
    above = y - offset - slope * x
    assert above.min() == pytest.approx(0.0, abs=1e-12)
    assert abs(slope) <= MAX_SLOPE


@given(st.floats(-4e-4, 4e-4), st.floats(-1, 1), st.integers(2, 200))
def test_the_support_line_of_a_line_is_the_line(slope: float, offset: float, count: int) -> None:
    x = np.arange(count, dtype=float)
    assert support_line(x, offset + slope * x) == pytest.approx((offset, slope), abs=1e-9)


@given(arrays(np.float64, st.integers(MIN_POINTS, 120), elements=st.floats(0, 1e-2)))
def test_the_envelope_of_any_points_is_finite_and_has_a_sigma(y: NDArray[np.float64]) -> None:
    x = window(len(y) * BLOCK_S)
    line = lower_envelope(x, y, 0.0, 1e-4)
    assert np.isfinite([line.left, line.right, line.slope]).all()
    assert line.variance_at(x[-1]) >= 0
    assert line.slope_sigma >= 0


@pytest.mark.parametrize("law", ["exponential", "uniform", "sum"])
def test_the_envelope_is_unbiased_and_its_sigma_is_true_whatever_the_law_of_lateness(law: str) -> None:
    pulls, errors, sigmas = [], [], []
    x = window(20)
    for seed in range(120):
        random = np.random.default_rng(seed)
        exponential, uniform = random.exponential(1e-4, len(x)), random.uniform(0, 1e-3, len(x))
        late = {"exponential": exponential, "uniform": uniform, "sum": exponential + uniform}[law]
        line = lower_envelope(x, 3e-5 * x + late, 0.0, 1e-4)
        errors.append(line.at(x[-1]) - 3e-5 * x[-1])
        sigmas.append(np.sqrt(line.variance_at(x[-1])))
        pulls.append(errors[-1] / sigmas[-1])
    assert abs(np.mean(errors)) < np.mean(sigmas)
    assert 0.6 < np.std(pulls) < 1.25


def test_the_posterior_is_narrower_where_more_points_come() -> None:
    random = np.random.default_rng(1)
    sigmas = []
    for seconds in (2, 10, 50):
        x = window(seconds)
        sigmas.append(np.sqrt(lower_envelope(x, random.exponential(1e-4, len(x)), 0.0, 1e-4).variance_at(x[-1])))
    # The least of n exponential delays is on average the n-th part of one.
    assert sigmas[0] / sigmas[2] == pytest.approx(25, rel=0.6)
    assert sigmas[0] > sigmas[1] > sigmas[2]


def fitted(x: Floats, y: Floats, prior: Prior) -> Fit:
    return fit(x, y, float(x[-1]), prior)


def test_a_rate_that_changes_is_followed() -> None:
    x = window(60)
    wander = 0.5 * 3e-8 * (x - 30) ** 2
    y = wander + np.random.default_rng(1).exponential(3e-5, len(x))
    excess_s, sigma_s = fitted(x, y, NO_FRAME).at(60.0)
    assert excess_s == pytest.approx(0.5 * 3e-8 * 30**2, abs=3 * sigma_s)
    assert sigma_s < 1e-6


@pytest.mark.parametrize("rate", [30e-6, -30e-6])
def test_jumps_of_a_saw_tooth_are_found_with_their_size(rate: float) -> None:
    x = window(90)
    y = rate * x + (0.4e-3 - rate * x) % FRAME_S + np.random.default_rng(1).exponential(2e-5, len(x))
    jumps = envelope_jumps(x, y)
    expected = [(0.4e-3 + FRAME_S * number) / rate for number in range(3)] if rate > 0 else [20, 53.3, 86.7]
    near = [at for at in expected if 4 < at < 86]
    assert [jump.x for jump in jumps if 4 < jump.x < 86] == pytest.approx(near, abs=2.5)
    assert [abs(jump.height_s) for jump in jumps] == pytest.approx([FRAME_S] * len(jumps), rel=0.2)
    assert all(jump.height_s * rate > 0 for jump in jumps)


def test_lateness_without_teeth_has_no_jumps() -> None:
    x = window(120)
    found = [
        envelope_jumps(x, np.random.default_rng(seed).uniform(0, FRAME_S, len(x)) + 5e-5 * x) for seed in range(20)
    ]
    assert found == [[]] * 20


def test_in_the_first_seconds_a_frame_of_lateness_may_hide() -> None:
    x = window(3)
    young, old = (fit(x, np.full_like(x, 1e-6), 3.0, prior) for prior in (Prior(), NO_FRAME))
    assert young.at(3.0)[1] > 0.5 * FRAME_S
    assert old.at(3.0)[1] < 0.1 * FRAME_S


def test_between_two_bottoms_of_a_saw_tooth_the_sigma_holds_the_tooth() -> None:
    x = window(60)
    errors, sigmas = [], []
    for phase in np.arange(0.05, 1, 0.1):
        y = 20e-6 * x + (phase * FRAME_S - 20e-6 * x) % FRAME_S
        excess_s, sigma_s = fitted(x, y + np.random.default_rng(1).exponential(2e-5, len(x)), Prior()).at(60.0)
        errors.append(excess_s - 20e-6 * 60)
        sigmas.append(sigma_s)
    assert np.std(np.array(errors) / sigmas) < 1.3
