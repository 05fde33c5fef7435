"""Which clocks are off, as settled bangs tell it."""

import numpy as np
import pytest

from soundranger_broker.offsets import BELIEVED, GRID_S, NONE, OFF_SHARE, PRIOR, Clock, OffsetMemory, _ratios

NOW_NS = 1_767_225_600_000_000_000
MINUTE_NS = 60_000_000_000
QUIET_HZ = 1.0 / 60.0


def told(differences_s: list[float], clutter_hz: float = QUIET_HZ) -> OffsetMemory:
    """Return what is known of node "a" after arrivals that are late by this, one a minute."""
    memory = OffsetMemory()
    for number, difference_s in enumerate(differences_s):
        memory._update("a", _ratios([difference_s], [0.004], [clutter_hz]), NOW_NS + number * MINUTE_NS)
    return memory


@pytest.mark.parametrize("off_s", [-0.5, -0.05, 0.03, 0.3])
def test_a_clock_that_is_off_is_found_with_its_size(off_s: float) -> None:
    rng = np.random.default_rng(1)
    (fault,) = told(list(off_s + rng.normal(0.0, 0.002, 6))).faults()
    assert (fault.node, fault.kind) == ("a", "clock")
    # One arrival that is a little late may as well have come around a corner: the next one tells.
    assert fault.since_ns - NOW_NS <= MINUTE_NS
    assert fault.size_s == pytest.approx(off_s, abs=0.004)


def test_chance_is_no_fault() -> None:
    rng = np.random.default_rng(2)
    assert not told(list(rng.uniform(-1.0, 1.0, 30)), 0.5).faults()


def test_a_clock_that_is_right_is_no_fault() -> None:
    rng = np.random.default_rng(3)
    assert not told(list(rng.normal(0.0, 0.004, 50))).faults()


def test_a_clock_that_is_right_again_is_believed_within_a_few_bangs() -> None:
    assert told([0.2] * 20).faults()
    assert not told([0.2] * 20 + [0.0] * 6).faults()


def test_a_clock_that_is_off_is_never_known_as_well_as_one_that_is_right() -> None:
    (offset,) = told([0.3] * 50).known(NOW_NS).values()
    assert offset.sigma_s > 0.01


def test_what_is_known_fades() -> None:
    clock = Clock(np.eye(1, len(GRID_S), 10)[0], NOW_NS)
    assert clock.offset(NOW_NS) is not None
    assert clock.offset(NOW_NS + 10_000 * MINUTE_NS) is None
    assert PRIOR.sum() == pytest.approx(1.0)
    assert PRIOR[NONE] == 1.0 - OFF_SHARE > BELIEVED
