"""The sound card: blocks of samples from a microphone, each with the time at which it was recorded."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Samples
from soundranger_node.errors import AudioError
from soundranger_node.timekeeping.domain import recorded_monotonic_ns
from soundranger_node.timekeeping.station_clock import StationClock

# Short enough to add little delay, long enough that a Pi Zero is not woken for nothing.
BLOCK_S = 0.02
# A sound card that runs gives a block every 20 ms; USB hiccups last well under a second.
STALL_S = 3.0
# A sound card that works closes within a few blocks.
CLOSE_S = 2.0
# What the queue may hold while the pipeline is busy: 6 MB at 48 kHz.
QUEUE_S = 30.0
# A microphone of two channels is often wired to give nothing with one; more than two nobody needs unasked.
USUAL_CHANNELS = 2


@dataclass(frozen=True)
class InputDevice:
    """A microphone as the system lists it: its name and number, its channels and its usual sample rate."""

    number: int
    name: str
    channels: int
    sample_rate_hz: float


@dataclass(frozen=True)
class Delivery:
    """What one callback brought: samples, the count of frames before them, the driver's times, and ours at its call.

    `adc_s` (of the first sample) and `current_s` (of the call) are on the sound card's own clock, in seconds.
    """

    samples: Samples
    first: int
    adc_s: float
    current_s: float
    monotonic_ns: int
    utc_ns: int
    overflow: bool

    def recorded_ns(self, sample_rate_hz: float) -> int:
        """Return the monotonic time of the first sample."""
        block_s = len(self.samples) / sample_rate_hz
        return recorded_monotonic_ns(self.adc_s, self.current_s, self.monotonic_ns, self.utc_ns, block_s)


def samples_lost(before: Delivery, after: Delivery, sample_rate_hz: float) -> int:
    """Return how many samples an overflow between two deliveries swallowed, from their ADC times; at least 1."""
    delivered = after.first - before.first
    passed = round((after.adc_s - before.adc_s) * sample_rate_hz)
    return max(1, passed - delivered)


def devices() -> list[InputDevice]:
    """Return the inputs that the system offers.

    Raises:
        AudioError: PortAudio is missing.
    """
    return [
        InputDevice(found["index"], found["name"], found["max_input_channels"], found["default_samplerate"])
        for found in _portaudio().query_devices()
        if found["max_input_channels"] > 0
    ]


class SoundCard:
    """A Source that hears one channel (counted from 1) of a sound card; `clock` becomes its timebase.

    `overflows` counts the gaps where the computer was too slow for the sound.
    """

    def __init__(self, device: str | int | None, sample_rate_hz: int, channel: int, clock: StationClock) -> None:
        self.overflows = 0
        self._device = device
        self._sample_rate_hz = sample_rate_hz
        self._channel = channel
        self._clock = clock
        self._closed = threading.Event()
        self._frames = 0
        self._deliveries: queue.Queue[Delivery | None] = queue.Queue(round(QUEUE_S / BLOCK_S))

    @property
    def sample_rate_hz(self) -> float:
        """The nominal rate of the samples."""
        return float(self._sample_rate_hz)

    @property
    def timebase(self) -> StationClock:
        """Dates the samples that `blocks` has yielded so far."""
        return self._clock

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of 20 ms until `close`; call it once.

        Raises:
            AudioError: PortAudio is missing, the device cannot be opened, or it stops giving samples.
        """
        stream = self._open()
        try:
            yield from self._dated()
        finally:
            # PortAudio waits for a device that hangs, for a minute or for ever: leave it to that.
            closing = threading.Thread(target=stream.close, name="close sound card", daemon=True)
            closing.start()
            closing.join(CLOSE_S)

    def close(self) -> None:
        """End `blocks` soon; safe from any thread, and more than once."""
        self._closed.set()
        # A full queue needs no token to wake its reader.
        with suppress(queue.Full):
            self._deliveries.put_nowait(None)

    def _open(self) -> Any:
        """Return a sounddevice.InputStream that runs."""
        sounddevice = _portaudio()
        try:
            offered = sounddevice.query_devices(self._device, "input")["max_input_channels"]
            stream = sounddevice.InputStream(
                samplerate=self._sample_rate_hz,
                blocksize=round(BLOCK_S * self._sample_rate_hz),
                device=self._device,
                channels=max(self._channel, min(USUAL_CHANNELS, offered)),
                dtype="float32",
                callback=self._take,
            )
            stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise self._failed(f"cannot be opened ({error.args[0]})") from None
        return stream

    def _take(self, frames: NDArray[np.float32], count: int, times: Any, status: Any) -> None:
        """Queue what the sound card brings; runs in PortAudio's thread. Frames that find no room are counted."""
        monotonic_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        samples = frames[:, self._channel - 1].copy()
        adc_s, current_s = times.inputBufferAdcTime, times.currentTime
        delivery = Delivery(samples, self._frames, adc_s, current_s, monotonic_ns, utc_ns, bool(status.input_overflow))
        self._frames += count
        with suppress(queue.Full):
            self._deliveries.put_nowait(delivery)

    def _dated(self) -> Iterator[Block]:
        """Yield the deliveries as blocks, with gaps where samples were lost."""
        lost = 0
        last: Delivery | None = None
        for delivery in self._delivered():
            if last and (delivery.overflow or delivery.first > last.first + len(last.samples)):
                self.overflows += 1
                lost += samples_lost(last, delivery, self._sample_rate_hz) if delivery.overflow else 0
                self._clock.restart()
            first = delivery.first + lost
            self._clock.add(first, delivery.recorded_ns(self._sample_rate_hz))
            yield Block(delivery.samples, first)
            last = delivery

    def _delivered(self) -> Iterator[Delivery]:
        while True:
            try:
                delivery = self._deliveries.get(timeout=STALL_S)
            except queue.Empty:
                raise self._failed(f"has given no sound for {STALL_S:g} s") from None
            if delivery is None or self._closed.is_set():
                return
            yield delivery

    def _failed(self, problem: str) -> AudioError:
        name = "the default microphone" if self._device is None else f"microphone {self._device}"
        return AudioError(name, problem, "check its cable and [microphone]; `soundranger-node devices` lists them all")


def _portaudio() -> ModuleType:
    """Return sounddevice; imported late, because importing it needs PortAudio and starts it."""
    try:
        import sounddevice  # noqa: PLC0415 - only a node with a microphone needs it
    except OSError:
        raise AudioError("PortAudio", "the library is not installed", "sudo apt install libportaudio2") from None
    else:
        module: ModuleType = sounddevice
        return module
