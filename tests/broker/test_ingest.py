"""Ingest: each detection once, in the order of their times, and nothing lost that came in time."""

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_broker import ingest as ingest_module
from soundranger_broker.ingest import MOST_A_MINUTE, MOST_FUTURE_NS, MOST_REASONS, Ingest
from soundranger_node.messages import DETECTION, Detection

if TYPE_CHECKING:
    from tests.broker.conftest import Town

NOW_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000
LATENESS_NS = 2 * SECOND_NS


def a_detection(name: str = "roof-1-1", at_s: float = 0.0, node: str = "roof") -> Detection:
    return Detection(
        id=name,
        node=node,
        time_ns=NOW_NS + round(at_s * SECOND_NS),
        time_sigma_s=0.001,
        lat=48.0,
        lon=11.0,
        alt_m=500.0,
        position_sigma_m=1.0,
        snr_db=20.0,
    )


def payload(name: str = "roof-1-1", at_s: float = 0.0, node: str = "roof") -> bytes:
    return DETECTION.encode(a_detection(name, at_s, node))


def released(ingest: Ingest, until_s: float) -> list[str]:
    return [detection.id for detection in ingest.release(NOW_NS + round(until_s * SECOND_NS))]


def test_a_detection_comes_out_once_it_cannot_be_overtaken() -> None:
    ingest = Ingest()
    assert ingest.offer(payload(), NOW_NS).detection == "roof-1-1"
    assert released(ingest, 0.0) == []
    assert released(ingest, 0.001) == ["roof-1-1"]
    assert released(ingest, 10.0) == []
    assert not ingest.dropped


def test_an_id_is_taken_once_and_acked_each_time() -> None:
    ingest = Ingest()
    first = ingest.offer(payload(), NOW_NS)
    again = [ingest.offer(payload(), NOW_NS) for _ in range(999)]
    assert first.dropped is None
    assert {taken.detection for taken in again} == {"roof-1-1"}
    assert {taken.dropped for taken in again} == {"came before"}
    assert ingest.dropped == {"came before": 999}
    assert released(ingest, 1.0) == ["roof-1-1"]


def test_a_resend_after_the_release_is_still_the_same_detection() -> None:
    ingest = Ingest()
    ingest.offer(payload(), NOW_NS)
    released(ingest, 1.0)
    assert ingest.offer(payload(), NOW_NS + 60 * SECOND_NS).dropped == "came before"
    assert released(ingest, 100.0) == []


def test_a_detection_that_comes_too_late_is_counted_and_acked() -> None:
    ingest = Ingest()
    released(ingest, 5.0)
    late = ingest.offer(payload(at_s=4.999), NOW_NS + 5 * SECOND_NS)
    assert (late.detection, late.dropped) == ("roof-1-1", "came too late")
    assert ingest.offer(payload("b", at_s=5.0), NOW_NS + 5 * SECOND_NS).dropped is None
    assert released(ingest, 6.0) == ["b"]
    assert ingest.dropped == {"came too late": 1}


def test_a_detection_from_the_future_is_counted_and_acked() -> None:
    ingest = Ingest()
    ahead = MOST_FUTURE_NS / SECOND_NS
    assert ingest.offer(payload("a", at_s=ahead), NOW_NS).dropped is None
    far = ingest.offer(payload("b", at_s=ahead + 0.001), NOW_NS)
    assert (far.detection, far.dropped) == ("b", "is dated in the future")
    assert ingest.dropped == {"is dated in the future": 1}
    assert released(ingest, 100.0) == ["a"]


def test_one_node_cannot_speak_for_another() -> None:
    ingest = Ingest()
    forged = ingest.offer(payload(node="roof"), NOW_NS, "cellar")
    assert (forged.detection, forged.dropped) == (None, "names another node than its topic")
    assert ingest.offer(payload(node="roof"), NOW_NS, "roof").dropped is None
    assert ingest.dropped == {"names another node than its topic": 1}


@pytest.mark.parametrize(
    "bad", [b"", b"hello", b"\xff", b"[]", b"{}", b" " * 2_000_000, json.dumps({"id": "roof-1-1"}).encode()]
)
def test_a_bad_payload_is_counted_with_its_reason_and_loses_nothing(bad: bytes) -> None:
    ingest = Ingest()
    ingest.offer(payload("a"), NOW_NS)
    taken = ingest.offer(bad, NOW_NS, "roof")
    ingest.offer(payload("b", 0.1), NOW_NS)
    assert taken.detection is None
    assert taken.dropped is not None
    assert ingest.dropped == {taken.dropped: 1}
    assert released(ingest, 1.0) == ["a", "b"]


def test_a_node_with_endless_reasons_fills_no_memory() -> None:
    ingest = Ingest()
    for size in range(3 * MOST_REASONS):
        ingest.offer(b" " * (20_000 + size), NOW_NS)
    ingest.offer(payload(), NOW_NS)
    ingest.offer(payload(), NOW_NS)
    assert sum(ingest.dropped.values()) == 3 * MOST_REASONS + 1
    assert len(ingest.dropped) <= MOST_REASONS + 1


def test_ids_are_forgotten_in_the_end_and_an_old_resend_still_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "MOST_IDS", 10)
    ingest = Ingest()
    for _ in range(2):
        for number in range(30):
            ingest.offer(payload(f"d{number}", number), NOW_NS + 60 * SECOND_NS)
    out = released(ingest, 100.0)
    assert set(out) == {f"d{number}" for number in range(30)}
    assert out == sorted(out, key=lambda name: int(name[1:]))


