"""The sound card, on a PulseAudio of our own, and the clock that dates its samples."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from soundranger_node.blocks import Source
from soundranger_node.soundcard import Delivery, SoundCard, samples_lost
from soundranger_node.timekeeping.sample_clock import MAX_RATE_ERROR, SampleClock, lower_envelope

RATE_HZ = 48_000
BLOCK = 960
START_NS = 1_700_000_000_000_000_000

# PortAudio is started once a process and reads its surroundings then: each test has a process of its own.
PRELUDE = """
import sys, threading, time
from soundranger_node.timekeeping.sample_clock import SampleClock
from soundranger_node.soundcard import SoundCard, devices
card = SoundCard("pulse", 48_000, 2, SampleClock(48_000, 0.05, "free"))
"""
HEAR = """
threading.Timer(3.0, card.close).start()
blocks = []
for block in card.blocks():
    blocks.append(block)
    late_s = time.time() - card.timebase.timing(block.first + len(block.samples)).time_ns * 1e-9
steps = {after.first - before.first for before, after in zip(blocks, blocks[1:])}
print(steps, {b.samples.shape for b in blocks}, blocks[0].samples.dtype, card.overflows, blocks[0].first)
print(max(abs(block.samples).max() for block in blocks))
print(len(blocks), late_s)
"""
FAIL = """
from soundranger_node.errors import AudioError
try:
    for block in card.blocks():
        print(block.first, flush=True)
except AudioError as error:
    print(error, flush=True)
"""
NO_PORTAUDIO = """
import ctypes.util, sys
import soundranger_node.soundcard, soundranger_node.runtime, soundranger_node.config
assert "sounddevice" not in sys.modules
ctypes.util.find_library = lambda name: None
from soundranger_node.errors import AudioError
for attempt in (soundranger_node.soundcard.devices, lambda: list(soundranger_node.soundcard.SoundCard(
        None, 48_000, 1, soundranger_node.soundcard.SampleClock(48_000, 0.05, "free")).blocks())):
    try:
        attempt()
    except AudioError as error:
        print(error)
