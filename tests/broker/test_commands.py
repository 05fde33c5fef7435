"""The commands of the middle, run as a person runs them."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from soundranger_node.messages import DETECTION, EVENT, Event

if TYPE_CHECKING:
    from tests.broker.conftest import Town

COMMAND = [sys.executable, "-m", "soundranger_broker"]
DATA = Path(os.environ.get("SOUNDRANGER_DATA") or Path(__file__).parents[3] / "shared" / "data")
BENCH = DATA.parent / "bench"


def run(*arguments: str | Path, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if "compiling" not in line]


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def detections(town: "Town", tmp_path: Path) -> Path:
    """Three bangs half a minute apart, one detection a line."""
    rng = np.random.default_rng(4)
    heard = itertools.chain(*(town.hear(east, 150.0, 40.0 + east / 10, rng) for east in (-300.0, 0.0, 300.0)))
    path = tmp_path / "detections.jsonl"
    path.write_bytes(b"".join(DETECTION.encode(one) + b"\n" for one in heard))
    return path


def test_locate_writes_one_event_a_line_in_time_order(detections: Path, town: "Town") -> None:
    done = run("locate", detections)
    assert done.returncode == 0
    assert sentences(done) == []
    events = [EVENT.decode(line.encode()) for line in done.stdout.splitlines()]
    places = [town.offset_m(event.lat, event.lon) for event in events]
    assert [round(east / 100) for east, _ in places] == [-3, 0, 3]
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)


def test_locate_counts_lines_that_it_cannot_use_and_loses_no_good_one(detections: Path, tmp_path: Path) -> None:
    good = detections.read_bytes().splitlines()
    old, late = json.loads(good[0]), json.loads(good[1])
    old |= {"id": "old", "time_ns": 3_600 * 10**9}
    late |= {"id": "late", "time_ns": 3_786_912_000 * 10**9}
    bad = [b"{", b"no json", json.dumps(old).encode(), json.dumps(late).encode(), good[2], b"\xff\xfe", b"[1,2]"]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_bytes(b"\n".join(line for pair in itertools.zip_longest(good, bad) for line in pair if line))
    done = run("locate", mixed, "--out", tmp_path / "events.jsonl")
    assert done.returncode == 0
    told = "\n".join(sentences(done))
    assert "is dated in the future" in told
    assert "came before" in told
    assert (tmp_path / "events.jsonl").read_text() == run("locate", detections).stdout


def test_a_file_in_which_nothing_was_heard_gives_no_event(tmp_path: Path) -> None:
    (tmp_path / "quiet.jsonl").touch()
    done = run("locate", tmp_path / "quiet.jsonl")
    assert (done.returncode, done.stdout, sentences(done)) == (0, "", [])


@pytest.mark.parametrize("content", [b"this is no detection\n", None])
def test_locate_says_in_one_sentence_why_there_is_nothing_to_locate(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "nothing.jsonl"
    if content is not None:
        path.write_bytes(content)
    done = run("locate", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing.jsonl" in sentences(done)[-1]


def test_an_unknown_address_is_refused_in_one_sentence() -> None:
    done = run("simulate", "--mqtt", "host:port:99999")
    assert done.returncode == 2
    assert len(sentences(done)) == 1


@pytest.mark.slow
def test_the_demonstration_locates_what_it_fires() -> None:
    done = run("demo", "--duration", "24", "--seed", "3", "--json")
    assert done.returncode == 0
    assert sentences(done) == []
    *events, totals = json_lines(done.stdout)
    assert totals["totals"]
    assert totals["shots_heard_by_4"] >= 3
    assert totals["located_share"] >= 0.95
    assert totals["median_error_m"] < 5
    assert totals["events_without_shot"] == 0
    assert len(events) == totals["events"]
    assert all(event["error_m"] is not None for event in events)


@pytest.mark.slow
def test_ctrl_c_ends_the_demonstration_at_once_and_cleanly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [*COMMAND, "demo", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: "simulated town" not in line, process.stdout))
        assert any(f"port {port} is taken" in line for line in said)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - started < 10
    assert "Traceback" not in errors


@pytest.fixture
def heard_events(tmp_path: Path) -> Iterator[tuple[list[Event], int]]:
    """Run the centre with its own broker, and listen to the events that it publishes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--mqtt", "embedded", "--mqtt-port", str(port), "--database", str(tmp_path / "centre.db")]
    process = subprocess.Popen([*COMMAND, "run", *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("map: http://" in line for line in process.stderr)
    events: list[Event] = []

    def take(_client: Client, _data: object, message: MQTTMessage) -> None:
        events.append(EVENT.decode(bytes(message.payload)))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.connect("127.0.0.1", port)
    client.subscribe("soundranger/1/event/#", 1)
    client.loop_start()
    yield events, port
    client.disconnect()
    client.loop_stop()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_simulated_town_and_the_centre_meet_over_mqtt(heard_events: tuple[list[Event], int]) -> None:
    events, port = heard_events
    done = run("simulate", "--mqtt", f"127.0.0.1:{port}", "--duration", "12", "--seed", "5")
    assert done.returncode == 0
    shots = json_lines(done.stdout)
    assert shots
    give_up_s = time.monotonic() + 20
    while time.monotonic() < give_up_s and not any(event.status == "final" for event in events):
        time.sleep(0.1)
    final = next(event for event in events if event.status == "final")
    assert min(abs(final.time_ns - shot["time_ns"]) for shot in shots) < 0.05e9


@pytest.mark.slow
def test_recordings_that_cannot_be_used_are_named_and_the_others_are_replayed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "noise.wav", rng.normal(0, 0.001, 16_000), 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    table = tmp_path / "recordings.csv"
    table.write_text(
        "file,node,start_time,lat,lon,alt_m,temperature_c\n"
        "noise.wav,a,2026-01-01T00:00:00Z,48.1,11.5,500,10\n"
        "text.wav,b,2026-01-01T00:00:00Z,48.1,11.5,500,10\n"
        "missing.wav,c,2026-01-01T00:00:00Z,48.1,11.5,500,10\n"
        "noise.wav,d,yesterday,48.1,11.5,500,10\n"
    )
    done = run("replay", "--recordings", table, "--speed", "20")
    assert done.returncode == 0
    told = "\n".join(sentences(done))
    assert all(name in told for name in ("text.wav", "missing.wav", "line 5"))


def test_replay_without_a_table_says_so(tmp_path: Path) -> None:
    done = run("replay", "--recordings", tmp_path / "no.csv")
    assert done.returncode == 2
    assert "no.csv" in sentences(done)[-1]


@pytest.mark.slow
def test_replayed_live_fire_is_located_where_it_was_fired(tmp_path: Path) -> None:
    if not (DATA / "livefire").is_dir() or not (BENCH / "score.py").is_file():
        pytest.skip(f"the live-fire data is not at {DATA}; set SOUNDRANGER_DATA to where it is")
    subprocess.run(
        [sys.executable, BENCH / "livefire.py", DATA / "livefire", "--out", tmp_path], check=True, capture_output=True
    )
    events = tmp_path / "events.jsonl"
    table = tmp_path / "FP3" / "recordings.csv"
    done = run("replay", "--recordings", table, "--speed", "25", "--as-recorded", "--out", events)
    assert done.returncode == 0, done.stderr
    truth = _recorded_shots(tmp_path / "FP3")
    scored = subprocess.run(
        [sys.executable, BENCH / "score.py", events, truth, "--json"], check=True, capture_output=True, text=True
    )
    score = json.loads(scored.stdout)
    assert score["shots"] == 12
    assert score["within_15m"] >= 0.9
    assert score["precision"] >= 0.9


def _recorded_shots(folder: Path) -> Path:
    """Write the shots of tests that have audio, with only the pulses of sensors that recorded them."""
    detections = {one["id"]: one for one in json_lines((folder / "detections.jsonl").read_text())}
    recorded = {
        (Path(line.split(",")[0]).parent.name, line.split(",")[1])
        for line in (folder / "recordings.csv").read_text().splitlines()[1:]
    }
    shots = []
    for shot in json_lines((folder / "truth.jsonl").read_text()):
        heard = [one for one in shot["detections"] if (shot["test"], detections[one]["node"]) in recorded]
        if any(test == shot["test"] for test, _ in recorded):
            shots.append(shot | {"detections": heard})
    path = folder / "recorded.jsonl"
    path.write_text("".join(json.dumps(shot) + "\n" for shot in shots))
    return path
