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

from soundranger_node.blocks import Source
from soundranger_node.soundcard import Delivery, SoundCard, samples_lost
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.station_clock import StationClock
from soundranger_node.timekeeping.utc_clock import ClockRead

RATE_HZ = 48_000
BLOCK = 960
START_NS = 1_700_000_000_000_000_000
MONOTONIC_NS = 5_000_000_000_000

# PortAudio is started once a process and reads its surroundings then: each test has a process of its own.
PRELUDE = """
import sys, threading, time
from soundranger_node.soundcard import SoundCard, devices
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.station_clock import StationClock
from soundranger_node.timekeeping.system_clock import read_clocks
clock = StationClock(48_000, boot="b", read=read_clocks(), quality=ClockQuality("free", True, 0.05, None, "", ""))
card = SoundCard("pulse", 48_000, 2, clock)
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
import ctypes.util
import soundranger_node.runtime, soundranger_node.config
assert "sounddevice" not in sys.modules
ctypes.util.find_library = lambda name: None
from soundranger_node.errors import AudioError
for attempt in (soundranger_node.soundcard.devices, lambda: list(card.blocks())):
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
    done = subprocess.run([sys.executable, "-c", PRELUDE + NO_PORTAUDIO], capture_output=True, text=True, check=True)
    sentence = "PortAudio: the library is not installed; sudo apt install libportaudio2\n"
    assert done.stdout == 2 * sentence


def clock() -> StationClock:
    quality = ClockQuality("free", True, 0.05, None, "trusted", "")
    read = ClockRead(MONOTONIC_NS, START_NS, 0)
    return StationClock(RATE_HZ, boot="b", read=read, quality=quality)


def delivery(first: int, adc_s: float, *, overflow: bool = False, current_s: float | None = None) -> Delivery:
    samples = np.zeros(BLOCK, np.float32)
    now_s = adc_s + 0.025 if current_s is None else current_s
    now_ns = round(now_s * 1e9)
    return Delivery(samples, first, adc_s, now_s, MONOTONIC_NS + now_ns, START_NS + now_ns, overflow)


def test_a_sound_card_is_a_source() -> None:
    source: Source = SoundCard(None, RATE_HZ, 1, clock())
    assert source.sample_rate_hz == RATE_HZ


def test_an_overflow_shows_as_a_gap_as_long_as_the_adc_times_say() -> None:
    card = SoundCard(None, RATE_HZ, 1, clock())
    for number, lost_s in enumerate([0, 0, 0.5, 0.5]):
        card._deliveries.put(delivery(number * BLOCK, number * 0.02 + lost_s, overflow=number == 2))
    card._deliveries.put(None)
    assert [block.first for block in card._dated()] == [0, 960, 1920 + 24_000, 2880 + 24_000]
    assert card.overflows == 1
    assert card.timebase.timing(1920 + 24_000).time_ns == pytest.approx(START_NS + 0.54e9, abs=1000)


def test_blocks_for_which_there_was_no_room_show_as_a_gap() -> None:
    card = SoundCard(None, RATE_HZ, 1, clock())
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
    assert late.recorded_ns(RATE_HZ) == late.monotonic_ns - 20_000_000
