"""The sound card, on a PulseAudio of our own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.blocks import Samples, Source, Timing
from soundranger_node.portaudio import QUEUE_BLOCKS, Delivery, Intake
from soundranger_node.soundcard import SETTLING_BLOCKS, SoundCard, is_broken, samples_lost

if TYPE_CHECKING:
    from tests.conftest import Pulse

RATE_HZ = 48_000
BLOCK = 960
START_NS = 1_700_000_000_000_000_000
NOTICED_S = 3.0

# A program that says what it hears and what it thinks of it, one JSON object a line, until its input ends.
CAPTURE = """
import json, sys, threading, time
import numpy as np
from soundranger_node import portaudio, soundcard
from soundranger_node.blocks import Timing
from soundranger_node.detector import Detector
from soundranger_node.errors import AudioError

class Dated:
    restarts = 0

    def add(self, sample, monotonic_ns, driver_sigma_s):
        self.sample, self.monotonic_ns = sample, monotonic_ns

    def add_pps(self, samples, first):
        assert first == self.sample and samples.shape == (rate_hz // 50,)
        pps.append(samples)

    def restart(self, frame_s=None):
        self.restarts += 1

    def timing(self, sample):
        utc_ns = self.monotonic_ns + time.time_ns() - time.monotonic_ns()
        return Timing(utc_ns + round((sample - self.sample) / rate_hz * 1e9), {}, "free")

def say(**what):
    print(json.dumps({"at": time.monotonic(), **what}), flush=True)

def hear(card):
    detector, problem, longest_s, before, end = Detector(rate_hz), None, 0.0, time.monotonic(), 0
    threading.Thread(target=lambda: (sys.stdin.read(), card.close()), daemon=True).start()
    try:
        for block in card.blocks():
            longest_s, before = max(longest_s, time.monotonic() - before), time.monotonic()
            if card.problem != problem:
                problem = card.problem
                say(problem=problem)
            if block.first != end:
                say(gap_s=(block.first - end) / rate_hz)
            if len(block.samples) and not sound:
                say(hears=block.first, shape=block.samples.shape, dtype=str(block.samples.dtype))
            end = block.first + len(block.samples)
            if len(block.samples):
                sound.append(block.samples)
            for impulse in detector.push(block):
                time_ns = card.timebase.timing(impulse.onset_sample).time_ns
                say(onset=impulse.onset_sample, time_ns=time_ns)
            time.sleep(nap_s if len(sound) == 10 else 0.0)
    except AudioError as error:
        say(error=str(error))
    say(end=end, longest_s=longest_s, restarts=card.timebase.restarts, overflows=card.overflows,
        interruptions=card.interruptions, processing=card.processing)

def card(device="pulse", channel=1, **more):
    return soundcard.SoundCard(device, rate_hz, channel, Dated(), **more)

rate_hz, nap_s, sound, pps = 48_000, 0.0, [], []
"""
NO_PORTAUDIO = """
import ctypes.util, sys
import soundranger_node.soundcard, soundranger_node.runtime, soundranger_node.config
assert "sounddevice" not in sys.modules
ctypes.util.find_library = lambda name: None
from soundranger_node.errors import AudioError
for attempt in (soundranger_node.soundcard.devices, lambda: list(soundranger_node.soundcard.SoundCard(
        None, 48_000, 1, None).blocks())):
    try:
        attempt()
    except AudioError as error:
        print(error)
"""


class Capture:
    """The program CAPTURE with a few lines more, and what it says."""

    def __init__(self, pulse: "Pulse", code: str = "hear(card())") -> None:
        self._pulse = pulse
        self._process = pulse.python(CAPTURE + code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:
            pass

    def until(self, key: str) -> dict[str, Any]:
        """Return the next event that has a key."""
        for event in self._events():
            if key in event:
                return event
        pytest.fail(f"it ended before {key}: {self._pulse.complaints}")

    def end(self) -> list[dict[str, Any]]:
        """Have it close its sound card; return what it said since."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        events = list(self._events())
        assert self._process.wait(timeout=10) == 0, self._pulse.complaints
        return events

    def _events(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)


def impulses(seconds: float, every_s: float, rate_hz: int) -> Samples:
    """Return quiet noise with a bang every so often, the first after one interval; each is loudest at once."""
    random = np.random.default_rng(1)
    sound = 1e-4 * random.standard_normal(round(seconds * rate_hz))
    decay = 0.5 * np.exp(-np.arange(round(0.01 * rate_hz)) / (0.002 * rate_hz))
    decay[1::2] *= -1
    for start in range(round(every_s * rate_hz), len(sound) - len(decay), round(every_s * rate_hz)):
        sound[start : start + len(decay)] += decay
    return sound.astype(np.float32)


def play_paced(pulse: "Pulse", sound: Samples) -> list[float]:
    """Play a sound no sooner than it should be heard; return when each loud 10 ms of it was handed over, UTC."""
    handed_over_s = []
    with pulse.player(RATE_HZ, latency_ms=20) as player:
        assert player.stdin is not None
        start_s = time.monotonic()
        for number, piece in enumerate(np.split(sound, range(480, len(sound), 480))):
            time.sleep(max(0.0, start_s + number * 0.01 - time.monotonic()))
            if abs(piece).max() > 0.4:
                handed_over_s.append(time.time())
            player.stdin.write(np.repeat(piece, 2).astype("<f4").tobytes())
            player.stdin.flush()
        player.stdin.close()
    return handed_over_s


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample_format", "rate_hz"), [("s16le", 16_000), ("s24le", 44_100), ("s32le", 48_000), ("float32le", 48_000)]
)
def test_impulses_are_found_as_far_apart_as_they_were_played(pulse: "Pulse", sample_format: str, rate_hz: int) -> None:
    pulse.start(sample_format, rate_hz)
    with Capture(pulse, f"rate_hz = {rate_hz}\nhear(card())") as capture:
        hears = capture.until("hears")
        pulse.play(impulses(3.0, 0.4, rate_hz), rate_hz)
        *events, last = capture.end()
    onsets = [event["onset"] for event in events if "onset" in event]
    assert (last["overflows"], last["interruptions"]) == (0, 0)
    assert (hears["hears"], hears["shape"], hears["dtype"]) == (0, [rate_hz // 50], "float32")
    assert len(onsets) == 7
    # To well under a tenth of a millisecond, at 16 kHz too.
    assert np.diff(onsets) == pytest.approx(0.4 * rate_hz, abs=0.5)


@pytest.mark.slow
def test_impulses_are_found_at_the_time_at_which_they_were_played(pulse: "Pulse") -> None:
    pulse.start("s32le")
    with Capture(pulse) as capture:
        capture.until("hears")
        played_s = play_paced(pulse, impulses(3.0, 0.4, RATE_HZ))
        found_s = [event["time_ns"] * 1e-9 for event in capture.end() if "onset" in event]
    assert len(found_s) == len(played_s) == 7
    late_s = np.subtract(found_s, played_s)
    # What the player holds back is late; what PulseAudio does not know of its delay is early.
    assert late_s.min() > -0.03
    assert late_s.max() < 0.15
    assert np.ptp(late_s) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("sample_format", "heard"), [("s16le", False), ("s24le", True), ("s32le", True)])
def test_a_tone_below_the_last_of_16_bits_is_heard_through_24(pulse: "Pulse", sample_format: str, heard: bool) -> None:
    pulse.start(sample_format)
    level = 0.3 / 32_768
    tone = level * np.sin(2 * np.pi * 1000 * np.arange(3 * RATE_HZ) / RATE_HZ)
    code = """
hear(card())
heard = np.concatenate(sound).astype(float)
loud = heard[np.flatnonzero(heard)[:1].sum():][24_000:72_000]
say(amplitude=2 * abs(np.mean(loud * np.exp(-2j * np.pi * 1000 / 48_000 * np.arange(len(loud))))))
"""
    with Capture(pulse, code) as capture:
        capture.until("hears")
        pulse.play(tone.astype(np.float32), RATE_HZ)
        amplitude = capture.end()[-1]["amplitude"]
    assert amplitude == (pytest.approx(level, rel=0.02) if heard else 0.0)


@pytest.mark.slow
def test_one_channel_is_heard_and_another_is_handed_to_the_clock(pulse: "Pulse") -> None:
    pulse.start("s32le")
    sides = np.stack((np.full(RATE_HZ, 0.25), np.full(RATE_HZ, 0.5)), axis=1).astype(np.float32)
    code = """
hear(card(channel=2, pps_channel=1))
say(mine=float(np.concatenate(sound).max()), pps=float(np.concatenate(pps).max()))
"""
    with Capture(pulse, code) as capture:
        capture.until("hears")
        pulse.play(sides, RATE_HZ)
        last = capture.end()[-1]
    assert (last["mine"], last["pps"]) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.25, abs=1e-6))


