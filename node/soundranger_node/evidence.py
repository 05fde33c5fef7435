"""ShotSpotter evidence files: the place and time that their WAV files carry in a chunk of their own, `smj0`.

The chunk is zlib-compressed JSON. Examples are in the public repository
ShotSpotter/research.source-location-shotspotter-audio.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from soundranger_node.errors import InputError
from soundranger_node.recordings import Recording, recording

CHUNK = b"smj0"
# Real ones have 600 bytes, 1.5 kB of JSON.
MAX_COMPRESSED = 65_536
MAX_JSON = 1_048_576
# A WAV file has a handful; a file of a million empty ones is no reason to hang.
MAX_CHUNKS = 1_000
HEADER = struct.Struct("<4sI")


@dataclass(frozen=True)
class Chunk:
    """A chunk of a RIFF file: its name, where its content begins, how long it says that is, and how much is there."""

    name: bytes
    start: int
    promised: int
    present: int


class _Geolocation(msgspec.Struct):
    latitude: float
    longitude: float
    elevation: float


class _Weather(msgspec.Struct):
    temperature: float | None = None


class _Metadata(msgspec.Struct):
    serial_number: str = msgspec.field(name="serialNumber")
    start_time_utc: str = msgspec.field(name="startTimeUTC")
    geolocation: _Geolocation
    weather: _Weather | None = None


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a RIFF file, in order; nothing for any other file, and nothing after the first nonsense."""
    length = file.seek(0, 2)
    file.seek(0)
    if file.read(4) != b"RIFF":
        return
    position = 12
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            return
        name, promised = HEADER.unpack(header)
        start = position + HEADER.size
        yield Chunk(name, start, promised, min(promised, length - start))
        position = start + promised + promised % 2


def read_evidence(path: Path) -> Recording | None:
    """Return the recording that an evidence file says it is; None where the file carries nothing of the kind.

    Raises:
        InputError: the file cannot be read, or what it carries cannot be used.
    """
    try:
        with path.open("rb") as file:
            found = next((chunk for chunk in chunks(file) if chunk.name == CHUNK), None)
            if found is None:
                return None
            file.seek(found.start)
            compressed = file.read(min(found.present, MAX_COMPRESSED))
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})") from None
    try:
        return _recording(_inflated(compressed), path)
    except (zlib.error, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _bad(path, str(error)) from None
    except InputError as error:
        raise _bad(path, f"{error.subject} {error.problem}") from None


def _inflated(compressed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(compressed, MAX_JSON)
    if not inflater.eof:
        raise zlib.error("it is cut off or too large")
    return inflated


def _recording(text: bytes, path: Path) -> Recording:
    about = msgspec.json.decode(text, type=_Metadata)
    fields = {
        "file": path.name,
        "node": about.serial_number.lower(),
        "start_time": about.start_time_utc,
        "lat": about.geolocation.latitude,
        "lon": about.geolocation.longitude,
        "alt_m": about.geolocation.elevation,
        "temperature_c": about.weather.temperature if about.weather else None,
    }
    return recording(fields, path.parent)


def _bad(path: Path, why: str) -> InputError:
    return InputError(str(path), f"its place and time (chunk smj0) cannot be used ({why})", "give them by --recordings")
