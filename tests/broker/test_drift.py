"""A node that drifts away from where it says it stands: it is found, named, moves no bang, and is believed again."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.broker.test_learning import GAP_S, errors_m, moved

from soundranger_broker.association import Associator
from soundranger_broker.bang import Bang
from soundranger_broker.faults import Fault
from soundranger_node.messages import Detection

if TYPE_CHECKING:
    from tests.broker.conftest import Town

NODE = 2
# So much further off at every bang, up to so much; there it stays for a while, and then is right again.
STEP_M, MOST_M = 0.5, 50.0
DRIFTING, STAYING, RIGHT = 100, 20, 20
# Further off than this, its error is more than paths and chance make.
PLAIN_M = 15.0

Place = tuple[float, float]
Hear = Callable[["Town", float, Place, float, np.random.Generator], list[Detection]]


def sliding(town: "Town", off_m: float, place: Place, at_s: float, rng: np.random.Generator) -> list[Detection]:
    """Return what is heard while a node stands `off_m` east of where it was, and says the same as before."""
    there = replace(town)
    there.places_m[NODE] += [off_m, 0.0, 0.0]
    return [moved(there, one, NODE, -off_m, 0.0) for one in there.hear(*place, at_s, rng)]


def wandering(town: "Town", off_m: float, place: Place, at_s: float, rng: np.random.Generator) -> list[Detection]:
    """Return what is heard while a node says that it stands `off_m` east of where it does."""
    return [moved(town, one, NODE, off_m, 0.0) for one in town.hear(*place, at_s, rng)]


@pytest.mark.slow
@pytest.mark.parametrize("hear", [sliding, wandering])
def test_a_place_that_drifts_is_named_while_it_is_wrong_moves_no_bang_and_is_believed_when_it_is_right(
    town: "Town", hear: Hear
) -> None:
    rng, associator = np.random.default_rng(5), Associator()
    offs_m = [*(STEP_M * number for number in range(DRIFTING)), *[MOST_M] * STAYING, *[0.0] * RIGHT]
    places = [town.somewhere(rng) for _ in offs_m]
    bangs, faults = list[Bang](), list[list[Fault]]()
    for number, (off_m, place) in enumerate(zip(offs_m, places, strict=True)):
        for one in hear(town, off_m, place, 5.0 + number * GAP_S, rng):
            associator.add(one)
            bangs += associator.settle(one.time_ns)
        faults.append(list(associator.faults()))
    bangs += associator.settle(10**19)

    assert max(errors_m(town, bangs, places)) < 10.0
    assert {fault.node for found in faults for fault in found} == {town.names[NODE]}
    assert all(found for found, off_m in zip(faults, offs_m, strict=True) if off_m > PLAIN_M)
    (stands,) = faults[DRIFTING + STAYING - 1]
    assert stands.kind == "place"
    assert stands.size_m == pytest.approx(MOST_M, abs=7.0)
    assert not faults[-1]


# A minute that is full of bangs and of chance: heard by a few nodes each, and as much again that nothing made.
CROWD_S, BANG_EVERY_S, HEARD_M, A_MINUTE = 60.0, 0.5, 900.0, 60.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_in_a_crowded_minute_no_node_is_said_to_be_wrong(town: "Town", seed: int) -> None:
    crowded, rng, associator = replace(town, side_m=2000.0, columns=5), np.random.default_rng(seed), Associator()
    heard = crowded.chatter(rng, CROWD_S, A_MINUTE)
    for at_s in np.arange(1.0, CROWD_S, BANG_EVERY_S).tolist():
        heard += crowded.hear(*crowded.somewhere(rng), at_s, rng, HEARD_M)
    said = list[Fault]()
    for one in sorted(heard, key=lambda one: one.time_ns):
        associator.add(one)
        associator.settle(one.time_ns)
        said += associator.faults()

    assert not said
