"""What is sent next: the new at once, the old a few at a time, and each again until it is acked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.blocks import Moment
from soundranger_node.outbox import Dated, Outbox
from soundranger_node.sending import MAX_UNACKED, OVERTAKEN_AFTER_S, PROBE_S, RESEND_AFTER_S, Sending

ROOM = 100
NOW_S = 1000.0


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    box = Outbox(Path(":memory:"))
    yield box
    box.close()


def put(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put(f"n-{number}", number, b"")


def due(sending: Sending, now_s: float = NOW_S, room: int = ROOM) -> list[int]:
    return [int(one.id.removeprefix("n-")) for one in sending.due(room, now_s)]


def ack(outbox: Outbox, sending: Sending, *numbers: int) -> None:
    ids = [f"n-{number}" for number in numbers]
    outbox.forget(ids)
    sending.acked(ids)


def test_after_an_outage_the_newest_go_first_and_a_few_at_a_time(outbox: Outbox) -> None:
    put(outbox, *range(50))
    sending = Sending(outbox)
    assert due(sending) == list(range(49, 29, -1))
    assert due(sending) == []
    ack(outbox, sending, 49, 47, 40)
    assert due(sending) == [29, 28, 27]


def test_no_more_is_due_than_there_is_room_for(outbox: Outbox) -> None:
    put(outbox, 1, 2, 3)
    sending = Sending(outbox)
    put(outbox, 4, 5)
    assert due(sending, room=1) == [4]
    assert due(sending, room=2) == [5, 3]
    assert due(sending, room=0) == []


def test_what_is_new_goes_at_once_though_twenty_old_ones_wait_for_their_acks(outbox: Outbox) -> None:
    put(outbox, *range(MAX_UNACKED))
    sending = Sending(outbox)
    assert len(due(sending)) == MAX_UNACKED
    put(outbox, 100)
    assert due(sending) == [100]
    put(outbox, 101, 102)
    assert due(sending) == [101, 102]


def test_what_was_sent_is_due_again_only_after_a_minute_without_an_ack(outbox: Outbox) -> None:
    put(outbox, 1, 2)
    sending = Sending(outbox)
    assert due(sending) == [2, 1]
    assert due(sending, NOW_S + RESEND_AFTER_S) == []
    assert due(sending, NOW_S + RESEND_AFTER_S + 0.1) == [2, 1]


def test_an_ack_makes_what_was_sent_long_before_it_due_at_once(outbox: Outbox) -> None:
    put(outbox, 1)
    sending = Sending(outbox)
    assert due(sending) == [1]
    put(outbox, 2)
    assert due(sending, NOW_S + OVERTAKEN_AFTER_S) == [2]
    put(outbox, 3)
    assert due(sending, NOW_S + OVERTAKEN_AFTER_S + 1) == [3]
    ack(outbox, sending, 2)
    assert due(sending, NOW_S + OVERTAKEN_AFTER_S + 2) == []
    ack(outbox, sending, 3)
    assert due(sending, NOW_S + OVERTAKEN_AFTER_S + 2) == [1]


def test_detections_that_are_never_acked_do_not_hold_up_the_others(outbox: Outbox) -> None:
    put(outbox, *range(70))
    sending = Sending(outbox)
    seen: list[int] = []
    for minute in range(4):
        seen += due(sending, NOW_S + minute * (RESEND_AFTER_S + 1))
    assert sorted(seen[:70]) == list(range(70))
    # The round then begins again at the newest.
    assert seen[70:] == list(range(69, 59, -1))


def test_while_nobody_listens_the_newest_is_tried_now_and_then(outbox: Outbox) -> None:
    put(outbox, *range(5))
    sending = Sending(outbox)
    assert due(sending) == [4, 3, 2, 1, 0]
    for number in (4, 3, 2, 1, 0):
        sending.unheard(f"n-{number}")
    assert due(sending) == [4]
    sending.unheard("n-4")
    put(outbox, 5)
    assert due(sending, NOW_S + PROBE_S - 0.1) == []
    assert due(sending, NOW_S + PROBE_S) == [5]
    sending.passed_on()
    assert due(sending, NOW_S + PROBE_S) == [4, 3, 2, 1, 0]


def test_what_is_dated_in_retrospect_is_sent_too(outbox: Outbox) -> None:
    outbox.put_undated("n-1", Moment("boot", 1, 1e-3), b"")
    put(outbox, 2)
    sending = Sending(outbox)
    assert due(sending) == [2]
    outbox.date([Dated("n-1", 1, b"")])
    assert due(sending) == [1]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.just(0)),
            st.tuples(st.just("ack"), st.integers(0, 40)),
            st.tuples(st.just("send"), st.integers(0, 30)),
            st.tuples(st.just("wait"), st.integers(0, 70)),
        ),
        max_size=60,
    )
)
def test_whatever_happens_all_is_delivered_once_acks_come_and_nothing_goes_twice_within_a_minute_without_reason(
    steps: list[tuple[str, int]],
) -> None:
    outbox = Outbox(Path(":memory:"))
    put(outbox, *range(25))
    sending = Sending(outbox)
    now_s, made = NOW_S, 25
    for what, value in steps:
        if what == "put":
            put(outbox, made)
            made += 1
        elif what == "ack":
            ack(outbox, sending, value)
        elif what == "wait":
            now_s += value
        else:
            sent = due(sending, now_s, room=value)
            assert len(sent) <= value
            assert len(set(sent)) == len(sent)
            assert not set(due(sending, now_s, room=value)) & set(sent)
    now_s += RESEND_AFTER_S + 1
    for _ in range(200):
        ack(outbox, sending, *due(sending, now_s))
    assert outbox.depth == 0
    outbox.close()