@pytest.mark.slow
def test_a_microphone_that_is_unplugged_is_told_and_heard_again_once_it_is_back(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse) as capture:
        capture.until("hears")
        pulse.kill()
        killed_s = time.monotonic()
        told = capture.until("problem")
        missing = capture.until("problem")
        pulse.start()
        back = capture.until("gap_s")
        pulse.play(impulses(1.0, 0.4, RATE_HZ), RATE_HZ)
        *events, last = capture.end()
    assert told["at"] - killed_s < NOTICED_S
    assert told["problem"].startswith("microphone pulse: has stopped; check its cable")
    assert "No input device matching 'pulse'" in missing["problem"]
    assert missing["problem"].endswith("there are: none")
    # It is told of a block that began 20 ms before, and later than that on a busy computer.
    assert back["gap_s"] >= back["at"] - killed_s - 0.1
    assert len([event for event in events if "onset" in event]) == 2
    assert (last["interruptions"], last["restarts"], last["overflows"]) == (1, 2, 0)
    # Whoever hears is never kept waiting.
    assert last["longest_s"] < 2.5


@pytest.mark.slow
def test_a_microphone_that_the_sound_server_loses_is_told_and_heard_again_once_it_is_back(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse) as capture:
        capture.until("hears")
        lost_s = time.monotonic()
        pulse.ask("unload-module", "module-null-sink")
        told = capture.until("problem")
        missing = capture.until("problem")
        pulse.ask("load-module", "module-null-sink", "sink_name=room")
        back = capture.until("gap_s")
        last = capture.end()[-1]
    assert told["at"] - lost_s < NOTICED_S
    assert told["problem"].startswith("microphone pulse: has stopped; check its cable")
    assert missing["problem"].startswith("microphone pulse: cannot be opened (")
    assert back["gap_s"] >= back["at"] - lost_s - 0.1
    assert (last["interruptions"], last["restarts"], last["overflows"]) == (1, 2, 0)


