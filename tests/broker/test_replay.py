"""Recordings as virtual nodes: at their pace, with their times, whatever the gaps between them."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundranger_broker.replay import Pace, ReplaySource
from soundranger_node.recordings import Recording

RATE_HZ = 8_000
START_NS = 1_767_225_600_000_000_000
GAP_NS = 60_000_000_000


def recording(folder: Path, name: str, start_ns: int, seconds: float) -> Recording:
    samples = np.arange(round(seconds * RATE_HZ)) % 100 / 1000.0
    soundfile.write(folder / name, samples, RATE_HZ, subtype="FLOAT")
    return Recording(folder / name, "node", start_ns, 48.0, 11.0, 500.0)


@pytest.fixture
def two(tmp_path: Path) -> list[Recording]:
    """Two recordings of one node, a minute apart, named the wrong way round."""
    return [recording(tmp_path, "b.wav", START_NS + GAP_NS, 0.5), recording(tmp_path, "a.wav", START_NS, 1.0)]


def hurried(start_ns: int) -> Pace:
    return Pace(start_ns, 1e6, time.monotonic())


def test_samples_of_every_recording_have_the_times_of_that_recording(two: list[Recording]) -> None:
    source = ReplaySource(two, 0, hurried(START_NS))
    blocks = list(source.blocks())
    assert sum(len(block.samples) for block in blocks) == 1.5 * RATE_HZ
    assert source.timebase.timing(blocks[0].first).time_ns == START_NS
    later = [block for block in blocks if block.first > RATE_HZ]
    assert source.timebase.timing(later[0].first).time_ns == START_NS + GAP_NS
    assert source.timebase.timing(later[0].first + 0.5).time_ns == START_NS + GAP_NS + 62_500


def test_a_shift_moves_all_times_alike(two: list[Recording]) -> None:
    source = ReplaySource(two, 5, hurried(START_NS))
    assert source.timebase.timing(0).time_ns == START_NS + 5


def test_a_block_comes_when_its_last_sample_was_heard_and_faster_at_speed(tmp_path: Path) -> None:
    one = recording(tmp_path, "a.wav", START_NS, 2.0)
    started_s = time.monotonic()
    source = ReplaySource([one], 0, Pace(START_NS, 10.0, started_s))
    came_s = [time.monotonic() - started_s for _ in source.blocks()]
    heard_s = np.arange(1, len(came_s) + 1) * 0.25 / 10.0
    assert np.all(came_s >= heard_s - 0.001)
    assert came_s[-1] < 1.0


def test_a_replay_that_is_closed_ends_at_once(two: list[Recording]) -> None:
    source = ReplaySource(two, 0, Pace(START_NS, 1.0, time.monotonic()))
    started_s = time.monotonic()
    threading.Timer(0.2, source.close).start()
    list(source.blocks())
    assert time.monotonic() - started_s < 2.0
