"""Map tiles from a PMTiles file: what is served of it, and what is said of a file that cannot be used."""

import gzip
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pmtiles.tile import Compression, TileType
from tests.broker.tile_files import PROTOMAPS, WORLD, image_file, png, square, vector_file, write_tiles

from soundranger_broker import cli
from soundranger_broker.web.app import PageSettings, create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.server import serve
from soundranger_broker.web.tile_file import TileFile, plain_text
from soundranger_node.errors import InputError

HOST = "127.0.0.1"
BLUE = (20, 60, 200)


@contextmanager
def served(path: Path, attribution: str = "") -> Iterator[httpx.Client]:
    server = serve(create_app(Hub(), PageSettings(str(path), attribution)), HOST, 0)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{server.port}") as client:
            yield client
    finally:
        server.stop()


def told(client: httpx.Client) -> Any:
    return client.get("/api/snapshot").json()["tiles"]


def test_tiles_come_out_of_the_file_and_where_there_is_none_nothing_does(tmp_path: Path) -> None:
    with served(image_file(tmp_path / "town.pmtiles", BLUE, [WORLD, (1, 1, 0)])) as client:
        tile = client.get("/tiles/1/1/0")
        assert tile.content == png(BLUE)
        assert tile.headers["content-type"] == "image/png"
        for nowhere in ("/tiles/1/0/0", "/tiles/1/5/0", "/tiles/1/-1/0", "/tiles/2/0/0", "/tiles/99999/0/0"):
            assert client.get(nowhere).status_code == 204
        assert client.get("/tiles/a/b/c").status_code == 422


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [(TileType.JPEG, "image/jpeg"), (TileType.WEBP, "image/webp"), (TileType.AVIF, "image/avif")],
)
def test_images_of_each_kind_are_served_as_what_they_are(tmp_path: Path, kind: TileType, media_type: str) -> None:
    with served(write_tiles(tmp_path / "town.pmtiles", kind, {WORLD: b"picture"}, {})) as client:
        tile = client.get("/tiles/0/0/0")
        assert not told(client)["is_vector"]
    assert (tile.content, tile.headers["content-type"]) == (b"picture", media_type)


def test_packed_vector_tiles_are_served_as_they_are_stored(tmp_path: Path) -> None:
    with served(vector_file(tmp_path / "town.pmtiles", [WORLD])) as client:
        tile = client.get("/tiles/0/0/0")
        assert told(client)["is_vector"]
    assert tile.headers["content-encoding"] == "gzip"
    assert tile.content == square("earth")


def test_a_tile_that_a_browser_has_is_not_sent_again(tmp_path: Path) -> None:
    with served(image_file(tmp_path / "town.pmtiles", BLUE, [WORLD])) as client:
        tag = client.get("/tiles/0/0/0").headers["etag"]
        again = client.get("/tiles/0/0/0", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_learns_what_the_file_says_of_itself_and_asks_no_other_server(tmp_path: Path) -> None:
    path = image_file(
        tmp_path / "town.pmtiles", BLUE, [(2, 1, 1), (3, 2, 2)], '<a href="https://x.example">&copy; X</a>'
    )
    with served(path) as client:
        assert told(client) == {
            "url": "tiles/{z}/{x}/{y}",
            "attribution": "© X",
            "is_vector": False,
            "min_zoom": 2,
            "max_zoom": 3,
        }
        assert "img-src 'self' data:;" in client.get("/").headers["content-security-policy"]
    with served(path, "Somebody else") as client:
        assert told(client)["attribution"] == "Somebody else"


def test_every_tile_of_a_file_with_leaf_directories_is_found(tmp_path: Path) -> None:
    # Of random lengths, so that the directory does not pack into the root.
    chance, zoom = random.Random(1), 7
    places = [(zoom, x, y) for x in range(1 << zoom) for y in range(1 << zoom)]
    tiles = {place: chance.randbytes(chance.randrange(8, 250)) for place in places}
    path = write_tiles(tmp_path / "town.pmtiles", TileType.PNG, tiles, {})
    file = TileFile(str(path))
    assert int.from_bytes(path.read_bytes()[48:56], "little") > 0
    assert all(file.tile(*place) == tile for place, tile in tiles.items())


def test_an_attribution_is_shown_as_its_text() -> None:
    assert plain_text("<a href='x'>Proto&shy;maps</a>\n &copy; <b>Open</b>StreetMap") == "Proto\xadmaps © OpenStreetMap"
    assert plain_text("1 < 2 & 3") == "1 < 2 & 3"


def changed(at: int, to: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:at] + to + whole[at + len(to) :]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda _: b"", "is no PMTiles file"),
        (lambda _: b"PK\x03\x04" + bytes(200), "is no PMTiles file"),
        (lambda whole: whole[:100], "is no PMTiles file"),
        (changed(7, b"\x02"), "is no PMTiles file of version 3"),
        (changed(99, b"\x00"), "a kind that cannot be shown"),
        (changed(99, b"\x06"), "a kind that cannot be shown"),
        (changed(99, b"\xff"), "a kind that cannot be shown"),
        (changed(98, b"\x03"), "a kind that cannot be shown"),
        (changed(97, b"\x01"), "not packed with gzip"),
        (lambda whole: whole[:-1], "is cut off"),
        (changed(8, b"\xff" * 8), "is cut off"),
        (changed(127, bytes(20)), "is damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[bytes], bytes], problem: str
) -> None:
    path = image_file(tmp_path / "town.pmtiles", BLUE, [WORLD])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=problem):
        create_app(Hub(), PageSettings(str(path)))


@pytest.mark.parametrize("metadata", [[], {"vector_layers": 3}, {"attribution": {}}])
def test_metadata_of_another_shape_is_damage(tmp_path: Path, metadata: Any) -> None:
    path = image_file(tmp_path / "town.pmtiles", BLUE, [WORLD])
    whole = path.read_bytes()
    packed = gzip.compress(str(metadata).replace("'", '"').encode())
    place = len(whole).to_bytes(8, "little") + len(packed).to_bytes(8, "little")
    path.write_bytes(changed(24, place)(whole) + packed)
    with pytest.raises(InputError, match="is damaged"):
        TileFile(str(path))


@pytest.mark.parametrize("metadata", [{}, {"vector_layers": [{"id": "transportation"}, {"id": "water"}]}])
def test_vector_tiles_that_the_page_would_leave_empty_are_refused(tmp_path: Path, metadata: dict[str, Any]) -> None:
    tiles = {WORLD: gzip.compress(square("water"))}
    path = write_tiles(tmp_path / "town.pmtiles", TileType.MVT, tiles, metadata, Compression.GZIP)
    with pytest.raises(InputError, match="not laid out as Protomaps'"):
        TileFile(str(path))
    TileFile(str(write_tiles(path, TileType.MVT, tiles, PROTOMAPS, Compression.GZIP)))


@pytest.mark.parametrize("name", ["nothing.pmtiles", "folder.pmtiles"])
def test_a_file_that_is_missing_or_a_folder_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.pmtiles").mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(.+\); name a PMTiles file"):
        TileFile(str(tmp_path / name))


def test_the_centre_ends_at_once_where_its_tile_file_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "town.pmtiles"
    command = ["soundranger-broker", "run", "--tiles", str(missing), "--database", str(tmp_path / "memory.sqlite")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith("cannot be read (No such file or directory); name a PMTiles file")
