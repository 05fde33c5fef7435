"""Assignment: which bang gets which arrival where several want the same, by what it is worth to each; compiled."""

import numpy as np
from numba import njit

from soundranger_broker.geodesy import Floats
from soundranger_broker.scoring import Ints


@njit(cache=True)
def deal(stakes: Floats, starts: Ints) -> Ints:
    """Return the arrivals (k, n; -1: none) that bangs get, by what each arrival is worth to each bang (k, m).

    The arrivals of node n are `starts[n]` to `starts[n + 1]`; those of each node go where they are worth most in all,
    and none to a bang that it is worth nothing to.
    """
    dealt = np.full((len(stakes), len(starts) - 1), -1)
    for n in range(dealt.shape[1]):
        wanting = np.flatnonzero((stakes[:, starts[n] : starts[n + 1]] > 0.0).sum(axis=1))
        gains = np.maximum(stakes[wanting, starts[n] : starts[n + 1]], 0.0)
        owners = assign(gains)
        for i in range(len(owners)):
            if owners[i] >= 0 and gains[owners[i], i] > 0.0:
                dealt[wanting[owners[i]], n] = starts[n] + i
    return dealt


@njit(cache=True)
def assign(gains: Floats) -> Ints:
    """Return the row of each column (c,; -1: none) such that the sum of gains (r, c), none below 0, is the largest.

    No row has two columns. Each finds its own by the shortest augmenting path (Jonker, Volgenant 1987); there are
    columns more that are worth nothing, so that there is one for every row, and a last one from which paths start.
    """
    rows, columns = gains.shape
    start = columns + rows
    costs = np.zeros((rows, start))
    costs[:, :columns] = -gains
    owners, row_prices, prices = np.full(start + 1, -1), np.zeros(rows), np.zeros(start + 1)
    for row in range(rows):
        owners[start] = row
        column, before = _path(costs, owners, row_prices, prices)
        while column != start:
            owners[column] = owners[before[column]]
            column = before[column]
    return owners[:columns]


@njit(cache=True)
def _path(costs: Floats, owners: Ints, row_prices: Floats, prices: Floats) -> tuple[int, Ints]:
    """Return the free column (of c) that is cheapest to reach from the last one, and the column before each (c,).

    The prices of rows (r,) and columns (c + 1,), which leave no cost (r, c) below 0, are brought up to date.
    """
    start = len(owners) - 1
    before, slack = np.empty(start, dtype=np.int64), np.full(start, np.inf)
    done, column = np.zeros(start + 1, dtype=np.bool_), start
    while owners[column] >= 0:
        done[column] = True
        here, owner, least = column, owners[column], np.inf
        for other in range(start):
            if not done[other]:
                reduced = costs[owner, other] - row_prices[owner] - prices[other]
                if reduced < slack[other]:
                    slack[other], before[other] = reduced, here
                if slack[other] < least:
                    column, least = other, slack[other]
        for other in range(start + 1):
            if done[other]:
                row_prices[owners[other]] += least
                prices[other] -= least
        slack -= least
    return column, before
