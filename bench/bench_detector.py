"""Detector speed and memory: times faster than real time on one core at 48 kHz, beside obspy's recursive STA/LTA.

Four minutes of a simulated street with bursts and echoes, through the blocks of a sound card and through those of a
file. Each runs in a fresh process that has imported what it would have in use; reading the file does not count.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from soundranger_node.utc import NS_PER_S

SAMPLE_RATE_HZ = 48_000
SECONDS = 240
# What a sound card hands over, and what is read of a file, at a time.
SOUND_CARD_S, FILE_S = 0.02, 0.25
CHUNK_S = 10
# obspy's windows: a blast over half a second of background, and its usual thresholds.
SHORT_S, LONG_S = 0.003, 0.5
ON, OFF = 8.0, 2.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
REPEATS = 3


def write_street(path: Path) -> None:
    """Write the sound of one node of the simulated town: gusts, a burst or a shot every 8 s, and echoes."""
    from soundranger_broker.simulation.microphone import VirtualMicrophone  # noqa: PLC0415 - not where memory counts
    from soundranger_broker.simulation.shots import Schedule  # noqa: PLC0415
    from soundranger_broker.simulation.town import make_town  # noqa: PLC0415

    town = make_town(seed=1)
    microphone = VirtualMicrophone(town, 0, 0, 1, SAMPLE_RATE_HZ)
    schedule = Schedule(town, 1, 0)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_24") as file:
        for second in range(0, SECONDS, CHUNK_S):
            shots = schedule.shots((second - CHUNK_S) * NS_PER_S, (second + CHUNK_S) * NS_PER_S)
            file.write(microphone.render(second * SAMPLE_RATE_HZ, CHUNK_S * SAMPLE_RATE_HZ, shots))


def soundranger(path: Path, block_s: float) -> tuple[float, int]:
    """Return the process time that the detector takes on a file, and how many impulses it finds."""
    # All that a node has in memory.
    import soundranger_node.cli  # noqa: PLC0415
    import soundranger_node.station  # noqa: F401, PLC0415
    from soundranger_node.blocks import Block  # noqa: PLC0415
    from soundranger_node.detector import Detector  # noqa: PLC0415

    detector = Detector(SAMPLE_RATE_HZ, limit_per_minute=6_000)
    size = round(block_s * SAMPLE_RATE_HZ)
    taken_s, first, found = 0.0, 0, 0
    with soundfile.SoundFile(path) as file:
        for chunk in file.blocks(CHUNK_S * SAMPLE_RATE_HZ, dtype="float32"):
            blocks = [
                Block(np.array(chunk[start : start + size], np.float32), first + start)
                for start in range(0, len(chunk), size)
            ]
            first += len(chunk)
            started_s = time.process_time()
            found += sum(len(detector.push(block)) for block in blocks)
            taken_s += time.process_time() - started_s
    return taken_s, found + len(detector.flush())


def obspy_sta_lta(path: Path) -> tuple[float, int]:
    """Return the process time that obspy's recursive STA/LTA takes on a file in one piece, and its triggers."""
    from obspy.signal import trigger  # noqa: PLC0415

    samples = soundfile.read(path)[0]
    started_s = time.process_time()
    ratio = trigger.recursive_sta_lta(samples, round(SHORT_S * SAMPLE_RATE_HZ), round(LONG_S * SAMPLE_RATE_HZ))
    found = len(trigger.trigger_onset(ratio, ON, OFF))
    return time.process_time() - started_s, found


COMPETITORS: dict[str, Callable[[Path], tuple[float, int]]] = {
    "soundranger, 20 ms blocks": lambda path: soundranger(path, SOUND_CARD_S),
    "soundranger, 250 ms blocks": lambda path: soundranger(path, FILE_S),
    "obspy recursive_sta_lta": obspy_sta_lta,
}


def resident_mb() -> float:
    """Return the most memory that this process has had resident, since it started this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def compete(name: str, path: Path) -> None:
    """Print what one competitor took: seconds, impulses, and resident memory before and at most, MB."""
    before_mb = resident_mb()
    taken_s, found = COMPETITORS[name](path)
    print(taken_s, found, before_mb, resident_mb())


def main() -> None:
    """Print a table: competitor, times faster than real time, impulses, peak resident memory."""
    print(f"{'':28s} {'x real time':>11s} {'impulses':>9s} {'peak MB':>8s}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.wav"
        write_street(path)
        for name in COMPETITORS:
            command = [sys.executable, __file__, name, str(path)]
            done = [
                subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
                for _ in range(REPEATS)
            ]
            if any(one.returncode for one in done):
                print(f"{name:28s} did not run: {done[0].stderr.strip().splitlines()[-1]}")
                continue
            runs = np.array([[float(word) for word in one.stdout.split()] for one in done])
            print(
                f"{name:28s} {SECONDS / runs[:, 0].min():11.0f} {runs[0, 1]:9.0f} {runs[:, 3].max():8.0f}", flush=True
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compete(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
