"""The outbox keeps every detection until it is told to forget it."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.errors import InputError
from soundranger_node.outbox import RESEND_AFTER_S, Outbox

NOW_S = 1000.0
PUT_FOR_EVER = """
import sys
from pathlib import Path
from soundranger_node.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(1_000_000):
    outbox.put(f"n-{number}", number, "topic", b"x" * 400)
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path)
    yield box
    box.close()


def fill(outbox: Outbox, *times_ns: int) -> None:
    for time_ns in times_ns:
        outbox.put(f"n-{time_ns}", time_ns, "topic", b"{}")


def due(outbox: Outbox, limit: int = 100, now_s: float = NOW_S) -> list[str]:
    return [waiting.id for waiting in outbox.due(limit, now_s)]


def test_a_detection_comes_out_as_it_went_in(outbox: Outbox) -> None:
    outbox.put("n-1", 7, "a/topic", b"\x00payload")
    (waiting,) = outbox.due(1, NOW_S)
    assert (waiting.id, waiting.time_ns, waiting.topic, waiting.payload) == ("n-1", 7, "a/topic", b"\x00payload")


def test_a_detection_put_twice_is_kept_once_as_it_first_was(outbox: Outbox) -> None:
    outbox.put("n-1", 7, "topic", b"first")
    outbox.put("n-1", 8, "topic", b"second")
    assert outbox.depth == 1
    assert outbox.due(10, NOW_S)[0].payload == b"first"


def test_the_newest_is_due_first(outbox: Outbox) -> None:
    fill(outbox, 2, 3, 1)
    assert due(outbox) == ["n-3", "n-2", "n-1"]
    assert due(outbox, limit=2) == ["n-3", "n-2"]


def test_what_was_sent_is_due_again_only_after_a_minute_without_an_ack(outbox: Outbox) -> None:
    fill(outbox, 1, 2)
    outbox.mark_sent(["n-2"], NOW_S)
    assert due(outbox) == ["n-1"]
    assert outbox.in_flight(NOW_S + RESEND_AFTER_S) == 1
    assert due(outbox, now_s=NOW_S + RESEND_AFTER_S) == ["n-1"]
    assert due(outbox, now_s=NOW_S + RESEND_AFTER_S + 0.1) == ["n-1", "n-2"]
    assert outbox.in_flight(NOW_S + RESEND_AFTER_S + 0.1) == 0


def test_detections_that_are_never_acked_do_not_hold_up_the_others(outbox: Outbox) -> None:
    fill(outbox, *range(10))
    seen = set()
    for minute in range(5):
        now_s = NOW_S + minute * (RESEND_AFTER_S + 1)
        sent = due(outbox, limit=2, now_s=now_s)
        outbox.mark_sent(sent, now_s)
        seen |= set(sent)
    assert len(seen) == 10


def test_forget_deletes_and_says_how_many_it_knew(outbox: Outbox) -> None:
    fill(outbox, 1, 2, 3)
    assert outbox.forget(["n-1", "n-3", "somebody-elses"]) == 2
    assert outbox.depth == 1
    assert due(outbox) == ["n-2"]
    assert outbox.forget([]) == 0


def test_forgetting_ends_the_flight(outbox: Outbox) -> None:
    fill(outbox, 1)
    outbox.mark_sent(["n-1"], NOW_S)
    outbox.forget(["n-1"])
    assert outbox.in_flight(NOW_S) == 0


def test_after_a_restart_all_is_there_and_nothing_counts_as_sent(path: Path) -> None:
    first = Outbox(path)
    fill(first, 1, 2)
    first.mark_sent(["n-1", "n-2"], NOW_S)
    first.close()
    second = Outbox(path)
    assert second.depth == 2
    assert due(second) == ["n-2", "n-1"]
    second.close()


def test_when_the_connection_is_gone_everything_is_due_again(outbox: Outbox) -> None:
    fill(outbox, 1, 2)
    outbox.mark_sent(["n-1", "n-2"], NOW_S)
    outbox.mark_all_unsent()
    assert due(outbox) == ["n-2", "n-1"]


def test_over_the_cap_the_oldest_go_and_are_counted(path: Path) -> None:
    outbox = Outbox(path, max_rows=3)
    fill(outbox, 5, 4, 3, 2, 6)
    assert (outbox.depth, outbox.lost) == (3, 2)
    assert due(outbox) == ["n-6", "n-5", "n-4"]
    outbox.close()


@given(st.lists(st.tuples(st.sampled_from(["put", "forget", "send"]), st.integers(0, 8)), max_size=40))
def test_depth_is_what_is_waiting_whatever_happens(steps: list[tuple[str, int]]) -> None:
    outbox = Outbox(Path(":memory:"), max_rows=5)
    puts = set()
    for what, number in steps:
        if what == "put":
            fill(outbox, number)
            puts.add(f"n-{number}")
        elif what == "forget":
            outbox.forget([f"n-{number}"])
        else:
            outbox.mark_sent([f"n-{number}"], NOW_S)
    outbox.mark_all_unsent()
    waiting = due(outbox)
    assert len(waiting) == outbox.depth <= 5
    assert set(waiting) <= puts
    outbox.close()


def test_two_threads_may_put_and_forget_at_once(outbox: Outbox) -> None:
    def put() -> None:
        fill(outbox, *range(100, 200))

    thread = threading.Thread(target=put)
    thread.start()
    forgotten = 0
    while thread.is_alive() or outbox.depth:
        forgotten += outbox.forget(due(outbox, limit=7))
    thread.join()
    assert forgotten == 100


def test_a_file_that_is_no_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"holiday\.jpg: cannot be used as the outbox .*; let \[outbox\] path"):
        Outbox(path)


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used as the outbox"):
        Outbox(tmp_path / "file" / "outbox.sqlite")


def test_a_file_that_fails_later_is_an_input_error_too(path: Path, outbox: Outbox) -> None:
    other = sqlite3.connect(path)
    other.execute("DROP TABLE detection")
    other.close()
    with pytest.raises(InputError):
        outbox.put("n-1", 1, "topic", b"")


@pytest.mark.slow
def test_everything_whose_put_returned_survives_a_kill(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PUT_FOR_EVER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    returned = 200 + rest.count(b"\n")
    outbox = Outbox(path)
    assert {f"n-{number}" for number in range(returned)} <= set(due(outbox, limit=1_000_000))
    outbox.close()
