"""The sound card: blocks of samples from a microphone, each dated, through unplugged cables and stalled drivers."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from soundranger_node.blocks import Block, Samples, Timebase
from soundranger_node.errors import AudioError
from soundranger_node.gain import Wanted, settle
from soundranger_node.portaudio import Delivery, Intake, abandon, begin, library, list_anew, own_stderr
from soundranger_node.timekeeping.bus import frame_s

# Short enough to add little delay, long enough that a Pi Zero is not woken for nothing.
BLOCK_S = 0.02
# What the driver may hold while Python is busy elsewhere. PortAudio's own "high" is 43 ms, hardly two blocks.
DRIVER_S = 0.1
# While there is no sound, an empty block comes at least this often: whoever hears has other work to do, too.
BEAT_S = 1.0
# A sound card that runs gives a block every 20 ms; USB hiccups last well under a second.
STALL_BEATS = 2
# PulseAudio takes two seconds to give the first sound.
START_BEATS = 5
# PulseAudio first claims a delay of up to 0.7 s that it does not have, and takes 1.3 s to find out: until then its
# times are early, and a clock that looks for the most punctual block would believe them. So much sound is not heard.
SETTLING_BLOCKS = 100
# Where PortAudio hangs with a driver, only a new process gets out, and it forgets the noise level and the clock: first
# the driver gets this long to come back.
HANG_BEATS = 30
# How soon a microphone that is gone is asked for again, and how seldom it is at last: asking costs a Pi 0.1 s.
RETRY_S = 1.0
MAX_RETRY_S = 30.0
# A sound card that works closes within a few blocks.
CLOSE_S = 2.0
# A microphone of two channels is often wired to give nothing with one; more than two nobody needs unasked.
USUAL_CHANNELS = 2
# Samples that are late by this much all of a sudden come after others that were lost, whether the driver says so or
# not. What a driver thinks its delay to be jumps by less.
UNSAID_LOSS_S = 0.25
# Pa_OpenStream: paInvalidSampleRate and paInvalidChannelCount. The device is there; waiting mends nothing.
WRONG_SETTING = (-9997, -9998)
# What a status may hold.
PROBLEM_LENGTH = 256

# ALSA lists its cards here, with the speed of their bus.
CARDS = Path("/proc/asound/cards")

_LOG = logging.getLogger(__name__)


class Dater(Timebase, Protocol):
    """What SoundCard tells of time to; it dates the samples in return."""

    def add(self, sample: int, monotonic_ns: int, driver_sigma_s: float = 0.0) -> None:
        """Take the CLOCK_MONOTONIC time at which a sample, the first of a block, was recorded: or later."""
        ...

    def add_pps(self, samples: Samples, first: int) -> None:
        """Take the samples of the channel that carries the PPS; `first` counts the samples before them."""
        ...

    def restart(self, frame_s: float | None = None) -> None:
        """Begin anew with the next block: samples were lost before it, and nobody knows how many.

        Where a card was opened, `frame_s` is the frame of its bus.
        """
        ...


@dataclass(frozen=True)
class InputDevice:
    """A microphone as the system lists it: its name and number, its channels and its usual sample rate."""

    number: int
    name: str
    channels: int
    sample_rate_hz: float


def samples_lost(before: Delivery, after: Delivery, sample_rate_hz: float) -> int:
    """Return how many samples are missing between two deliveries, or a few more, from their times; at least 1."""
    recorded_ns = after.recorded_ns(sample_rate_hz) - before.recorded_ns(sample_rate_hz)
    passed_ns = max(recorded_ns, after.monotonic_ns - before.monotonic_ns)
    return max(1, ceil(passed_ns * 1e-9 * sample_rate_hz) - len(before.samples))


def is_broken(before: Delivery, after: Delivery, sample_rate_hz: float) -> bool:
    """Return whether samples were lost between two deliveries, as the driver says or as their times show."""
    recorded_ns = after.recorded_ns(sample_rate_hz) - before.recorded_ns(sample_rate_hz)
    return after.lost or recorded_ns * 1e-9 > len(before.samples) / sample_rate_hz + UNSAID_LOSS_S


def devices() -> list[InputDevice]:
    """Return the inputs that the system offers.

    Raises:
        AudioError: PortAudio is missing.
    """
    return [
        InputDevice(found["index"], found["name"], found["max_input_channels"], found["default_samplerate"])
        for found in library().query_devices()
        if found["max_input_channels"] > 0
    ]


def _cards() -> str:
    """Return ALSA's list of cards; nothing where there is no ALSA."""
    try:
        return CARDS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class SoundCard:
    """A Source that hears one channel (counted from 1) of a sound card, for ever; `clock` becomes its timebase.

    `pps_channel` is handed to the clock beside it. `wanted` says what becomes of gain control and the like (see
    `soundranger_node.gain`); `processing` lists what of it is still on. `problem` says in one sentence why there is
    no sound just now. `overflows` counts the gaps where the computer was too slow for the sound, `interruptions` how
    often the microphone went away or fell silent. Where there is no sound, an empty block comes at least every
    second; after a gap of any kind `Block.first` is ahead by at least as much as was lost.
    """

    def __init__(
        self,
        device: str | int | None,
        sample_rate_hz: int,
        channel: int,
        clock: Dater,
        *,
        pps_channel: int | None = None,
        wanted: Wanted = "accept",
    ) -> None:
        self.problem: str | None = None
        self.processing: list[str] = []
        self.overflows = 0
        self.interruptions = 0
        self._device = device
        self._sample_rate_hz = sample_rate_hz
        self._channels = (channel - 1, None if pps_channel is None else pps_channel - 1)
        self._clock = clock
        self._wanted = wanted
        self._closed = threading.Event()
        self._stream: Any = None
        self._intake = Intake(*self._channels)
        self._last: Delivery | None = None
        self._anew = False
        self._frame_s: float | None = None
        self._next = 0
        self._retry_s = 0.0

    @property
    def sample_rate_hz(self) -> float:
        """The nominal rate of the samples."""
        return float(self._sample_rate_hz)

    @property
    def timebase(self) -> Dater:
        """Dates the samples that `blocks` has yielded so far."""
        return self._clock

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of 20 ms until `close`, and empty ones while there is no sound; call it once.

        A microphone that is not there, or goes, is waited for. What waiting cannot mend is raised.

        Raises:
            AudioError: PortAudio is missing or hangs, the device never worked and cannot give this sample rate or
                these channels, or it processes its sound and this is refused.
        """
        try:
            while True:
                yield from self._open()
                yield from self._hear()
                if self._closed.is_set():
                    return
                yield self._silence()
                yield from self._patiently(self._disconnect)
        finally:
            self._leave()

    def close(self) -> None:
        """End `blocks` within about a second; safe from any thread, and more than once."""
        self._closed.set()

    def _open(self) -> Iterator[Block]:
        """Open the microphone, as soon as it is there."""
        while not self._closed.is_set():
            yield from self._pause(self._retry_s)
            self._retry_s = min(max(RETRY_S, 2 * self._retry_s), MAX_RETRY_S)
            problem = yield from self._patiently(self._connect)
            if problem is None:
                return
            self._report(problem)

    def _pause(self, duration_s: float) -> Iterator[Block]:
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0 and not self._closed.wait(min(left_s, BEAT_S)):
            yield self._silence()

    def _hear(self) -> Iterator[Block]:
        """Yield what the open microphone gives once its times are to be believed, until it gives no more."""
        missed, patience, settling = 0, START_BEATS, SETTLING_BLOCKS
        while not self._closed.is_set():
            try:
                delivery = self._intake.deliveries.get(timeout=BEAT_S)
            except queue.Empty:
                missed += 1
                if missed >= patience:
                    self._interrupted(f"has given no sound for {missed * BEAT_S:g} s")
                    return
                yield self._silence()
                continue
            if delivery is None:
                self._interrupted("has stopped")
                return
            missed, patience = 0, STALL_BEATS
            if settling:
                settling -= 1
                yield self._silence()
            else:
                yield self._dated(delivery)

    def _dated(self, delivery: Delivery) -> Block:
        """Return a delivery as a block, once the clock knows of it."""
        self._recovered()
        if self._last is not None and (self._anew or is_broken(self._last, delivery, self._sample_rate_hz)):
            if not self._anew:
                self.overflows += 1
                self._clock.restart()
            self._next += samples_lost(self._last, delivery, self._sample_rate_hz)
        if self._anew:
            self._clock.restart(self._frame_s)
        block = Block(delivery.samples, self._next)
        self._clock.add(block.first, delivery.recorded_ns(self._sample_rate_hz), delivery.driver_sigma_s)
        if delivery.pps is not None:
            self._clock.add_pps(delivery.pps, block.first)
        self._last, self._anew = delivery, False
        self._next += len(block.samples)
        return block

    def _silence(self) -> Block:
        return Block(np.empty(0, np.float32), self._next)

    def _interrupted(self, why: str) -> None:
        self.interruptions += 1
        self._report(AudioError(self._name, why, "check its cable; it is asked for again until it answers"))

    def _report(self, error: AudioError) -> None:
        """Say once what is wrong."""
        problem = str(error)[:PROBLEM_LENGTH]
        if problem != self.problem:
            _LOG.error("%s", error)
            self.problem = problem

    def _recovered(self) -> None:
        self._retry_s = RETRY_S
        if self.problem is not None:
            _LOG.warning("%s gives sound again", self._name)
            self.problem = None

    def _patiently(self, work: Callable[[], AudioError | None]) -> Generator[Block, None, AudioError | None]:
        """Return what `work` returns, or None where `close` comes first; yield empty blocks meanwhile.

        Raises:
            AudioError: the work hangs; or what it raises.
        """
        with own_stderr():
            job = begin(work)
            for _ in range(HANG_BEATS):
                if wait([job], BEAT_S).done or self._closed.is_set():
                    break
                yield self._silence()
        if job.done():
            return job.result()
        abandon()
        if self._closed.is_set():
            return None
        raise AudioError("PortAudio", f"hangs with {self._name}", "start the node anew, as its service does by itself")

    def _connect(self) -> AudioError | None:
        """Open the microphone anew; return why that is not possible just now, if so.

        Raises:
            AudioError: as `blocks`.
        """
        sounddevice = library()
        there = "none"
        try:
            list_anew(sounddevice)
            there = ", ".join(f"{listed.number} {listed.name}" for listed in devices()) or there
            found = sounddevice.query_devices(self._device, "input")
            self.processing = settle(found["name"], self._wanted)
            self._frame_s = frame_s(found["name"], _cards())
            self._start(sounddevice, found["max_input_channels"])
        except (sounddevice.PortAudioError, ValueError) as error:
            why = f"cannot be opened ({' '.join(str(error).split())})"
            problem = AudioError(self._name, why, f"check its cable and [microphone]; there are: {there}")
            if self._last is None and error.args[1:2] and error.args[1] in WRONG_SETTING:
                raise problem from None
            return problem
        return None

    def _start(self, sounddevice: ModuleType, offered: int) -> None:
        """Start a stream; a device offers so many channels."""
        channel, pps_channel = self._channels
        self._intake = Intake(channel, pps_channel)
        self._anew = True
        self._stream = sounddevice.InputStream(
            samplerate=self._sample_rate_hz,
            blocksize=round(BLOCK_S * self._sample_rate_hz),
            device=self._device,
            channels=max(channel + 1, (pps_channel or 0) + 1, min(USUAL_CHANNELS, offered)),
            # Of what a card offers PortAudio takes the finest, and float32 holds 24 bits of it.
            dtype="float32",
            latency=DRIVER_S,
            callback=self._intake.take,
            finished_callback=self._intake.end,
        )
        self._stream.start()

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _leave(self) -> None:
        """Close the microphone, if its driver allows it."""
        if not wait([begin(self._disconnect)], CLOSE_S).done:
            abandon()

    @property
    def _name(self) -> str:
        return "the default microphone" if self._device is None else f"microphone {self._device}"
