"""What every source of sound hands to the pipeline: blocks of samples, and a timebase that dates them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from math import hypot
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from soundranger_node.messages import ClockTier

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """Consecutive samples of one channel.

    `samples` has shape (n,), float32, full scale at -1 and 1. `first` counts the samples of the stream before this
    block; where it is more than the end of the last block, samples were lost between the two.
    """

    samples: Samples
    first: int


@dataclass(frozen=True)
class Moment:
    """A reading of the computer's monotonic clock: what a sample can be dated by once the system clock is good.

    `boot` is the kernel's id of the boot that the clock counts from; `sigma_s` is one standard deviation of the
    reading itself, for the sample it stands for.
    """

    boot: str
    monotonic_ns: int
    sigma_s: float


class Undatable(Enum):
    """Why a moment has no date: the clock is not good yet, or the moment is of another boot or too long ago."""

    YET = "yet"
    EVER = "ever"


@dataclass(frozen=True)
class Timing:
    """The UTC of a sample, the terms of its standard deviation by name, and the tier of the clock it rests on.

    `undated` is set where the system clock is not good yet: then `time_ns` is only what the clock says, and the sample
    is to be dated again from the moment.
    """

    time_ns: int
    terms_s: Mapping[str, float]
    tier: ClockTier
    undated: Moment | None = None

    @property
    def sigma_s(self) -> float:
        """One standard deviation of the time: all terms together."""
        return hypot(*self.terms_s.values())


class Timebase(Protocol):
    """Dates the samples of a stream."""

    def timing(self, sample: float) -> Timing:
        """Return the UTC of a sample of the stream, which may lie between two whole ones."""
        ...


class Source(Protocol):
    """A stream of sound: a sound card, a file or a simulated microphone."""

    @property
    def sample_rate_hz(self) -> float:
        """The nominal rate of the samples."""
        ...

    @property
    def timebase(self) -> Timebase:
        """Dates the samples that `blocks` has yielded so far."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield blocks as they come, until the source ends or is closed."""
        ...

    def close(self) -> None:
        """End `blocks` soon; safe from any thread, and more than once."""
        ...