"""


class Pulse:
    """A PulseAudio with one loudspeaker, `room`, whose monitor is the microphone."""

    def __init__(self, program: str, folder: Path) -> None:
        server = folder / "pulse.sock"
        self.environment = {**os.environ, "HOME": str(folder), "PULSE_RUNTIME_PATH": str(folder)}
        self.environment |= {"XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{server}"}
        script = folder / "run.pa"
        script.write_text(
            f"load-module module-native-protocol-unix socket={server} auth-anonymous=1\n"
            f"load-module module-null-sink sink_name=room rate={RATE_HZ} channels=2\n"
            "set-default-sink room\nset-default-source room.monitor\n"
        )
        command = [program, "-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        with (folder / "pulse.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        end_s = time.monotonic() + 10
        while not server.exists():
            assert time.monotonic() < end_s
            time.sleep(0.05)

    def python(self, code: str) -> subprocess.Popen[str]:
        """Start a program that can hear the room."""
        return subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    program = shutil.which("pulseaudio")
    if program is None:
        pytest.skip("pulseaudio is not installed")
    server = Pulse(program, tmp_path)
    try:
        with server.python("print([device.name for device in devices()])") as listing:
            output, problem = listing.communicate(timeout=30)
        if "libportaudio2" in problem:
            pytest.skip("libportaudio2 is not installed")
        if "'pulse'" not in output:
            pytest.skip("libasound2-plugins is not installed")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_sound_comes_in_blocks_that_follow_each_other_and_are_dated(pulse: Pulse, tmp_path: Path) -> None:
    tone = (8192 * np.sin(2 * np.pi * 1000 * np.arange(5 * RATE_HZ) / RATE_HZ)).astype("<i2").repeat(2)
    (tmp_path / "tone.raw").write_bytes(tone.tobytes())
    player = shutil.which("pacat")
    if player is None:
        pytest.skip("pulseaudio-utils is not installed")
    play = [player, "--playback", f"--rate={RATE_HZ}", "--channels=2", "--format=s16le", str(tmp_path / "tone.raw")]
    with subprocess.Popen(play, env=pulse.environment) as playing, pulse.python(HEAR) as hearing:
        output, _ = hearing.communicate(timeout=30)
        playing.kill()
    shape, peak, count_and_lateness = output.splitlines()
    assert shape == "{960} {(960,)} float32 0 0"
    assert 0.2 < float(peak) < 0.3
    count, late_s = count_and_lateness.split()
    assert 50 < int(count) < 160
    # PulseAudio's own idea of its delay starts at up to 0.5 s and shrinks to nothing while sound flows.
    assert 0.0 < float(late_s) < 1.0


@pytest.mark.slow
def test_a_sound_card_that_falls_silent_ends_with_one_sentence(pulse: Pulse) -> None:
    with pulse.python(FAIL) as hearing:
        assert hearing.stdout is not None
        assert hearing.stdout.readline() == "0\n"
        pulse.process.send_signal(signal.SIGSTOP)
        start_s = time.monotonic()
        last = next(line for line in hearing.stdout if not line.strip().isdigit())
        took_s = time.monotonic() - start_s
        hearing.kill()
    assert last.startswith("microphone pulse: has given no sound for 3 s; check its cable")
    assert took_s < 8


@pytest.mark.slow
def test_a_microphone_that_does_not_exist_is_said_in_one_sentence(pulse: Pulse) -> None:
    with pulse.python('card = SoundCard("theremin", 48_000, 1, card.timebase)' + FAIL) as hearing:
        output, _ = hearing.communicate(timeout=30)
    assert output.startswith("microphone theremin: cannot be opened (No input device matching 'theremin')")
    assert "`soundranger-node devices` lists them all" in output


@pytest.mark.slow
def test_without_portaudio_everything_imports_and_the_remedy_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", NO_PORTAUDIO], capture_output=True, text=True, check=True)
    sentence = "PortAudio: the library is not installed; sudo apt install libportaudio2\n"
    assert done.stdout == 2 * sentence


def delivery(first: int, adc_s: float, *, overflow: bool = False, current_s: float | None = None) -> Delivery:
    samples = np.zeros(BLOCK, np.float32)
    now_s = adc_s + 0.025 if current_s is None else current_s
    return Delivery(samples, first, adc_s, now_s, START_NS + round(now_s * 1e9), overflow)


def test_a_sound_card_is_a_source() -> None:
    source: Source = SoundCard(None, RATE_HZ, 1, SampleClock(RATE_HZ, 0.05, "free"))
    assert source.sample_rate_hz == RATE_HZ


def test_an_overflow_shows_as_a_gap_as_long_as_the_adc_times_say() -> None:
    card = SoundCard(None, RATE_HZ, 1, SampleClock(RATE_HZ, 0.05, "free"))
    for number, lost_s in enumerate([0, 0, 0.5, 0.5]):
        card._deliveries.put(delivery(number * BLOCK, number * 0.02 + lost_s, overflow=number == 2))
    card._deliveries.put(None)
    assert [block.first for block in card._dated()] == [0, 960, 1920 + 24_000, 2880 + 24_000]
    assert card.overflows == 1
    assert card.timebase.timing(1920 + 24_000).time_ns == pytest.approx(START_NS + 0.54e9, abs=1000)


def test_blocks_for_which_there_was_no_room_show_as_a_gap() -> None:
    card = SoundCard(None, RATE_HZ, 1, SampleClock(RATE_HZ, 0.05, "free"))
    for number in (0, 1, 7):
        card._deliveries.put(delivery(number * BLOCK, number * 0.02))
    card._deliveries.put(None)
    assert [block.first for block in card._dated()] == [0, 960, 7 * 960]
    assert card.overflows == 1


def test_an_overflow_loses_at_least_one_sample_whatever_the_times_say() -> None:
    assert samples_lost(delivery(0, 0.0), delivery(BLOCK, 0.0), RATE_HZ) == 1


@pytest.mark.parametrize("adc_s", [0.0, 100.0, 99.999])
def test_a_block_was_recorded_at_least_its_own_length_ago(adc_s: float) -> None:
    late = delivery(0, adc_s, current_s=100.0)
    assert late.recorded_ns(RATE_HZ) == late.called_ns - 20_000_000


def simulate(
    clock: SampleClock,
    *,
    seconds: float,
    ppm: float,
    lateness_s: float,
    seed: int,
    step_s: float = 0.0,
    step_at_s: float = 1e9,
) -> list[float]:
    """Feed a clock the blocks of a card whose samples come `ppm` late; return the error of each block's date."""
    random = np.random.default_rng(seed)
    errors = []
    for block in range(round(seconds / 0.02)):
        sample = block * BLOCK
        true_s = sample / RATE_HZ * (1 + ppm * 1e-6)
        true_s += step_s if true_s >= step_at_s else 0.0
        clock.add(sample, START_NS + round((true_s + random.exponential(lateness_s)) * 1e9))
        errors.append((clock.timing(sample).time_ns - START_NS) * 1e-9 - true_s)
    return errors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ppm", [-100.0, 0.0, 80.0])
