"""PortAudio: what it delivers, and how to live with it where it is missing, out of date or hangs."""

import atexit
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.errors import AudioError
from soundranger_node.timekeeping.domain import driver_sigma_s, recorded_monotonic_ns
from soundranger_node.timekeeping.system_clock import read_clocks

# What the queue may hold while the pipeline is busy: with blocks of 20 ms 30 s, and 6 MB at 48 kHz.
QUEUE_BLOCKS = 1500


@dataclass(frozen=True)
class Delivery:
    """What one callback brought: samples, those of the PPS beside them, and clocks; `lost` is said of what came before.

    `adc_s` (of the first sample) and `current_s` (of the call) are on the sound card's own clock; CLOCK_MONOTONIC and
    CLOCK_REALTIME were read in the call.
    """

    samples: Samples
    pps: Samples | None
    adc_s: float
    current_s: float
    monotonic_ns: int
    utc_ns: int
    lost: bool

    def recorded_ns(self, sample_rate_hz: float) -> int:
        """Return the CLOCK_MONOTONIC time of the first sample."""
        block_s = len(self.samples) / sample_rate_hz
        return recorded_monotonic_ns(self.adc_s, self.current_s, self.monotonic_ns, self.utc_ns, block_s)

    @property
    def driver_sigma_s(self) -> float:
        """How far the driver's idea of its delay may be off."""
        return driver_sigma_s(self.current_s, self.monotonic_ns, self.utc_ns)


class Intake:
    """What PortAudio calls for one opening of a microphone; it only queues. Channels count from 0."""

    def __init__(self, channel: int, pps_channel: int | None) -> None:
        self.deliveries: queue.Queue[Delivery | None] = queue.Queue(QUEUE_BLOCKS)
        self._channel = channel
        self._pps_channel = pps_channel
        self._full = False

    def take(self, frames: NDArray[np.float32], _count: int, times: Any, status: Any) -> None:
        """Queue what the sound card brings; what finds no room is lost, and the next that does says so."""
        now = read_clocks()
        delivery = Delivery(
            samples=frames[:, self._channel].copy(),
            pps=None if self._pps_channel is None else frames[:, self._pps_channel].copy(),
            adc_s=times.inputBufferAdcTime,
            current_s=times.currentTime,
            monotonic_ns=now.monotonic_ns,
            utc_ns=now.utc_ns,
            lost=bool(status.input_overflow) or self._full,
        )
        try:
            self.deliveries.put_nowait(delivery)
        except queue.Full:
            self._full = True
        else:
            self._full = False

    def end(self) -> None:
        """Queue that no more will come: PortAudio gave up the stream."""
        # Where there is no room, the queue runs dry, and that tells, too.
        with suppress(queue.Full):
            self.deliveries.put_nowait(None)


def begin(work: Callable[[], AudioError | None]) -> Future[AudioError | None]:
    """Start work in a thread that may hang without keeping the process from its end."""
    job: Future[AudioError | None] = Future()

    def run() -> None:
        try:
            job.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            job.set_exception(error)

    threading.Thread(target=run, name="PortAudio", daemon=True).start()
    return job


@contextmanager
def own_stderr() -> Iterator[None]:
    """Give standard error back at the end: PortAudio's start takes it away meanwhile, and may hang."""
    kept = os.dup(2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def list_anew(sounddevice: ModuleType) -> None:
    """Make PortAudio look for devices: it knows only those that were there when it was started."""
    while sounddevice._initialized:  # noqa: SLF001 - the way that its author names for this
        sounddevice._terminate()  # noqa: SLF001
    sounddevice._initialize()  # noqa: SLF001


def abandon() -> None:
    """Keep a PortAudio that hangs from hanging the end of the process, too."""
    if handler := getattr(sys.modules.get("sounddevice"), "_exit_handler", None):
        atexit.unregister(handler)


def library() -> ModuleType:
    """Return sounddevice; imported late, because importing it needs PortAudio and starts it."""
    try:
        import sounddevice  # noqa: PLC0415 - only a node with a microphone needs it
    except OSError:
        raise AudioError("PortAudio", "the library is not installed", "sudo apt install libportaudio2") from None
    else:
        module: ModuleType = sounddevice
        return module
