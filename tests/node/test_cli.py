"""The command line: what it prints, what it says when the input is bad, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from soundranger_node.messages import DETECTION

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("soundranger-node")
RATE_HZ = 48_000
HEADER = "file,node,start_time,lat,lon,alt_m,temperature_c\n"
PLACE = "roof,2024-01-01T00:00:00.5Z,48.1,11.5,520,4\n"


def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, cwd=cwd, check=False, timeout=60)


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def sound(onsets_s: Sequence[float], seconds: float = 2.0) -> NDArray[np.float32]:
    samples = 1e-3 * np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ))
    for at_s in onsets_s:
        first = round(at_s * RATE_HZ)
        samples[first : first + 200] += 0.3 * np.exp(-np.arange(200) / 50) * np.cos(np.arange(200) / 5)
    return samples.astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file with two clicks."""
    soundfile.write(tmp_path / "a.wav", sound([0.5, 1.25]), RATE_HZ)
    return tmp_path / "a.wav"


def table(recording: Path, extra: str = "") -> Path:
    path = recording.with_name("recordings.csv")
    path.write_text(f"{HEADER}{recording.name},{PLACE}{extra}")
    return path


def test_with_a_table_every_line_is_a_detection_with_file_and_onset(recording: Path) -> None:
    done = call("detect", "--recordings", table(recording))
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done)
    assert [row["onset_s"] for row in found] == pytest.approx([0.5, 1.25], abs=1e-4)
    for row, line in zip(found, done.stdout.splitlines(), strict=True):
        detection = DETECTION.decode(line.encode())
        assert detection.time_ns == pytest.approx(1_704_067_200_500_000_000 + row["onset_s"] * 1e9, abs=1e3)
        assert (detection.node, detection.lat, row["file"]) == ("roof", 48.1, str(recording))


def test_the_same_again_gives_the_same_lines(recording: Path) -> None:
    path = table(recording)
    assert call("detect", "--recordings", path).stdout == call("detect", recording, "--recordings", path).stdout


def test_a_file_alone_gives_what_is_known_and_says_what_is_missing(recording: Path) -> None:
    done = call("detect", recording)
    assert done.returncode == 0
    assert [row["onset_s"] for row in rows(done)] == pytest.approx([0.5, 1.25], abs=1e-4)
    assert not {"id", "node", "time_ns", "lat", "lon"} & set(rows(done)[0])
    assert done.stderr.count("\n") == 1
    assert "--recordings" in done.stderr


def test_bad_lines_and_bad_files_are_told_and_the_good_ones_are_done(recording: Path) -> None:
    (recording.parent / "text.wav").write_text("no sound")
    extra = f"text.wav,{PLACE}b.wav,roof,2024-01-01T00:00:00,48.1,11.5,520,4\nmissing.wav,{PLACE}"
    done = call("detect", "--recordings", table(recording, extra))
    assert done.returncode == 2
    assert len(rows(done)) == 2
    no_zone, no_audio, missing = done.stderr.splitlines()
    assert "recordings.csv, line 4: start_time does not say its time zone" in no_zone
    assert "text.wav: is not an audio file" in no_audio
    assert "missing.wav: cannot be read (No such file or directory)" in missing


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("text.wav", 2, "is not an audio file"),
        ("missing.wav", 2, "No such file"),
        ("folder.wav", 2, "Is a directory"),
        ("single.wav", 2, "only 1 samples"),
        ("cut.wav", 0, "is cut off"),
        ("numbers.wav", 0, "no finite numbers"),
        ("silent.wav", 0, "nothing but digital silence"),
    ],
)
def test_a_bad_file_is_one_sentence_and_no_traceback(tmp_path: Path, name: str, status: int, said: str) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "single.wav", np.zeros(1), RATE_HZ)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "numbers.wav", np.full(RATE_HZ, np.nan), RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.wav", sound([]), RATE_HZ)
    with (tmp_path / "cut.wav").open("r+b") as file:
        file.truncate(100_001)
    done = call("detect", tmp_path / name)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    # The other sentence says that place and time are unknown.
    assert done.stderr.count("\n") == (2 if said else 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_one_sentence(recording: Path) -> None:
    recording.chmod(0)
    done = call("detect", recording)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    assert "name audio files" in call("detect").stderr
    assert call("detect").returncode == 2
    assert call("detect", "--recordings", tmp_path / "missing.csv").returncode == 2
    assert call("detect", "--nonsense").returncode == 2


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(np.arange(0.5, 119, 0.6).tolist(), 120), RATE_HZ)
    command = f"'{PROGRAM}' detect '{tmp_path}'/a.wav '{tmp_path}'/a.wav '{tmp_path}'/a.wav | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_detecting_needs_neither_sound_card_nor_mqtt(recording: Path) -> None:
    code = (
        "import sys; from soundranger_node import cli; sys.argv = ['soundranger-node', 'detect', sys.argv[1]]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('sounddevice', 'paho', 'sqlite3') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, recording], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"
    assert len(rows(done)) == 2


def test_help_and_version_are_printed() -> None:
    assert call("--version").stdout.strip().count(".") == 2
    for command in ((), ("detect",), ("run",), ("devices",)):
        done = call(*command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_run_without_a_configuration_is_one_sentence(tmp_path: Path) -> None:
    done = call("run", "--config", tmp_path / "missing.toml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "missing.toml" in done.stderr


def node_config(folder: Path) -> Path:
    path = folder / "soundranger-node.toml"
    path.write_text(
        f'[place]\nlat = 1.0\nlon = 2.0\nalt_m = 3.0\n[microphone]\ndevice = "no such microphone"\n'
        f'[outbox]\npath = "{folder}/outbox.sqlite"\n[mqtt]\nport = 1\n'
    )
    return path


def test_run_without_its_microphone_says_so_waits_for_it_and_ends_in_order(tmp_path: Path) -> None:
    command: list[str | Path] = [PROGRAM, "run", "--config", node_config(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = next(line for line in running.stderr if "microphone no such microphone: " in line)
        assert "cannot be opened (No input device matching 'no such microphone')" in said
        running.terminate()
        rest = running.stderr.read()
    assert running.returncode == 0
    assert "Traceback" not in rest


def test_run_that_is_ended_while_it_starts_ends_in_order(tmp_path: Path) -> None:
    command: list[str | Path] = [PROGRAM, "run", "--config", node_config(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert " starts at 1.0, 2.0, 3.0 m" in running.stderr.readline()
        running.terminate()
        rest = running.stderr.read()
    assert running.returncode == 0
    assert "Traceback" not in rest