def test_the_clock_finds_the_time_below_the_jitter(ppm: float, seed: int) -> None:
    clock = SampleClock(RATE_HZ, 0.0, "ntp")
    errors = np.abs(simulate(clock, seconds=90, ppm=ppm, lateness_s=1e-3, seed=seed))
    assert errors[150:].max() < 0.5e-3
    assert errors[1500:].max() < 0.1e-3
    assert clock.ppm == pytest.approx(ppm, abs=3)


def test_the_clock_needs_no_more_than_the_last_minute() -> None:
    clock = SampleClock(RATE_HZ, 0.0, "ntp")
    simulate(clock, seconds=200, ppm=50, lateness_s=1e-3, seed=1)
    assert len(clock._segments[-1].x) == 60


@pytest.mark.parametrize("step_s", [-0.5, 0.5, 0.02])
def test_a_step_of_the_clock_begins_a_new_segment(step_s: float) -> None:
    clock = SampleClock(RATE_HZ, 0.0, "ntp")
    errors = np.abs(simulate(clock, seconds=60, ppm=20, lateness_s=1e-3, seed=2, step_s=step_s, step_at_s=30.5))
    assert errors[150 : round(30.5 / 0.02)].max() < 0.5e-3
    assert errors[round(32.5 / 0.02) :].max() < 0.5e-3
    before = clock.timing(29 * RATE_HZ).time_ns - START_NS
    assert before == pytest.approx(29 * (1 + 20e-6) * 1e9, abs=0.3e6)


def test_lost_samples_begin_a_new_segment_and_the_old_one_keeps_its_dates() -> None:
    clock = SampleClock(RATE_HZ, 0.0, "ntp")
    clock.add(0, START_NS)
    clock.restart()
    clock.add(RATE_HZ, START_NS + 5_000_000_000)
    assert clock.timing(RATE_HZ / 2).time_ns == START_NS + 500_000_000
    assert clock.timing(RATE_HZ + 48.0).time_ns == START_NS + 5_001_000_000


def test_sigma_holds_the_system_clock_and_the_fit_and_settles() -> None:
    clock = SampleClock(RATE_HZ, 3e-3, "gps", latency_s=0.25)
    simulate(clock, seconds=1, ppm=0, lateness_s=1e-4, seed=3)
    first = clock.timing(0)
    simulate_more = SampleClock(RATE_HZ, 0.0, "gps")
    simulate(simulate_more, seconds=30, ppm=0, lateness_s=1e-4, seed=3)
    assert first.tier == "gps"
    assert first.sigma_s == pytest.approx(np.hypot(3e-3, 1e-3))
    assert simulate_more.timing(0).sigma_s < 2e-4
    assert first.time_ns == pytest.approx(START_NS - 250_000_000, abs=200_000)


def test_a_clock_that_was_fed_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="no block has come yet"):
        SampleClock(RATE_HZ, 0.0, "ntp").timing(0)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e-2, 1e-2)))
def test_the_envelope_is_below_every_point_and_touches_one(y: NDArray[np.float64]) -> None:
    x = np.arange(len(y), dtype=float)
    offset, slope = lower_envelope(x, y, MAX_RATE_ERROR)
    above = y - offset - slope * x
    assert above.min() == pytest.approx(0.0, abs=1e-12)
    assert abs(slope) <= MAX_RATE_ERROR


@given(st.floats(-4e-4, 4e-4), st.floats(-1, 1), st.integers(2, 60))
def test_the_envelope_of_a_line_is_the_line(slope: float, offset: float, count: int) -> None:
    x = np.arange(count, dtype=float)
    assert lower_envelope(x, offset + slope * x, MAX_RATE_ERROR) == pytest.approx((offset, slope), abs=1e-9)
