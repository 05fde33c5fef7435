"""Map tiles of a PMTiles file as a person sees them, in a real browser that can reach this machine only."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from tests.broker.browsing import CHROMIUM, HOST, PATIENCE_MS, PLACES, Visit, event, status, visit_with
from tests.broker.tile_files import WORLD, image_file, vector_file

from soundranger_broker.web.app import PageSettings
from soundranger_broker.web.hub import Hub

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]

BLUE = (20, 60, 200)
# Protomaps' colours of the ground.
LIGHT_EARTH = [226, 223, 218, 255]
DARK_EARTH = [31, 31, 31, 255]
# The colour in the middle of each tile that is drawn; an image is copied to a canvas for that.
COLOURS = """
[...document.querySelectorAll(".leaflet-tile-pane .leaflet-tile-loaded")].map((tile) => {
  let canvas = tile;
  if (tile.tagName === "IMG") {
    canvas = document.createElement("canvas");
    canvas.width = canvas.height = 256;
    canvas.getContext("2d").drawImage(tile, 0, 0);
  }
  const middle = canvas.width / 2;
  return [...canvas.getContext("2d").getImageData(middle, middle, 1, 1).data];
})
"""


def visit(browser: Browser, path: Path, colours: Literal["light", "dark"] = "light") -> Iterator[Visit]:
    hub = Hub()
    for node in PLACES:
        hub.publish(status(node))
    hub.publish(event())
    size: Any = {"width": 800, "height": 600}
    yield from visit_with(browser, hub, PageSettings(str(path)), viewport=size, color_scheme=colours)


def tile_over_the_nodes(zoom: int) -> tuple[int, int, int]:
    lat, lon = PLACES["mill-1"]
    north = math.asinh(math.tan(math.radians(lat))) / math.pi
    return zoom, int((lon + 180) / 360 * 2**zoom), int((1 - north) / 2 * 2**zoom)


def wait_for_tiles(visit: Visit) -> list[list[int]]:
    expect(visit.page.locator(".leaflet-tile-pane .leaflet-tile-loaded").first).to_be_visible()
    expect(visit.page.locator(".leaflet-tile-pane .leaflet-tile:not(.leaflet-tile-loaded)")).to_have_count(0)
    colours: list[list[int]] = visit.page.evaluate(COLOURS)
    return colours


def test_images_are_drawn_and_scaled_beyond_what_the_file_has(browser: Browser, tmp_path: Path) -> None:
    path = image_file(tmp_path / "town.pmtiles", BLUE, [WORLD, tile_over_the_nodes(10)], "&copy; <b>Some</b>body")
    for page in visit(browser, path):
        page.open()
        assert set(map(tuple, wait_for_tiles(page))) == {(*BLUE, 255)}
        expect(page.page.locator(".attribution")).to_have_text("© Somebody")
        asked = {urlsplit(url).path for url in page.requests if "/tiles/" in url}
        assert asked == {"/tiles/{}/{}/{}".format(*tile_over_the_nodes(10))}
        assert page.complaints == []


@pytest.mark.parametrize(("colours", "earth"), [("light", LIGHT_EARTH), ("dark", DARK_EARTH)])
def test_vector_tiles_are_drawn_and_scaled_in_the_colours_of_the_page(
    browser: Browser, tmp_path: Path, colours: Literal["light", "dark"], earth: list[int]
) -> None:
    path = vector_file(tmp_path / "town.pmtiles", [WORLD, tile_over_the_nodes(10)], "&copy; <b>Some</b>body")
    for page in visit(browser, path, colours):
        page.open()
        drawn = wait_for_tiles(page)
        assert len(drawn) > 4
        assert all(colour == earth for colour in drawn)
        expect(page.page.locator(".attribution")).to_have_text("© Somebody")
        assert {urlsplit(url).hostname for url in page.requests} == {HOST}
        assert page.complaints == []


def test_vector_tiles_change_their_colours_along_with_the_page(browser: Browser, tmp_path: Path) -> None:
    path = vector_file(tmp_path / "town.pmtiles", [tile_over_the_nodes(10)])
    for page in visit(browser, path):
        page.open()
        wait_for_tiles(page)
        page.page.emulate_media(color_scheme="dark")
        until = time.monotonic() + PATIENCE_MS / 1e3
        while any(colour != DARK_EARTH for colour in wait_for_tiles(page)):
            assert time.monotonic() < until
        expect(page.page.locator(".leaflet-layer.vectors")).to_have_count(1)


def test_the_grid_stays_in_sight_where_a_file_holds_nothing(browser: Browser, tmp_path: Path) -> None:
    for page in visit(browser, vector_file(tmp_path / "elsewhere.pmtiles", [(10, 0, 0)])):
        page.open()
        assert set(map(tuple, wait_for_tiles(page))) == {(0, 0, 0, 0)}
        expect(page.page.locator(".grid canvas").first).to_be_visible()
        assert page.complaints == []


def test_a_page_without_vector_tiles_fetches_nothing_to_draw_them(browser: Browser, tmp_path: Path) -> None:
    for page in visit(browser, image_file(tmp_path / "town.pmtiles", BLUE, [WORLD])):
        page.open()
        wait_for_tiles(page)
        assert not any("protomaps" in url for url in page.requests)
