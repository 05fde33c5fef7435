"""Examining others' recordings: evidence WAVs or a table of files, and a report of every bang in them."""

import csv
import json
import os
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.broker.conftest import Town
from tests.broker.evidence_case import sound_of, write_sound

from soundranger_broker.evidence.examine import examine, listen, recordings_in, summary, write
from soundranger_broker.geodesy import Frame
from soundranger_node.errors import InputError
from soundranger_node.messages import EVENT, Detection, Event

DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[3] / "shared" / "data")
BENCH = DATA.parent / "bench"
BANG_M = (50.0, -80.0)


def utc(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, tz=UTC):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}Z"


def record(folder: Path) -> list[tuple[Path, Detection, int]]:
    """Write what the nodes of a town hear of a bang: a file a node, with the node's report and the file's start."""
    rng = np.random.default_rng(3)
    made = []
    for one in Town().hear(*BANG_M, 1.0, rng):
        detection, clip = sound_of(one, rng)
        write_sound(folder / f"{one.node}.wav", clip)
        made.append((folder / f"{one.node}.wav", detection, clip.header.start_ns))
    return made


def with_table(folder: Path) -> None:
    rows = [
        (path.name, one.node, utc(start_ns), one.lat, one.lon, one.alt_m, one.temperature_c)
        for path, one, start_ns in record(folder)
    ]
    with (folder / "recordings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "node", "start_time", "lat", "lon", "alt_m", "temperature_c"), *rows])


def with_chunks(folder: Path) -> None:
    for path, one, start_ns in record(folder):
        about = {
            "serialNumber": one.node.upper(),
            "startTimeUTC": utc(start_ns),
            "geolocation": {"latitude": one.lat, "longitude": one.lon, "elevation": one.alt_m},
            "weather": {"temperature": one.temperature_c},
        }
        packed = zlib.compress(json.dumps(about).encode())
        wav = path.read_bytes() + struct.pack("<4sI", b"smj0", len(packed)) + packed + b"\0" * (len(packed) % 2)
        path.write_bytes(wav[:4] + struct.pack("<I", len(wav) - 8) + wav[8:])


def off_m(event: Event) -> float:
    town = Town()
    place = Frame(town.lat, town.lon).to_enu(event.lat, event.lon)[:2]
    return float(np.linalg.norm(place - BANG_M))


@pytest.mark.parametrize("made", [with_table, with_chunks])
def test_a_bang_in_recordings_is_located_where_it_was_and_reported(tmp_path: Path, made: Any) -> None:
    made(tmp_path)
    recordings, problems = recordings_in(tmp_path)
    assert problems == []
    listened = listen(recordings, pytest.fail)
    (case,) = examine(listened, "some folder")
    assert off_m(case.event) < 3.0
    assert len(case.traces) == len(case.event.arrivals)
    page = write(tmp_path / "out", listened, [case], "some <folder>")
    assert f'<a href="{case.event.id}.html">' in page.read_text()
    assert "some &lt;folder&gt;" in page.read_text()
    report = (page.parent / f"{case.event.id}.html").read_text()
    assert "<polygon" in report
    assert "signature" not in report
    assert (page.parent / f"{case.event.id}.svg").read_text().startswith("<svg ")
    (line,) = (page.parent / "events.jsonl").read_bytes().splitlines()
    assert EVENT.decode(line) == case.event
    impulses = sum(len(one.detections) for one in listened)
    assert len((page.parent / "detections.jsonl").read_bytes().splitlines()) == impulses
    assert summary(listened, [case]).endswith("; one bang located")


def test_three_nodes_make_no_bang_and_that_is_said(tmp_path: Path) -> None:
    with_chunks(tmp_path)
    for path in sorted(tmp_path.glob("*.wav"))[3:]:
        path.unlink()
    listened = listen(recordings_in(tmp_path)[0], pytest.fail)
    assert examine(listened, "f") == []
    assert "no bang was located: that takes four nodes" in summary(listened, [])
    assert "No bang could be located" in write(tmp_path / "out", listened, [], "f").read_text()
    assert examine([], "f") == []


def test_what_cannot_be_used_is_said_and_the_rest_examined(tmp_path: Path) -> None:
    with_chunks(tmp_path)
    (tmp_path / "a.wav").write_text("text")
    (tmp_path / "b.wav").write_bytes(min(tmp_path.glob("node-*.wav")).read_bytes()[:2_000])
    recordings, problems = recordings_in(tmp_path)
    assert [str(tmp_path / name) in str(one) for one, name in zip(problems, ("a.wav", "b.wav"), strict=True)]
    assert len(recordings) == 9
    (tmp_path / "node-00.wav").write_text("text")
    said: list[str] = []
    assert len(listen(recordings, said.append)) == 8
    assert len(said) == 1
    assert "node-00.wav: is not an audio file" in said[0]


@pytest.mark.parametrize("content", [None, {}, {"notes.txt": "x"}, {"a.wav": "x"}, {"recordings.csv": "x"}])
def test_a_folder_without_recordings_is_one_sentence(tmp_path: Path, content: dict[str, str] | None) -> None:
    folder = tmp_path / "folder"
    for name, text in (content or {}).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(InputError) as raised:
        recordings_in(folder)
    assert "\n" not in str(raised.value)


def test_an_examination_replaces_no_other(tmp_path: Path) -> None:
    write(tmp_path / "out", [], [], "f")
    with pytest.raises(InputError, match="holds the files of another examination"):
        write(tmp_path / "out", [], [], "f")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "out", [], [], "f")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "soundranger_broker", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_an_incident_of_shotspotter_is_located_by_all_its_sensors(tmp_path: Path) -> None:
    folder = DATA / "shotspotter-wav" / "chicago-incident-556267"
    if not folder.is_dir():
        pytest.skip(f"the evidence WAVs are not at {DATA}; set SOUNDRANGER_DATA to where they are")
    done = command("examine", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "one bang located" in done.stderr
    event = EVENT.decode((tmp_path / "out" / "events.jsonl").read_bytes().strip())
    assert [one.used for one in event.arrivals] == [True] * 4
    assert max(abs(one.residual_s) for one in event.arrivals) < 0.003
    assert event.ellipse95.semi_major_m < 15.0


@pytest.mark.slow
def test_live_fire_is_located_where_it_was_surveyed(tmp_path: Path) -> None:
    if not (DATA / "livefire").is_dir() or not (BENCH / "livefire.py").is_file():
        pytest.skip(f"the live-fire data is not at {DATA}; set SOUNDRANGER_DATA to where it is")
    subprocess.run(
        [sys.executable, BENCH / "livefire.py", DATA / "livefire", "--out", tmp_path], check=True, capture_output=True
    )
    done = command("examine", tmp_path / "FP3", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    shots = [json.loads(line) for line in (tmp_path / "FP3" / "truth.jsonl").read_text().splitlines()]
    events = [EVENT.decode(line) for line in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    assert len(events) == 12
    for event in events:
        shot = min(shots, key=lambda one: abs(one["time_ns"] - event.time_ns))
        assert np.linalg.norm(Frame(event.lat, event.lon).to_enu(shot["lat"], shot["lon"])[:2]) < 10.0


@pytest.mark.slow
def test_the_command_says_in_one_sentence_what_is_in_the_way(tmp_path: Path) -> None:
    done = command("examine", tmp_path / "missing")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
