"""Place and time that evidence files carry: read where they are good, refused where they are not, never a crash."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.errors import InputError
from soundranger_node.evidence import Chunk, chunks, read_evidence

GOOD: dict[str, Any] = {
    "serialNumber": "SCP-00-BNG-4922",
    "startTimeUTC": "2022-09-18T05:20:53.332Z",
    "geolocation": {"latitude": 41.695707, "longitude": -87.630295, "elevation": 194.0},
    "weather": {"temperature": 25.0, "relativeHumidity": None},
    "zone": {"name": "somewhere"},
}


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2) for name, content in parts
    )
    return struct.pack("<4sI4s", b"RIFF", len(body) + 4, b"WAVE") + body


def evidence(path: Path, about: Any) -> Path:
    path.write_bytes(
        riff((b"fmt ", b"\1" * 16), (b"data", b"\0" * 7), (b"smj0", zlib.compress(json.dumps(about).encode())))
    )
    return path


def test_place_time_node_and_temperature_are_read(tmp_path: Path) -> None:
    found = read_evidence(evidence(tmp_path / "a.wav", GOOD))
    assert found is not None
    assert found.file == tmp_path / "a.wav"
    assert found.node == "scp-00-bng-4922"
    assert found.start_ns == 1_663_478_453_332_000_000
    assert (found.lat, found.lon, found.alt_m, found.temperature_c) == (41.695707, -87.630295, 194.0, 25.0)


def test_without_weather_the_temperature_is_unknown(tmp_path: Path) -> None:
    found = read_evidence(evidence(tmp_path / "a.wav", GOOD | {"weather": {"temperature": None}}))
    assert found is not None
    assert found.temperature_c is None


@pytest.mark.parametrize("content", [b"", b"RIFF", b"text", riff((b"data", b"\0" * 100))])
def test_a_file_without_such_a_chunk_carries_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert read_evidence(tmp_path / "a.wav") is None


@pytest.mark.parametrize(
    "about",
    [
        [],
        {},
        GOOD | {"geolocation": {"latitude": 91, "longitude": 0, "elevation": 0}},
        GOOD | {"geolocation": None},
        GOOD | {"startTimeUTC": "2022-09-18T05:20:53.332"},
        GOOD | {"serialNumber": "../../etc"},
        GOOD | {"serialNumber": 7},
    ],
)
def test_values_that_cannot_be_are_one_sentence(tmp_path: Path, about: Any) -> None:
    with pytest.raises(InputError, match="chunk smj0") as raised:
        read_evidence(evidence(tmp_path / "a.wav", about))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"no zlib",
        zlib.compress(json.dumps(GOOD).encode())[:-10],
        zlib.compress(b" " * 100_000_000),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"\xff\xfe{"),
    ],
)
def test_a_damaged_chunk_or_a_zip_bomb_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(riff((b"smj0", content)))
    with pytest.raises(InputError, match="chunk smj0"):
        read_evidence(tmp_path / "a.wav")


def test_chunks_are_found_also_after_odd_ones_and_the_last_may_be_cut_off() -> None:
    whole = riff((b"abcd", b"123"), (b"data", b"\0" * 10))
    assert list(chunks(io.BytesIO(whole[:-4]))) == [Chunk(b"abcd", 20, 3, 3), Chunk(b"data", 32, 10, 6)]


@given(st.binary(max_size=400))
def test_garbage_has_chunks_within_itself_or_none(garbage: bytes) -> None:
    content = b"RIFF" + garbage
    for chunk in chunks(io.BytesIO(content)):
        assert chunk.start + chunk.present <= len(content)
        assert chunk.present <= chunk.promised


def test_a_file_of_countless_empty_chunks_ends_soon() -> None:
    assert len(list(chunks(io.BytesIO(b"RIFF" + bytes(8_000_000))))) <= 1_000
