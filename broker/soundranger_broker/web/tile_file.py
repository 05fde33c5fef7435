"""Map tiles from a PMTiles file on this machine: reads it, and answers for one tile at a time."""

import functools
import gzip
import os
import weakref
import zlib
from html.parser import HTMLParser
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response, status
from pmtiles.tile import (
    Compression,
    Entry,
    HeaderDict,
    TileType,
    deserialize_directory,
    deserialize_header,
    find_tile,
    zxy_to_tileid,
)

from soundranger_node.errors import InputError

SUFFIX: Final = ".pmtiles"
# Where the page finds the tiles; relative, as all that it asks for.
TILE_URL: Final = "tiles/{z}/{x}/{y}"
MAGIC: Final = b"PMTiles\x03"
HEADER_BYTES: Final = 127
# A root directory and, in the largest files, leaves of leaves.
MAX_DEPTH: Final = 4
MEDIA_TYPES: Final = {
    TileType.MVT: "application/vnd.mapbox-vector-tile",
    TileType.PNG: "image/png",
    TileType.JPEG: "image/jpeg",
    TileType.WEBP: "image/webp",
    TileType.AVIF: "image/avif",
}
# What every browser unpacks by itself; some take brotli and zstd over HTTPS only.
ENCODINGS: Final[dict[Compression, dict[str, str]]] = {
    Compression.NONE: {},
    Compression.GZIP: {"Content-Encoding": "gzip"},
}
# The page draws the layers of Protomaps' basemap; vector tiles with none of these would stay empty.
DRAWN_LAYERS: Final = frozenset({"earth", "roads"})
# A directory takes milliseconds to unpack and up to some megabytes of memory; a town needs a few of them.
KEPT_DIRECTORIES: Final = 16
DAMAGE: Final = (OSError, EOFError, ValueError, IndexError, zlib.error, msgspec.DecodeError)


class _Layer(msgspec.Struct):
    id: str


class _Metadata(msgspec.Struct):
    """What is used of a file's metadata."""

    attribution: str | None = None
    vector_layers: list[_Layer] = []


class TileFile:
    """An open PMTiles file; it is read as the tiles are asked for, from any thread.

    `attribution` is what the file's makers want to see on the map, as plain text; `headers` go with every tile;
    `is_vector` is False where the tiles are images.

    Raises:
        InputError: it cannot be read, is none, is damaged, or holds tiles that the page cannot draw.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._file = os.open(name, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            start = os.pread(self._file, HEADER_BYTES, 0)
            state = os.fstat(self._file)
        except OSError as error:
            raise InputError(name, f"cannot be read ({error.strerror})", "name a PMTiles file") from None
        self._header = _header(name, start, state.st_size)
        self._directory = functools.lru_cache(KEPT_DIRECTORIES)(self._read_directory)
        metadata = self._metadata()
        self.is_vector = self._header["tile_type"] is TileType.MVT
        if self.is_vector and DRAWN_LAYERS.isdisjoint(layer.id for layer in metadata.vector_layers):
            raise InputError(
                name, "holds vector tiles that are not laid out as Protomaps' are", "take an extract of those"
            )
        self.attribution = plain_text(metadata.attribution or "")
        self.min_zoom = self._header["min_zoom"]
        self.max_zoom = self._header["max_zoom"]
        self.headers = {
            "Content-Type": MEDIA_TYPES[self._header["tile_type"]],
            "ETag": f'"{state.st_mtime_ns:x}-{state.st_size:x}"',
            **ENCODINGS[self._header["tile_compression"]],
        }

    def tile(self, zoom: int, x: int, y: int) -> bytes | None:
        """Return a tile as it is stored; None where the file has none there.

        Raises:
            OSError, EOFError, zlib.error: the file was damaged since it was opened.
        """
        if not (self.min_zoom <= zoom <= self.max_zoom and 0 <= x < 1 << zoom and 0 <= y < 1 << zoom):
            return None
        number = zxy_to_tileid(zoom, x, y)
        offset, length = self._header["root_offset"], self._header["root_length"]
        for _ in range(MAX_DEPTH):
            found: Entry | None = find_tile(self._directory(offset, length), number)
            if found is None:
                break
            if found.run_length > 0:
                return self._read(self._header["tile_data_offset"] + found.offset, found.length)
            offset, length = self._header["leaf_directory_offset"] + found.offset, found.length
        return None

    def _metadata(self) -> _Metadata:
        """Return the metadata, and see on the way that the root directory can be read."""
        try:
            self._directory(self._header["root_offset"], self._header["root_length"])
            packed = self._read(self._header["metadata_offset"], self._header["metadata_length"])
            return msgspec.json.decode(gzip.decompress(packed), type=_Metadata)
        except DAMAGE:
            raise InputError(self._name, "is damaged", "fetch it again") from None

    def _read_directory(self, offset: int, length: int) -> list[Entry]:
        return deserialize_directory(self._read(offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)


def add_tiles(app: FastAPI, file: TileFile) -> None:
    """Let an application serve the tiles of a file."""

    @app.get("/tiles/{zoom}/{x}/{y}", include_in_schema=False)
    def tile(request: Request, zoom: int, x: int, y: int) -> Response:
        if request.headers.get("if-none-match") == file.headers["ETag"]:
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": file.headers["ETag"]})
        found = file.tile(zoom, x, y)
        if found is None:
            # An empty vector tile; no image, but no error in the browser's log either.
            return Response(status_code=status.HTTP_204_NO_CONTENT)
        return Response(found, headers=file.headers)


def plain_text(html: str) -> str:
    """Return what a browser would show of HTML, on one line."""
    text = _Text()
    text.feed(html)
    text.close()
    return " ".join("".join(text.parts).split())


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _header(name: str, start: bytes, size: int) -> HeaderDict:
    if not start.startswith(MAGIC) or len(start) < HEADER_BYTES:
        raise InputError(name, "is no PMTiles file of version 3", "name one, or convert it with the pmtiles tool")
    try:
        header = deserialize_header(start)
    except ValueError:
        header = None
    if header is None or header["tile_type"] not in MEDIA_TYPES or header["tile_compression"] not in ENCODINGS:
        problem = "holds tiles of a kind that cannot be shown"
        raise InputError(name, problem, "PNG, JPEG, WebP, AVIF and MVT tiles can, packed with gzip or not at all")
    if header["internal_compression"] is not Compression.GZIP:
        raise InputError(name, "has directories that are not packed with gzip", "convert it with the pmtiles tool")
    ends = (
        header["root_offset"] + header["root_length"],
        header["metadata_offset"] + header["metadata_length"],
        header["leaf_directory_offset"] + header["leaf_directory_length"],
        header["tile_data_offset"] + header["tile_data_length"],
    )
    if max(ends) > size:
        raise InputError(name, "is cut off", "fetch it again")
    return header
