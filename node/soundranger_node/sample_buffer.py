"""A buffer of the last samples of a stream, addressed by their place in the stream."""

import numpy as np

from soundranger_node.blocks import Samples

# Half a second at 48 kHz and more than the detector looks back: few moves, next to no memory.
START_CAPACITY = 2**15


class SampleBuffer:
    """Consecutive samples from `start` to before `end`; appending and forgetting cost no copy of what is kept.

    Both ends count samples of the stream. What `samples` returned changes with the next `append`.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        # What number of the stream the first element of the array has.
        self._origin = start
        self._array = np.empty(START_CAPACITY, np.float32)

    def append(self, samples: Samples) -> None:
        """Add samples, shape (n,), at the end."""
        end = self.end + len(samples)
        if end - self._origin > len(self._array):
            self._move(end - self.start)
        self._array[self.end - self._origin : end - self._origin] = samples
        self.end = end

    def samples(self, start: int, end: int) -> Samples:
        """Return samples `start` to before `end`, as far as they are there."""
        return self._array[max(start, self.start) - self._origin : max(min(end, self.end) - self._origin, 0)]

    def forget(self, before: int) -> None:
        """Drop the samples before `before`."""
        self.start = min(max(self.start, before), self.end)

    def _move(self, needed: int) -> None:
        """Move what is kept to the front, of a larger array where this one would be full again at once."""
        kept = self._array[self.start - self._origin : self.end - self._origin]
        target = self._array if 2 * needed <= len(self._array) else np.empty(2 * needed, np.float32)
        target[: len(kept)] = kept
        self._array, self._origin = target, self.start
