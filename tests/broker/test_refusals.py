"""Refusals: what nodes heard and no bang explains is told once, with the reason, and not too often."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.broker.test_events import a_bang

from soundranger_broker import words
from soundranger_broker.association import SLOWEST_SOUND_MPS
from soundranger_broker.bang import Heard
from soundranger_broker.refusals import (
    CHATTER_A_MINUTE,
    LEAST_NODES,
    LOUD_SNR_DB,
    MOST_A_MINUTE,
    SLACK_S,
    STORM,
    RefusalBook,
    groups,
)
from soundranger_broker.window import Refused
from soundranger_node.messages import REFUSAL, Detection, Refusal

if TYPE_CHECKING:
    from tests.broker.conftest import Town

EPOCH_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000


def after(seconds: float) -> int:
    return EPOCH_NS + round(seconds * SECOND_NS)


def refused(detections: list[Detection], book: RefusalBook | None = None, until_s: float = 1_000.0) -> list[Refusal]:
    book = book or RefusalBook()
    book.add(sorted(detections, key=lambda one: one.time_ns))
    return book.refuse(after(until_s))


def loud(town: "Town", at_s: float = 10.0, nodes: int = 9) -> list[Detection]:
    """Return what the first nodes to hear a bang report of it, loud."""
    heard = town.hear(50.0, 20.0, at_s, range_m=5_000.0)[:nodes]
    return [msgspec.structs.replace(one, snr_db=30.0) for one in heard]


def late(detection: Detection, seconds: float) -> Detection:
    return msgspec.structs.replace(detection, time_ns=detection.time_ns + round(seconds * SECOND_NS))


def test_three_nodes_are_too_few(town: "Town") -> None:
    heard = loud(town, nodes=3)
    (refusal,) = refused(heard)
    names = [one.node for one in heard]
    assert refusal.reason == (
        f"Three nodes ({names[0]}, {names[1]} and {names[2]}) heard something at 00:00:10 UTC, four are needed."
    )
    assert (refusal.nodes, refusal.detections) == (names, [one.id for one in heard])
    assert REFUSAL.decode(REFUSAL.encode(refusal)) == refusal


def test_two_nodes_and_faint_sounds_are_not_worth_a_word(town: "Town") -> None:
    assert refused(loud(town, nodes=2)) == []
    faint = [msgspec.structs.replace(one, snr_db=LOUD_SNR_DB - 0.1) for one in loud(town)]
    assert refused(faint) == []


def test_nodes_that_agree_are_said_to_and_that_chance_does_so_too(town: "Town") -> None:
    (refusal,) = refused(loud(town, nodes=4))
    assert "agree on a place within 1 ms, but chance does so, too" in refusal.reason
    assert np.hypot(*np.subtract(town.offset_m(refusal.lat, refusal.lon), (50.0, 20.0))) < 10.0


def weighed(heard: list[Detection], log_odds: float) -> Refused:
    first = heard[0]
    return Refused(first.time_ns, first.lat, first.lon, tuple(Heard(one, 1e-3, 0.01) for one in heard), log_odds)


def test_where_the_search_has_weighed_it_the_probability_is_told_with_the_one_that_is_needed(town: "Town") -> None:
    heard, book = loud(town, nodes=4), RefusalBook()
    book.weigh([weighed(heard, -1.1)])
    (refusal,) = refused(heard, book)
    assert refusal.reason.endswith(
        "agree on a place within 1 ms, but chance does so, too, in this noise: "
        "it is a bang with a probability of 25%, and 88% are needed."
    )


def test_those_of_a_group_that_the_search_found_to_agree_are_named(town: "Town") -> None:
    heard, book = loud(town, nodes=7), RefusalBook()
    heard = sorted([*heard[:4], *(late(one, 0.2) for one in heard[4:])], key=lambda one: one.time_ns)
    agree = [one for one in heard if one.id in {one.id for one in loud(town, nodes=4)}]
    book.weigh([weighed(agree, -1.1), weighed(agree, -3.0)])
    (refusal, *_) = refused(heard, book)
    assert f"; {words.names([one.node for one in agree])} agree on a place within 1 ms, but chance" in refusal.reason
    assert "25%" in refusal.reason
    assert np.hypot(*np.subtract(town.offset_m(refusal.lat, refusal.lon), (50.0, 20.0))) < 10.0


def test_a_hypothesis_of_other_arrivals_says_nothing_of_a_group(town: "Town") -> None:
    heard, book = loud(town, nodes=4), RefusalBook()
    book.weigh([weighed([*heard[:3], *loud(town, 20.0, nodes=4)[3:]], -1.1)])
    (refusal,) = refused(heard, book)
    assert refusal.reason.endswith("chance does so, too, in this noise.")


def test_the_one_node_without_which_the_others_agree_is_named_with_its_error(town: "Town") -> None:
    heard = loud(town, nodes=6)
    heard[4] = late(heard[4], 0.31)
    (refusal,) = refused(heard)
    assert f"only without {heard[4].node} do they agree on a place: its clock is off by 310 ms" in refusal.reason


def test_nodes_that_do_not_agree_are_said_to_be_off(town: "Town") -> None:
    heard = loud(town, nodes=6)
    heard = [late(one, 0.15 * (-1) ** number * (1 + number)) for number, one in enumerate(heard)]
    (refusal, *_) = refused(heard)
    assert "but not from one place: their times are off by up to" in refusal.reason


def test_what_a_bang_claims_and_its_echoes_are_explained(town: "Town") -> None:
    bang = a_bang(town, 10.0, nodes=tuple(range(9)))
    book = RefusalBook()
    book.claim([bang])
    direct = [one.detection for one in bang.heard]
    echoes = [msgspec.structs.replace(late(one, 0.4), id=f"{one.id}-e", snr_db=one.snr_db - 3.0) for one in direct]
    assert refused([*direct, *echoes], book) == []


def test_nothing_is_refused_before_it_is_decided(town: "Town") -> None:
    book = RefusalBook()
    book.add(loud(town, 10.0))
    assert book.refuse(after(16.0)) == []
    assert len(book.refuse(after(18.0))) == 1
    assert book.refuse(after(30.0)) == []


def test_of_many_refusals_few_are_told_and_the_others_counted(town: "Town") -> None:
    book, told = RefusalBook(), []
    for number in range(20):
        told += refused(loud(town, 10.0 + 2.5 * number, nodes=3), book, until_s=30.0 + 2.5 * number)
    assert len(told) == MOST_A_MINUTE
    told += refused(loud(town, 100.0, nodes=3), book)
    assert told[-1].left_out == 20 - MOST_A_MINUTE
    assert book.refused == 21


def test_a_storm_is_no_group(town: "Town") -> None:
    storm = [late(one, 0.05 * number) for number in range(STORM) for one in loud(town, nodes=5)]
    assert refused(storm) == []


def test_a_node_in_the_rain_joins_no_group(town: "Town") -> None:
    book = RefusalBook()
    for second in range(2 * CHATTER_A_MINUTE):
        assert refused([town.report(0, float(second), 30.0)], book, until_s=float(second) - 1.0) == []
    three = [town.report(node, 2.0 * CHATTER_A_MINUTE, 30.0, f"three-{node}") for node in (0, 1, 3)]
    assert refused(three, book) == []


@settings(max_examples=40)
@given(
    reports=st.lists(st.tuples(st.integers(0, 8), st.floats(0.0, 60.0)), max_size=40),
    looks=st.lists(st.floats(0.0, 80.0), max_size=6),
)
def test_in_whatever_portions_they_come_no_sound_is_told_twice_and_no_node_speaks_twice_in_a_group(
    town: "Town", reports: list[tuple[int, float]], looks: list[float]
) -> None:
    heard = [town.report(node, at_s, 30.0, f"r{number}") for number, (node, at_s) in enumerate(reports)]
    heard.sort(key=lambda one: one.time_ns)
    book, told = RefusalBook(), list[Refusal]()
    for look_s in sorted(looks):
        come = [one for one in heard if one.time_ns < after(look_s)]
        heard = heard[len(come) :]
        book.add(come)
        told += book.refuse(after(look_s))
    book.add(heard)
    told += book.refuse(after(1_000.0))
    once = [name for refusal in told for name in refusal.detections]
    assert len(once) == len(set(once))
    for refusal in told:
        assert len(refusal.nodes) == len(set(refusal.nodes)) >= LEAST_NODES


def test_members_of_a_group_can_have_heard_one_source(town: "Town") -> None:
    rng = np.random.default_rng(4)
    heard = sorted(town.chatter(rng, 40.0, 20.0), key=lambda one: one.time_ns)
    where = dict(zip(town.names, town.places_m, strict=True))
    found = groups(heard, len(heard))
    assert len(found) > 3
    for group in found:
        for one in group:
            for other in group:
                way_m = np.linalg.norm(where[one.node] - where[other.node])
                assert abs(one.time_ns - other.time_ns) / SECOND_NS <= way_m / SLOWEST_SOUND_MPS + SLACK_S + 1e-6
