"""Coincidence: a moment at which everything reports is no bang; a bang that all nodes hear at once is one."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from soundranger_broker.association import Associator
from soundranger_broker.bang import Bang
from soundranger_node.messages import Detection

if TYPE_CHECKING:
    from tests.broker.conftest import Town

END_NS = 1_767_225_600_000_000_000 + 1_000 * 1_000_000_000
SPEED_MPS = 340.3


def found(detections: list[Detection]) -> list[Bang]:
    associator = Associator()
    for one in sorted(detections, key=lambda one: one.time_ns):
        associator.add(one)
    return associator.settle(END_NS)


def ring(town: "Town", radius_m: float = 400.0, count: int = 8, at_s: float = 20.0) -> list[Detection]:
    """Return what nodes on a circle report of a bang at its middle."""
    rng = np.random.default_rng(1)
    reports = []
    for number, turn in enumerate(np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)):
        lat, lon, alt_m = town.geodetic(np.array([radius_m * np.sin(turn), radius_m * np.cos(turn), 3.0]))
        report = town.report(0, at_s + radius_m / SPEED_MPS + rng.normal(0.0, town.sigma_s), 23.0, f"ring-{number}")
        reports.append(msgspec.structs.replace(report, node=f"ring-{number}", lat=lat, lon=lon, alt_m=alt_m))
    return reports


def test_a_bang_amid_a_ring_of_nodes_is_heard_by_all_at_once_and_is_a_bang(town: "Town") -> None:
    (bang,) = found(ring(town))
    assert len(bang.heard) == 8


def test_nodes_that_report_the_moment_by_chance_do_not_take_a_bang_away(town: "Town") -> None:
    two_more = [town.report(node, 20.0 + 400.0 / SPEED_MPS, 10.0) for node in (0, 8)]
    (bang,) = found([*ring(town), *two_more])
    assert len(bang.heard) >= 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("jitter_s", [0.0, 0.0005])
def test_a_moment_at_which_all_nodes_report_is_no_bang(town: "Town", seed: int, jitter_s: float) -> None:
    rng = np.random.default_rng(seed)
    surge = [
        town.report(node, 20.0 + 0.1 * seed + rng.normal(0.0, jitter_s), float(rng.uniform(6.0, 40.0)))
        for node in range(len(town.names))
    ]
    assert found(surge) == []
