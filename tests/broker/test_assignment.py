"""Assignment: arrivals go to the bangs they are worth most to, as the best of all ways to deal them out has it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from soundranger_broker.assignment import deal


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 7), st.integers(0, 7)), elements=st.floats(0.0, 50.0)))
def test_no_other_assignment_gains_more_and_none_gets_two(gains: NDArray[np.float64]) -> None:
    dealt = deal(gains, np.array([0, gains.shape[1]]))[:, 0]
    bangs = np.flatnonzero(dealt >= 0)
    assert len(set(dealt[bangs])) == len(bangs)
    best = gains[linear_sum_assignment(gains, maximize=True)].sum()
    np.testing.assert_allclose(gains[bangs, dealt[bangs]].sum(), best, rtol=1e-9, atol=1e-9)


def test_each_node_deals_out_its_own_arrivals() -> None:
    # Two bangs; the first node has two arrivals that both want in the same order, the second has one.
    stakes = np.array([[5.0, 4.0, 3.0], [4.0, 1.0, 2.0]])
    assert deal(stakes, np.array([0, 2, 3])).tolist() == [[1, 2], [0, -1]]


def test_nobody_gets_what_is_worth_nothing_to_it() -> None:
    stakes = np.array([[-1.0, -np.inf], [-2.0, 3.0]])
    assert deal(stakes, np.array([0, 1, 2])).tolist() == [[-1, -1], [-1, 1]]