@pytest.mark.slow
def test_a_microphone_that_stalls_is_told_and_heard_again_once_it_goes_on(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse) as capture:
        capture.until("hears")
        pulse.send(signal.SIGSTOP)
        stopped_s = time.monotonic()
        told = capture.until("problem")
        time.sleep(3.0)
        pulse.send(signal.SIGCONT)
        back = capture.until("problem")
        gap = capture.until("gap_s")
        last = capture.end()[-1]
    assert told["at"] - stopped_s < NOTICED_S
    assert told["problem"].startswith("microphone pulse: has given no sound for 2 s; check its cable")
    assert back["problem"] is None
    assert gap["gap_s"] >= back["at"] - stopped_s - 0.1
    assert (last["interruptions"], last["restarts"], last["overflows"]) == (1, 2, 0)
    assert last["longest_s"] < 2.5


@pytest.mark.slow
def test_a_driver_that_hangs_for_good_ends_the_process_with_one_sentence(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse, "soundcard.HANG_BEATS = 2\nhear(card())") as capture:
        capture.until("hears")
        pulse.send(signal.SIGSTOP)
        failed = capture.until("error")
        capture.end()
    assert failed["error"].startswith("PortAudio: hangs with microphone pulse; start the node anew")


@pytest.mark.slow
def test_a_microphone_that_is_not_there_is_told_and_waited_for(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse, 'hear(card("theremin"))') as capture:
        told = capture.until("problem")["problem"]
        last = capture.end()[-1]
    assert told.startswith("microphone theremin: cannot be opened (No input device matching 'theremin')")
    assert told.endswith("check its cable and [microphone]; there are: 0 pulse, 1 default")
    assert (last["end"], last["interruptions"]) == (0, 0)


