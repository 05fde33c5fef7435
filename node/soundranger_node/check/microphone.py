"""The microphone: whether PortAudio is there, the device opens, and real sound arrives from it."""

import os
import queue
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.check.machine import SERVICE, Service
from soundranger_node.check.result import Result, fails, of_error, ok, warning
from soundranger_node.config import Microphone
from soundranger_node.errors import AudioError
from soundranger_node.gain import Processing, Wanted, find
from soundranger_node.portaudio import library
from soundranger_node.soundcard import InputDevice, devices

# Long enough for a level, short enough to wait for.
LISTEN_S = 2.0
# A sound card that runs gives its first sound well within this, even through PulseAudio.
PATIENCE_S = 3.0
# Of the sound of LISTEN_S so much must come in LISTEN_S + PATIENCE_S.
ENOUGH_SHARE = 0.9
# One step of 16 bit: a microphone whose noise is below has its gain turned all the way down.
FAINT_DBFS = -90.0
# A microphone that hears a street is at -60 to -30; nearer to full scale than this, a shot has no room.
LOUD_DBFS = -20.0
FULL_SCALE = 0.9999
# A single sample at full scale may be a click of the plug.
CLIPPED_SAMPLES = 10

MIXER = "alsamixer"
BUSY_WORDS = ("unavailable", "busy")


@dataclass(frozen=True)
class Heard:
    """What came in LISTEN_S: the samples of the channel, shape (n,), and how many were wanted."""

    samples: Samples
    wanted: int


def judge_devices(found: Sequence[InputDevice]) -> Result:
    """Judge the list of microphones."""
    if not found:
        remedy = "plug one in, or load the driver of one on the Pi's pins; what the kernel sees lists"
        return fails("devices", "the system lists no microphone", remedy, "arecord -l")
    names = ", ".join(device.name for device in found)
    return ok("devices", f"{len(found)}: {names}")


def judge_unopened(name: str, why: str, service: Service) -> Result:
    """Judge why a microphone could not be opened; the node that runs as a service may hold it."""
    if service.runs and any(word in why for word in BUSY_WORDS):
        found = f"{name} is in use, as it should be: the node runs; what comes from it was not tried"
        command = f"sudo systemctl stop {SERVICE}; sudo -u soundranger {SERVICE} check; sudo systemctl start {SERVICE}"
        return warning("microphone", found, "to try it, stop the node meanwhile", command)
    if any(word in why for word in BUSY_WORDS):
        return fails(
            "microphone", f"{name} is in use by another program", "find and end it", "sudo fuser -v /dev/snd/*"
        )
    if "sample rate" in why.lower():
        remedy = "set [microphone] sample_rate_hz to a rate that it has, such as the usual one that is listed by"
        return fails("microphone", f"{name} does not have this sample rate", remedy, f"{SERVICE} devices")
    if "channels" in why.lower():
        remedy = "set [microphone] channel to one that it has; how many it has lists"
        return fails("microphone", f"{name} does not have this channel", remedy, f"{SERVICE} devices")
    remedy = "set [microphone] device to one of those listed by"
    return fails("microphone", f"{name} cannot be opened ({why})", remedy, f"{SERVICE} devices")


def judge_sound(name: str, heard: Heard) -> Result:
    """Judge what came from a microphone that was opened."""
    count = len(heard.samples)
    if count == 0:
        remedy = "unplug it and plug it in again, or look for the reason among the kernel's messages"
        return fails("microphone", f"{name} opens but gives no sound at all", remedy, "sudo dmesg | tail -20")
    if float(np.ptp(heard.samples)) == 0.0:
        remedy = "unmute it (M) and turn up its capture (F4), or try the other channel in [microphone]"
        return fails("microphone", f"{name} gives digital silence: every sample is the same", remedy, MIXER)
    if count < ENOUGH_SHARE * heard.wanted:
        found = f"only {count / heard.wanted:.0%} of the sound came from {name}"
        return fails(
            "microphone", found, "plug it in directly, without a hub, and see what else keeps the Pi busy", "top"
        )
    return _judge_level(name, heard.samples)