def test_what_waits_is_shown_in_the_order_of_time_and_stays() -> None:
    ingest = Ingest()
    for name, at_s in (("c", 0.3), ("a", 0.1), ("b", 0.2)):
        ingest.offer(payload(name, at_s), NOW_NS + SECOND_NS)
    assert [detection.id for detection in ingest.waiting()] == ["a", "b", "c"]
    assert [detection.id for detection in ingest.waiting()] == ["a", "b", "c"]
    assert released(ingest, 1.0) == ["a", "b", "c"]
    assert ingest.waiting() == []


arrivals = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1.99)), min_size=1, max_size=80)


@given(arrivals, st.lists(st.floats(0, 70), max_size=20))
def test_whatever_the_order_within_the_lateness_all_come_out_in_the_order_of_time(
    fired: list[tuple[float, float]], looks: list[float]
) -> None:
    ingest = Ingest()
    offers = [(at_s + delay_s, f"d{number}", at_s) for number, (at_s, delay_s) in enumerate(fired)]
    out: list[Detection] = []
    for now_s, name, at_s in sorted([*offers, *((look, "", 0.0) for look in looks)]):
        now_ns = NOW_NS + round(now_s * SECOND_NS)
        if name:
            assert ingest.offer(payload(name, at_s), now_ns, "roof").dropped is None
        out += ingest.release(now_ns - LATENESS_NS)
    out += ingest.release(NOW_NS + 100 * SECOND_NS)
    assert [detection.time_ns for detection in out] == sorted(detection.time_ns for detection in out)
    assert sorted(detection.id for detection in out) == sorted(name for _, name, _ in offers)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30), st.floats(0, 30)), max_size=60))
def test_every_offer_is_either_released_or_counted(offers: list[tuple[int, float, float]]) -> None:
    ingest = Ingest()
    out: list[Detection] = []
    for number, at_s, now_s in offers:
        now_ns = NOW_NS + round(now_s * SECOND_NS)
        ingest.offer(payload(f"d{number}", at_s), now_ns)
        out += ingest.release(now_ns - LATENESS_NS)
    out += ingest.release(NOW_NS + 100 * SECOND_NS)
    assert len(out) + sum(ingest.dropped.values()) == len(offers)
    assert len({detection.id for detection in out}) == len(out)


def test_a_detection_comes_out_as_it_went_in(town: "Town") -> None:
    ingest = Ingest()
    heard = town.hear(100.0, 200.0, 10.0)
    heard[0] = msgspec.structs.replace(heard[0], peak_dbfs=-3.0, features={"rise": 0.1}, signature="x", clock="pps")
    for detection in reversed(heard):
        ingest.offer(DETECTION.encode(detection), NOW_NS + 60 * SECOND_NS)
    assert ingest.release(NOW_NS + 100 * SECOND_NS) == heard


def test_an_id_with_other_contents_is_refused_and_the_first_stays() -> None:
    ingest = Ingest()
    assert ingest.offer(payload(at_s=0.1), NOW_NS).dropped is None
    second = ingest.offer(payload(at_s=0.2), NOW_NS)
    assert (second.detection, second.dropped) == ("roof-1-1", "came before with other contents")
    assert ingest.offer(payload(at_s=0.1), NOW_NS).dropped == "came before"
    assert ingest.release(NOW_NS + 10 * SECOND_NS) == [a_detection(at_s=0.1)]


def test_a_node_that_floods_is_counted_and_all_others_are_kept() -> None:
    ingest = Ingest()
    for number in range(100_000):
        # A minute's worth, each a little later than the last.
        ingest.offer(payload(f"f{number}", number * 0.0006, node="flood"), NOW_NS + 60 * SECOND_NS)
    others = [ingest.offer(payload(f"o{number}", number * 0.5), NOW_NS + 60 * SECOND_NS) for number in range(100)]
    assert all(taken.dropped is None for taken in others)
    assert ingest.dropped == {"comes from a node that floods": 100_000 - MOST_A_MINUTE}
    assert len(ingest._seen) == MOST_A_MINUTE + 100


def test_a_node_may_go_on_after_a_minute_of_flood() -> None:
    ingest = Ingest()
    for number in range(MOST_A_MINUTE + 1):
        ingest.offer(payload(f"f{number}", 0.01 * number), NOW_NS + 60 * SECOND_NS)
    assert ingest.offer(payload("later", 60.0), NOW_NS + 60 * SECOND_NS).dropped is None
    released(ingest, 1_000.0)
    assert ingest._minutes == {}


def test_a_node_that_jumps_is_noticed_once_and_one_that_wanders_within_its_error_is_not() -> None:
    ingest = Ingest()

    def moved_m(name: str, lat: float, sigma_m: float = 5.0) -> float | None:
        moved = msgspec.structs.replace(a_detection(name), lat=lat, position_sigma_m=sigma_m)
        return ingest.offer(DETECTION.encode(moved), NOW_NS).moved_m

    assert moved_m("a", 48.0) is None
    assert moved_m("b", 48.0003) is None
    assert moved_m("c", 48.045) == pytest.approx(4_970.0, abs=20.0)
    assert moved_m("d", 48.045) is None
    assert moved_m("e", 48.0, sigma_m=1_000.0) is None
