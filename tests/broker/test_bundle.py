"""The evidence bundle: all that is known of an event, the same bytes each time, and nothing that a page could run."""

import html.parser
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from tests.broker.conftest import EPOCH_NS, Town
from tests.broker.evidence_case import MADE_NS, Kept, keep_a_bang

from soundranger_broker.evidence.bundle import bundle
from soundranger_broker.evidence.contents import line_of, lines_of, payload_of
from soundranger_broker.evidence.markup import escaped, tag
from soundranger_broker.storage import audit, reading
from soundranger_broker.storage.store import Batch, Clip, NoEventError, Store
from soundranger_node.messages import ClipHeader


@pytest.fixture
def kept(tmp_path: Path, town: Town) -> Iterator[Kept]:
    store = Store.open(str(tmp_path / "centre.db"))
    yield keep_a_bang(store, town)
    store.close()


def contents(made: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_holds_the_very_bytes_that_came_in_and_were_told(kept: Kept) -> None:
    files = contents(bundle(kept.store, kept.event.id, MADE_NS))
    with kept.store.engine.begin() as connection:
        reports = reading.reports_of(connection, kept.event.id)
    assert lines_of(files["detections.jsonl"]) == [report.payload for report in reports]
    revisions = [msgspec.json.decode(line) for line in lines_of(files["revisions.jsonl"])]
    assert [one["event"]["status"] for one in revisions] == ["preliminary", "final"]
    assert msgspec.json.decode(files["event.json"], type=type(kept.event)) == kept.event
    clips = [msgspec.json.decode(line) for line in lines_of(files["clips.jsonl"])]
    assert {one["node"]: files[one["file"]] for one in clips} == {one.node: one.flac for one in kept.clips}
    assert len(lines_of(files["statuses.jsonl"])) == len(kept.detections)
    assert msgspec.json.decode(files["review.json"])["reviewer"] == "Ann"
    settings = msgspec.json.decode(files["settings.json"])
    assert [one["body"] for one in settings["logged"]] == ['{"tiles":null}']
    assert len(settings["temperatures_c"]) == len(kept.detections)


def test_the_log_in_a_bundle_goes_from_the_events_first_entry_to_the_newest_which_names_the_bundles_files(
    kept: Kept,
) -> None:
    files = contents(bundle(kept.store, kept.event.id, MADE_NS))
    log = [msgspec.json.decode(line) for line in lines_of(files["log.jsonl"])]
    assert [one["seq"] for one in log] == list(range(log[0]["seq"], kept.store.head().seq + 1))
    assert log[0]["subject"] == kept.event.id
    assert log[-1]["kind"] == "export"
    assert log[-1]["hash"] == kept.store.head().hash
    named = msgspec.json.decode(log[-1]["body"])["files"]
    assert set(named) == set(files) - {"manifest.json", "log.jsonl"}
    with kept.store.engine.begin() as connection:
        assert list(audit.verify(connection)) == []


def test_the_same_store_and_time_give_the_same_bytes(kept: Kept, tmp_path: Path) -> None:
    kept.store.close()
    shutil.copy(tmp_path / "centre.db", tmp_path / "copy.db")
    other = Store.open(str(tmp_path / "copy.db"))
    assert bundle(other, kept.event.id, MADE_NS) == bundle(kept.store, kept.event.id, MADE_NS)
    other.close()


def test_an_event_of_which_more_is_told_meanwhile_is_bundled_with_that(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = kept.store.writing, list[int]()

    def interrupted() -> Any:
        if not calls:
            calls.append(1)
            kept.store.review(kept.event.id, "fireworks", "Bob", "", EPOCH_NS + 70_000_000_000)
        return real()

    with monkeypatch.context() as patch:
        patch.setattr(kept.store, "writing", interrupted)
        files = contents(bundle(kept.store, kept.event.id, MADE_NS))
    assert msgspec.json.decode(files["review.json"])["reviewer"] == "Bob"
    exports = [one for one in lines_of(files["log.jsonl"]) if b'"kind":"export"' in one]
    assert len(exports) == 1


def test_there_is_no_bundle_of_an_event_that_is_not_there(kept: Kept) -> None:
    with pytest.raises(NoEventError):
        bundle(kept.store, "no-such-event", MADE_NS)


def test_a_payload_with_line_breaks_survives_in_one_line() -> None:
    for payload in (b'{"a":\n1}', b"{\n}", b'{"a":"\xff",\r\n"b":2}', b'{"a":1}'):
        line = line_of(payload)
        assert b"\n" not in line
        assert payload_of(line) == payload


def sound_header(kept: Kept) -> ClipHeader:
    return ClipHeader(detection=kept.detections[0].id, start_ns=EPOCH_NS, sample_rate_hz=16_000)


PAGE = "div html head meta title style body h1 h2 p section figure figcaption table thead tbody tr th td code"
PICTURES = "svg rect circle ellipse line path polyline polygon text"
ELEMENTS = {*PAGE.split(), *PICTURES.split()}


class Page(html.parser.HTMLParser):
    """Collects the names of elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_says_where_when_and_how_surely_and_runs_nothing(kept: Kept) -> None:
    text = contents(bundle(kept.store, kept.event.id, MADE_NS))["report.html"].decode()
    page = Page(text)
    assert page.names <= ELEMENTS
    assert not {name for name in page.attributes if name.startswith("on") or name in {"href", "src", "style"}}
    assert f"{kept.event.lat:.6f}, {kept.event.lon:.6f}" in page.text
    assert "three rounds <b>" in page.text
    for one in kept.detections:
        assert page.text.count(one.node) >= 4
    assert page.text.count("signed") >= len(kept.detections)
    for svg in text.split("<svg")[1:]:
        ET.fromstring("<svg" + svg.partition("</svg>")[0] + "</svg>")


def test_script_in_a_name_or_a_note_is_text() -> None:
    assert str(tag("p", "<script>alert(1)</script>", title='"><img>')) == (
        '<p title="&quot;&gt;&lt;img&gt;">&lt;script&gt;alert(1)&lt;/script&gt;</p>'
    )
    assert escaped("a\x00b\u202ec") == "a\ufffdb\ufffdc"


def test_an_event_without_clips_and_with_a_clip_that_is_no_sound_has_a_report(tmp_path: Path, town: Town) -> None:
    store = Store.open(str(tmp_path / "other.db"))
    kept = keep_a_bang(store, town, signed=False, clips=False)
    one = Clip(kept.detections[0].node, sound_header(kept), MADE_NS, b"fLaC" + bytes(100))
    store.keep(Batch(clips=[one]))
    files = contents(bundle(store, kept.event.id, MADE_NS))
    assert "clips/001-node-04.flac" in files
    assert b"unsigned" in files["report.html"]
    store.close()


def test_a_detection_that_retention_took_is_said_to_be_gone(kept: Kept) -> None:
    with kept.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM detections WHERE node = 'node-04'")
    assert b"Not kept any more: " in contents(bundle(kept.store, kept.event.id, MADE_NS))["report.html"]