def _judge_level(name: str, samples: Samples) -> Result:
    level_dbfs = 20 * float(np.log10(np.std(samples.astype(np.float64))))
    clipped = int(np.count_nonzero(np.abs(samples) >= FULL_SCALE))
    found = f"{name} is heard at {level_dbfs:.0f} dBFS"
    if clipped >= CLIPPED_SAMPLES:
        return warning("microphone", f"{found}, with {clipped} samples clipped", "turn its capture (F4) down", MIXER)
    if level_dbfs > LOUD_DBFS:
        remedy = "if it is quiet outside, turn its capture (F4) down or look for hum from its supply"
        return warning("microphone", f"{found}, which leaves little room for a shot", remedy, MIXER)
    if level_dbfs < FAINT_DBFS:
        return warning("microphone", f"{found}, which is next to nothing", "turn its capture (F4) up", MIXER)
    return ok("microphone", found)


def judge_processing(found: Sequence[Processing], wanted: Wanted) -> Result:
    """Judge what changes the sound on its way here, by what the configuration wants done with it."""
    if not found:
        return ok("processing", "nothing is known to change the sound on its way here")
    names = f"{', '.join(one.name for one in found)} changes the sound on its way here"
    if wanted == "accept":
        return ok("processing", f'{names}; processing = "accept" takes it as it is')
    command = " && ".join(shlex.join(one.off) for one in found if one.off)
    if not all(one.off for one in found):
        remedy = 'nobody knows how to switch all of it off: take another microphone, or set processing = "accept"'
        return fails("processing", names, remedy, command)
    if wanted == "refuse":
        return fails("processing", f'{names}, and processing = "refuse" refuses it', "switch it off", command)
    return warning("processing", names, "the node switches it off when it starts; so do you with", command)


def probe(microphone: Microphone, service: Service) -> list[Result]:
    """Listen to a microphone for two seconds."""
    try:
        found = devices()
    except AudioError as error:
        return [of_error("PortAudio", error, "install it")]
    results = [ok("PortAudio", "is installed"), judge_devices(found)]
    if found:
        name = "the system's default" if microphone.device is None else f"{microphone.device}"
        try:
            results.append(judge_sound(name, listen(microphone)))
        except AudioError as error:
            results.append(judge_unopened(name, error.problem, service))
        else:
            name_in_full = library().query_devices(microphone.device, "input")["name"]
            results.append(judge_processing(find(name_in_full), microphone.processing))
    return results


def listen(microphone: Microphone) -> Heard:
    """Return LISTEN_S of sound, or what came of it in good time.

    Raises:
        AudioError: the device cannot be opened; the problem is PortAudio's.
    """
    sounddevice = library()
    wanted = round(LISTEN_S * microphone.sample_rate_hz)
    blocks: queue.Queue[NDArray[np.float32]] = queue.Queue()
    parts: list[NDArray[np.float32]] = []

    def take(frames: NDArray[np.float32], _count: int, _times: Any, _status: Any) -> None:
        blocks.put(frames[:, microphone.channel - 1].copy())

    try:
        offered = sounddevice.query_devices(microphone.device, "input")["max_input_channels"]
        channels = max(microphone.channel, min(2, offered))
        with (
            _silent_stderr(),
            sounddevice.InputStream(
                microphone.sample_rate_hz, device=microphone.device, channels=channels, dtype="float32", callback=take
            ),
        ):
            end_s = time.monotonic() + LISTEN_S + PATIENCE_S
            while sum(map(len, parts)) < wanted and (left_s := end_s - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    parts.append(blocks.get(timeout=left_s))
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError("microphone", str(error.args[0])) from None
    return Heard(np.concatenate(parts)[:wanted] if parts else np.zeros(0, np.float32), wanted)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what PortAudio writes to standard error away: it is for its authors, and its errors say the same."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
