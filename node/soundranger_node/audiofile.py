"""Audio files as a source of sound: WAV, FLAC and whatever else libsndfile reads, block by block."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from soundranger_node.blocks import Block, Timing
from soundranger_node.errors import InputError
from soundranger_node.evidence import chunks
from soundranger_node.messages import ClockTier
from soundranger_node.recordings import START_SIGMA_S

BLOCK_S = 0.25
# Below 8 kHz an onset is blurred beyond use; above 192 kHz there is no sound card.
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
# Less is no recording: the detector looks at 30 ms at once.
MIN_DURATION_S = 0.03
# A length at the end of what its 32 bits can say stands for "not known": the recorder wrote into a pipe.
UNKNOWN_LENGTH = 0x7FFF_0000
NOT_AUDIO = "give a WAV or FLAC file"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileTimebase:
    """Dates the samples of a file from the UTC of its first one."""

    start_ns: int
    sample_rate_hz: float
    sigma_s: float = START_SIGMA_S
    # Nobody vouches for the clock that stamped a file.
    tier: ClockTier = "free"

    def timing(self, sample: float) -> Timing:
        """Return the UTC of a sample."""
        return Timing(self.start_ns + round(sample / self.sample_rate_hz * 1e9), {"start": self.sigma_s}, self.tier)


class FileSource:
    """A Source that reads the first channel of an audio file, from its start each time.

    `start_ns` is the UTC of the first sample, 1970 where it is not known. A file that is shorter than its header says
    gives what there is; samples that are no finite numbers become zeros. Both are logged as warnings, and so is a file
    of digital silence.

    Raises:
        InputError: from the constructor and from `blocks`: the file cannot be read or is no recording.
    """

    def __init__(self, path: Path, start_ns: int = 0) -> None:
        self.path = path
        self._closed = False
        self._start_ns = start_ns
        with self._open() as file:
            self._sample_rate_hz = file.samplerate
            self.frames: int = file.frames
        self._check()

    @property
    def sample_rate_hz(self) -> float:
        """The rate that the file states."""
        return float(self._sample_rate_hz)

    @property
    def timebase(self) -> FileTimebase:
        """Dates samples by the start of the file."""
        return FileTimebase(self._start_ns, self.sample_rate_hz)

    def blocks(self) -> Iterator[Block]:
        """Yield the file in blocks of a quarter of a second."""
        size = round(BLOCK_S * self._sample_rate_hz)
        self._warn_if_cut_off()
        first = 0
        not_finite = 0
        silent = True
        with self._open() as file:
            while not self._closed:
                try:
                    samples = file.read(size, dtype="float32", always_2d=True)[:, 0]
                except soundfile.LibsndfileError as error:
                    _LOG.warning("%s: is damaged after %.2f s (%s); the rest is left out", *self._where(first), error)
                    break
                if not len(samples):
                    break
                finite = np.isfinite(samples)
                silent = silent and not samples.any()
                not_finite += len(samples) - int(np.count_nonzero(finite))
                yield Block(np.where(finite, samples, np.float32(0)), first)
                first += len(samples)
        if silent:
            _LOG.warning("%s: holds nothing but digital silence; check the microphone", self.path)
        if not_finite:
            _LOG.warning("%s: %d samples are no finite numbers; they were taken as silence", self.path, not_finite)

    def close(self) -> None:
        """End `blocks` with the next block."""
        self._closed = True

    def _where(self, sample: int) -> tuple[Path, float]:
        return self.path, sample / self._sample_rate_hz

    def _open(self) -> soundfile.SoundFile:
        try:
            # libsndfile reports a file that cannot be opened as a "system error".
            self.path.open("rb").close()
            return soundfile.SoundFile(self.path)
        except OSError as error:
            raise InputError(str(self.path), f"cannot be read ({error.strerror})", NOT_AUDIO) from None
        except soundfile.LibsndfileError as error:
            why = error.error_string.rstrip(".")
            raise InputError(str(self.path), f"is not an audio file that can be read ({why})", NOT_AUDIO) from None
        except TypeError:
            # soundfile asks for the sample rate of a file that is named .raw.
            raise InputError(str(self.path), "does not say its sample rate", NOT_AUDIO) from None

    def _check(self) -> None:
        if not MIN_RATE_HZ <= self._sample_rate_hz <= MAX_RATE_HZ:
            problem = f"has a sample rate of {self._sample_rate_hz} Hz"
            raise InputError(str(self.path), problem, f"give one of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if self.frames < MIN_DURATION_S * self._sample_rate_hz:
            samples = "no sample" if self.frames == 0 else f"only {self.frames} samples, too few for a sound"
            raise InputError(str(self.path), f"holds {samples}", "check that the recording was completed")

    def _warn_if_cut_off(self) -> None:
        with self.path.open("rb") as file:
            data = next((chunk for chunk in chunks(file) if chunk.name == b"data"), None)
        if data is not None and data.present < data.promised < UNKNOWN_LENGTH:
            share = data.present / data.promised
            _LOG.warning("%s: is cut off: %.0f %% of the sound it promises is there, and used", self.path, 100 * share)
