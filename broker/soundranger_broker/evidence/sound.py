"""Clips and pieces of recordings as sound: decoded within bounds, whatever their files promise."""

import io
from typing import Final

import numpy as np
import soundfile

from soundranger_broker.evidence.case import Trace
from soundranger_node.audiofile import MAX_RATE_HZ, MIN_RATE_HZ
from soundranger_node.errors import InputError
from soundranger_node.messages import ClipHeader, Detection
from soundranger_node.recordings import Recording
from soundranger_node.utc import NS_PER_S

# What of a longer recording is shown around a detection.
BEFORE_S, AFTER_S = 0.5, 1.5
# More than twice what a node gives; a FLAC file of silence can promise hours in a few bytes.
MOST_S: Final = 10.0


def trace_of(node: str, header: ClipHeader, flac: bytes) -> Trace:
    """Return the sound of a clip.

    Raises:
        InputError: it is no sound, or another rate than its header says.
    """
    subject = f"the clip of detection {header.detection} of node {node}"
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as file:
            rate_hz = file.samplerate
            if rate_hz != header.sample_rate_hz or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise InputError(subject, f"has {rate_hz} samples a second, and says {header.sample_rate_hz}")
            samples = file.read(round(MOST_S * rate_hz), dtype="float32", always_2d=True)[:, 0]
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(subject, f"is no sound that can be read ({error})") from None
    return Trace(node, header.detection, header.start_ns, float(rate_hz), np.ascontiguousarray(samples))


def trace_in(recording: Recording, detection: Detection) -> Trace:
    """Return the sound around a detection in a recording.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with soundfile.SoundFile(recording.file) as file:
            rate_hz = file.samplerate
            onset = (detection.time_ns - recording.start_ns) / NS_PER_S * rate_hz
            first = min(max(0, round(onset - BEFORE_S * rate_hz)), file.frames)
            file.seek(first)
            samples = file.read(round((BEFORE_S + AFTER_S) * rate_hz), dtype="float32", always_2d=True)[:, 0]
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise InputError(str(recording.file), f"cannot be read ({error})") from None
    start_ns = recording.start_ns + round(first / rate_hz * NS_PER_S)
    return Trace(detection.node, detection.id, start_ns, float(rate_hz), np.nan_to_num(samples, posinf=0.0, neginf=0.0))
