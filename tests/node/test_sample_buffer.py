"""The sample buffer: always what a growing list would give, however it is filled and emptied."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.sample_buffer import START_CAPACITY, SampleBuffer

START = -7


@given(st.lists(st.tuples(st.integers(0, START_CAPACITY), st.integers(-100, START_CAPACITY)), max_size=12))
def test_it_holds_what_was_appended_and_not_forgotten(steps: list[tuple[int, int]]) -> None:
    buffer, everything, forgotten = SampleBuffer(START), np.empty(0, np.float32), START
    for count, forget in steps:
        piece = np.arange(len(everything), len(everything) + count, dtype=np.float32)
        everything = np.append(everything, piece)
        buffer.append(piece)
        forgotten = min(max(forgotten, forgotten + forget), START + len(everything))
        buffer.forget(forgotten)
        assert (buffer.start, buffer.end) == (forgotten, START + len(everything))
        assert np.array_equal(buffer.samples(buffer.start - 5, buffer.end + 5), everything[forgotten - START :])


def test_a_long_stream_takes_no_more_memory_than_what_is_kept() -> None:
    buffer = SampleBuffer(0)
    for _ in range(1_000):
        buffer.append(np.zeros(960, np.float32))
        buffer.forget(buffer.end - 5_000)
    whole = buffer.samples(buffer.start, buffer.end).base
    assert whole is not None
    assert whole.nbytes == START_CAPACITY * 4
