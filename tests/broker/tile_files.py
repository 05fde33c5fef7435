"""Makes small PMTiles files: images of one colour, and vector tiles of one square."""

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer

# Over all the places that the browser tests use, and far beyond them.
WORLD = (0, 0, 0)
EXTENT = 4096
PROTOMAPS: dict[str, Any] = {"vector_layers": [{"id": "earth", "fields": {}}]}

Place = tuple[int, int, int]


def write_tiles(
    path: Path,
    kind: TileType,
    tiles: Mapping[Place, bytes],
    metadata: Mapping[str, Any],
    packed: Compression = Compression.NONE,
) -> Path:
    """Write a file of `tiles`, each at zoom, x, y."""
    with path.open("wb") as file:
        # The library has types for its reading half only.
        writer = Writer(file)  # type: ignore[no-untyped-call]
        for place, tile in sorted(tiles.items(), key=lambda item: zxy_to_tileid(*item[0])):
            writer.write_tile(zxy_to_tileid(*place), tile)  # type: ignore[no-untyped-call]
        writer.finalize({"tile_type": kind, "tile_compression": packed}, dict(metadata))  # type: ignore[no-untyped-call]
    return path


def image_file(path: Path, colour: tuple[int, int, int], places: list[Place], attribution: str = "") -> Path:
    tiles = dict.fromkeys(places, png(colour))
    return write_tiles(path, TileType.PNG, tiles, {"attribution": attribution})


def vector_file(path: Path, places: list[Place], attribution: str = "", layer: str = "earth") -> Path:
    tiles = dict.fromkeys(places, gzip.compress(square(layer)))
    metadata = {**PROTOMAPS, "attribution": attribution}
    return write_tiles(path, TileType.MVT, tiles, metadata, Compression.GZIP)


def png(colour: tuple[int, int, int], size_px: int = 256) -> bytes:
    rows = (b"\0" + bytes(colour) * size_px) * size_px
    header = struct.pack(">IIBBBBB", size_px, size_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def square(layer: str) -> bytes:
    """Return a vector tile (MVT 2.1) that one square of one layer fills."""
    side = EXTENT << 1  # In zigzag, as all coordinates.
    # Move to a corner, three lines, close.
    drawn = (9, 0, 0, 26, side, 0, 0, side, side - 1, 0, 15)
    feature = _number(3, 3) + _bytes(4, b"".join(map(_varint, drawn)))
    body = _number(15, 2) + _bytes(1, layer.encode()) + _bytes(2, feature) + _number(5, EXTENT)
    return _bytes(3, body)


def _varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