@pytest.mark.slow
def test_channels_that_a_microphone_does_not_have_are_no_matter_of_waiting(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse, "hear(card(channel=40))") as capture:
        failed = capture.until("error")
    assert failed["error"].startswith("microphone pulse: cannot be opened (Error opening InputStream: Invalid number")


@pytest.mark.slow
def test_sound_that_finds_no_room_is_counted_and_shows_as_a_gap(pulse: "Pulse") -> None:
    pulse.start()
    with Capture(pulse, "portaudio.QUEUE_BLOCKS = 50\nnap_s = 3.0\nhear(card())") as capture:
        capture.until("hears")
        gap_s = capture.until("gap_s")["gap_s"]
        last = capture.end()[-1]
    # The queue holds 1 s of the 3.
    assert 1.5 < gap_s < 2.5
    assert (last["overflows"], last["restarts"], last["interruptions"]) == (1, 2, 0)


@pytest.mark.slow
def test_without_portaudio_everything_imports_and_the_remedy_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", NO_PORTAUDIO], capture_output=True, text=True, check=True)
    sentence = "PortAudio: the library is not installed; sudo apt install libportaudio2\n"
    assert done.stdout == 2 * sentence


class Told:
    """Notes what a sound card tells its clock."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.restarts = 0

    def add(self, sample: int, monotonic_ns: int, driver_sigma_s: float = 0.0) -> None:
        del monotonic_ns, driver_sigma_s
        self.samples.append(sample)

    def add_pps(self, samples: Samples, first: int) -> None:
        raise NotImplementedError

    def restart(self, frame_s: float | None = None) -> None:
        del frame_s
        self.restarts += 1

    def timing(self, sample: float) -> Timing:
        raise NotImplementedError


def delivery(number: int, *, late_s: float = 0.0, lost: bool = False, adc_s: float | None = None) -> Delivery:
    """Return what a callback brings 25 ms after the sound; its card counts monotonic time."""
    recorded_s = 1000.0 + number * 0.02 + late_s
    now_s = recorded_s + 0.025
    adc_s = recorded_s if adc_s is None else adc_s
    monotonic_ns = round(now_s * 1e9)
    return Delivery(np.zeros(BLOCK, np.float32), None, adc_s, now_s, monotonic_ns, START_NS + monotonic_ns, lost)


def heard(*deliveries: Delivery) -> tuple[SoundCard, Told, list[int]]:
    """Have a sound card hear deliveries; return it, its clock, and the first sample of each block."""
    clock = Told()
    card = SoundCard(None, RATE_HZ, 1, clock)
    settling = [delivery(number) for number in range(-SETTLING_BLOCKS, 0)]
    for one in (*settling, *deliveries):
        card._intake.deliveries.put(one)
    card._intake.end()
    return card, clock, [block.first for block in card._hear() if len(block.samples)]


def test_a_sound_card_is_a_source() -> None:
    source: Source = SoundCard(None, RATE_HZ, 1, Told())
    assert source.sample_rate_hz == RATE_HZ


def test_what_the_driver_lost_shows_as_a_gap_as_long_as_the_times_say() -> None:
    card, clock, firsts = heard(delivery(0), delivery(1), delivery(2, late_s=0.5, lost=True), delivery(3, late_s=0.5))
    assert firsts == clock.samples
    assert firsts == pytest.approx([0, 960, 1920 + 24_000, 2880 + 24_000], abs=1)
    assert (card.overflows, clock.restarts) == (1, 1)


def test_samples_that_are_late_all_of_a_sudden_come_after_lost_ones_though_nobody_says_so() -> None:
    card, clock, firsts = heard(delivery(0), delivery(1, late_s=0.3), delivery(2, late_s=0.3))
    assert firsts == pytest.approx([0, 960 + 14_400, 1920 + 14_400], abs=1)
    assert (card.overflows, clock.restarts) == (1, 1)


def test_a_block_whose_callback_alone_is_late_follows_the_last() -> None:
    punctual = delivery(1)
    late = Delivery(punctual.samples, None, 1000.02, 1003.0, 1_003_000_000_000, START_NS, lost=False)
    card, clock, firsts = heard(delivery(0), late, delivery(2))
    assert firsts == [0, 960, 1920]
    assert (card.overflows, clock.restarts) == (0, 0)


def test_an_overflow_loses_at_least_one_sample_whatever_the_times_say() -> None:
    assert samples_lost(delivery(0), delivery(0, lost=True), RATE_HZ) == 1


@given(st.floats(0.0, 100.0), st.booleans())
def test_a_gap_is_at_least_as_long_as_what_was_lost(lost_s: float, driver_says_so: bool) -> None:
    before, after = delivery(0), delivery(1, late_s=lost_s, lost=driver_says_so)
    assert is_broken(before, after, RATE_HZ) == (driver_says_so or lost_s > 0.25)
    assert samples_lost(before, after, RATE_HZ) >= lost_s * RATE_HZ - 1e-3


class Times:
    """What PortAudio hands to a callback beside the sound."""

    inputBufferAdcTime = 1.0  # noqa: N815 - PortAudio's names
    currentTime = 1.025  # noqa: N815
    input_overflow = False


def test_what_finds_no_room_in_the_queue_is_told_with_what_comes_next() -> None:
    intake = Intake(1, 0)
    frames = np.arange(2 * BLOCK, dtype=np.float32).reshape(BLOCK, 2)
    for _ in range(QUEUE_BLOCKS + 3):
        intake.take(frames, BLOCK, Times, Times)
    kept = [intake.deliveries.get_nowait() for _ in range(QUEUE_BLOCKS)]
    intake.take(frames, BLOCK, Times, Times)
    intake.take(frames, BLOCK, Times, Times)
    kept += [intake.deliveries.get_nowait() for _ in range(2)]
    assert [one.lost for one in kept if one is not None] == [False] * QUEUE_BLOCKS + [True, False]


def test_a_callback_queues_copies_of_its_channels_and_reads_both_clocks_at_once() -> None:
    intake = Intake(1, 0)
    frames = np.arange(2 * BLOCK, dtype=np.float32).reshape(BLOCK, 2)
    before_ns = time.monotonic_ns(), time.time_ns()
    intake.take(frames, BLOCK, Times, Times)
    frames[:] = 0
    one = intake.deliveries.get_nowait()
    assert one is not None
    assert one.pps is not None
    assert np.array_equal(one.samples, np.arange(1, 2 * BLOCK, 2))
    assert np.array_equal(one.pps, np.arange(0, 2 * BLOCK, 2))
    assert before_ns[0] <= one.monotonic_ns <= time.monotonic_ns()
    assert before_ns[1] <= one.utc_ns <= time.time_ns()
