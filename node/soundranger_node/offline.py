"""Detection on audio files: the rows that `soundranger-node detect` prints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from soundranger_node.audiofile import FileSource
from soundranger_node.blocks import Block
from soundranger_node.detector import Detector, Impulse
from soundranger_node.pipeline import Heard, Pipeline
from soundranger_node.recordings import Recording

Row = dict[str, Any]
# Called with how many more samples have been worked on.
Progress = Callable[[int], None]


def recording_rows(recording: Recording, advance: Progress) -> Iterator[Row]:
    """Yield each detection of a recording as the wire contract has it, with `file` and `onset_s` in it.

    Raises:
        InputError: the file cannot be used.
    """
    source = FileSource(recording.file, recording.start_ns)
    pipeline = Pipeline(
        node=recording.node,
        boot=recording.boot,
        place=recording.place,
        timebase=source.timebase,
        detector=Detector(source.sample_rate_hz),
        temperature_c=recording.temperature_c,
    )
    for block in _counted(source, advance):
        yield from _detection_rows(pipeline.push(block), recording)
    yield from _detection_rows(pipeline.flush(), recording)


def plain_rows(path: Path, advance: Progress) -> Iterator[Row]:
    """Yield each impulse of a file of which neither place nor time is known: what can be said without these.

    Raises:
        InputError: the file cannot be used.
    """
    source = FileSource(path)
    detector = Detector(source.sample_rate_hz)
    for block in _counted(source, advance):
        yield from _impulse_rows(detector.push(block), source)
    yield from _impulse_rows(detector.flush(), source)


def _counted(source: FileSource, advance: Progress) -> Iterator[Block]:
    for block in source.blocks():
        yield block
        advance(len(block.samples))


def _detection_rows(heard: list[Heard], recording: Recording) -> Iterator[Row]:
    for one in heard:
        place_in_file = {"file": str(recording.file), "onset_s": (one.detection.time_ns - recording.start_ns) / 1e9}
        yield msgspec.to_builtins(one.detection) | place_in_file


def _impulse_rows(impulses: list[Impulse], source: FileSource) -> Iterator[Row]:
    for impulse in impulses:
        row = msgspec.to_builtins(impulse)
        onset_s = row.pop("onset_sample") / source.sample_rate_hz
        yield {"file": str(source.path), "onset_s": onset_s, "time_sigma_s": row.pop("onset_sigma_s"), **row}
