"""Fixtures that run the real programs the tests need."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
START_S = 10.0


class Mosquitto:
    """A mosquitto of its own on a free port of the loopback interface; the port stays the same over restarts."""

    host = "127.0.0.1"

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.configure("allow_anonymous true")

    def configure(self, *lines: str) -> None:
        """Replace the settings; in force from the next start."""
        # Started as root, it would else drop to a user that may not read the test's folder.
        always = (f"listener {self.port} {self.host}", "persistence false", "user root")
        (self._folder / "mosquitto.conf").write_text("\n".join((*always, *lines)) + "\n")

    def start(self) -> None:
        """Return once it listens."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        wait_for_port(self.host, self.port)

    def stop(self) -> None:
        """End it in good order; it disconnects its clients."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(host: str, port: int) -> None:
    """Return once something listens."""
    end_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto without accounts."""
    program = shutil.which("mosquitto", path=SEARCH_PATH)
    if program is None:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(program, folder)
    broker.start()
    yield broker
    broker.kill()


class Postgres:
    """A PostgreSQL of its own on a free port of the loopback interface, and as many empty databases as are wanted."""

    host = "127.0.0.1"

    def __init__(self, programs: Path, folder: Path) -> None:
        self.port = free_port()
        self._programs = programs
        self._folder = folder
        self._databases = 0
        # It refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)

    def start(self) -> None:
        """Return once it takes connections."""
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {self.port} -h {self.host} -k {self._folder} -c fsync=off"
        log = str(self._folder / "postgres.log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """End it at once."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")

    def database(self) -> str:
        """Return the URL of a new and empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self._run("createdb", "-h", self.host, "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@{self.host}:{self.port}/{name}"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True, cwd=self._folder, user=self._user, stdout=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("postgresql is not installed")
    # Not in pytest's own folder, where no other user may look.
    folder = Path(tempfile.mkdtemp(prefix="soundranger-postgres-"))
    server = Postgres(programs[-1], folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


class Pulse:
    """A PulseAudio of its own with one loudspeaker, `room`, whose monitor is the microphone."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._socket = folder / "pulse.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, "HOME": str(folder), "PULSE_RUNTIME_PATH": str(folder)}
        self.environment |= {"XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": f"unix:{self._socket}"}

    def start(self, sample_format: str = "s16le", rate_hz: int = 48_000, *lines: str) -> None:
        """Return once it listens; `lines` are more commands for it."""
        script = self._folder / "run.pa"
        sink = f"sink_name=room format={sample_format} rate={rate_hz} channels=2"
        script.write_text(
            f"load-module module-native-protocol-unix socket={self._socket} auth-anonymous=1\n"
            f"load-module module-null-sink {sink}\nset-default-sink room\nset-default-source room.monitor\n"
            + "\n".join(lines)
        )
        self._socket.unlink(missing_ok=True)
        command = [self._program, "-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1"]
        with (self._folder / "pulse.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--use-pid-file=no"], env=self.environment, stdout=log, stderr=log
            )
        end_s = time.monotonic() + START_S
        while "room" not in self.ask("info"):
            assert time.monotonic() < end_s
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: it may fall silent, or go."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once: the microphone is unplugged."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, *command: str) -> str:
        """Return what `pactl` says."""
        done = subprocess.run(
            ["pactl", *command], env=self.environment, capture_output=True, text=True, check=False, timeout=START_S
        )
        return done.stdout

    def python(self, code: str) -> subprocess.Popen[str]:
        """Start a program that can hear the room: PortAudio is started once a process, and looks around then."""
        with (self._folder / "python.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def complaints(self) -> str:
        """What the programs said on standard error, at last."""
        return (self._folder / "python.log").read_text()[-2000:]

    def player(self, rate_hz: int, latency_ms: int) -> subprocess.Popen[bytes]:
        """Start a program that plays the pairs of float32 that are written to it, and holds so much of them back."""
        command = ["pacat", "--playback", f"--rate={rate_hz}", "--channels=2", "--format=float32le"]
        return subprocess.Popen(
            [*command, f"--latency-msec={latency_ms}", "--raw"], env=self.environment, stdin=subprocess.PIPE
        )

    def play(self, sound: NDArray[np.float32], rate_hz: int) -> None:
        """Return once a sound, of shape (n,) or (n, 2), has been played."""
        both = sound if sound.ndim == 2 else np.repeat(sound[:, None], 2, axis=1)
        with self.player(rate_hz, latency_ms=500) as player:
            player.communicate(both.astype("<f4").tobytes())


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    """A PulseAudio that PortAudio can hear, not yet started."""
    program = shutil.which("pulseaudio")
    if program is None or shutil.which("pactl") is None or shutil.which("pacat") is None:
        pytest.skip("pulseaudio or pulseaudio-utils is not installed")
    server = Pulse(program, tmp_path)
    yield server
    server.kill()
