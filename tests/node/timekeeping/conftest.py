"""Fixtures that run chronyd and gpsd, without ever touching the system clock."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import SEARCH_PATH, START_S, free_port, wait_for_port

HOST = "127.0.0.1"


def find(program: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def wait_until(true: Callable[[], bool], within_s: float = START_S) -> None:
    """Return once it is true; fail where it does not become so."""
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.02)


class Chronyd:
    """A chronyd of its own that leaves the system clock alone (-x); `socket` is where it takes commands."""

    def __init__(self, program: str, *lines: str) -> None:
        # pytest's own folders have longer names than a socket's path may be.
        self._folder = Path(tempfile.mkdtemp(prefix="chronyd-"))
        self.socket = str(self._folder / "command")
        self._program = program
        always = (f"bindcmdaddress {self.socket}", "cmdport 0", f"pidfile {self._folder / 'pid'}")
        (self._folder / "conf").write_text("\n".join((*always, *lines)) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it takes commands."""
        # It stays the user that it is started as: another one may not use the folder, and -U lets it be any.
        user = pwd.getpwuid(os.geteuid()).pw_name
        command = [self._program, "-x", "-d", "-U", "-u", user, "-f", str(self._folder / "conf")]
        Path(self.socket).unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: Path(self.socket).exists())

    def hang(self) -> None:
        """Let it run but do nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it as a crash would: its socket stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and remove what it left."""
        self.kill()
        shutil.rmtree(self._folder)


def tell_refclock(path: Path, ahead_s: float) -> None:
    """Be a chronyd's `refclock SOCK`: say how far the system clock is ahead of the true time."""
    seconds, rest_ns = divmod(time.time_ns(), 1_000_000_000)
    # struct sock_sample of chrony's refclock_sock.c: time, offset, no pulse, no leap second, padding, magic.
    sample = struct.pack("@lldiiii", seconds, rest_ns // 1_000, -ahead_s, 0, 0, 0, 0x534F434B)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(sample, str(path))


@pytest.fixture
def chronyd() -> Iterator[Callable[..., Chronyd]]:
    """Start chronyds with the given lines of configuration."""
    program = find("chronyd")
    find("chronyc")
    with contextlib.ExitStack() as stack:

        def start(*lines: str) -> Chronyd:
            daemon = Chronyd(program, *lines)
            stack.callback(daemon.close)
            daemon.start()
            return daemon

        yield start


@pytest.fixture
def synchronised_chronyd(chronyd: Callable[..., Chronyd]) -> Chronyd:
    """A chronyd that follows another one over the loopback interface, and soon is synchronised."""
    port = free_port()
    chronyd("local stratum 3", f"allow {HOST}", f"bindaddress {HOST}", f"port {port}")
    return chronyd("port 0", f"server {HOST} port {port} iburst minpoll -4 maxpoll -4")


@dataclass
class Nmea:
    """What a receiver at one place says, second by second, as sentences of NMEA 0183."""

    lat: float = 48.13743
    lon: float = 11.57549
    above_geoid_m: float = 520.0
    geoid_m: float = 47.0
    start: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def seconds(self, count: int) -> str:
        """Return some seconds of sentences."""
        return "".join(self._second(self.start + timedelta(seconds=number)) for number in range(count))

    def _second(self, moment: datetime) -> str:
        clock = f"{moment:%H%M%S}.00"
        place = f"{self._angle(self.lat, 2)},{'NS'[self.lat < 0]},{self._angle(self.lon, 3)},{'EW'[self.lon < 0]}"
        bodies = (
            f"GPGGA,{clock},{place},1,08,0.9,{self.above_geoid_m:.2f},M,{self.geoid_m:.1f},M,,",
            "GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.8,0.9,1.5",
            "GPGSV,2,1,08,01,40,083,46,02,17,308,41,03,07,344,39,04,22,228,45",
            "GPGSV,2,2,08,05,40,083,46,06,17,308,41,07,07,344,39,08,22,228,45",
            f"GPRMC,{clock},A,{place},000.0,000.0,{moment:%d%m%y},,,A",
        )
        return "".join(f"${body}*{self._checksum(body):02X}\r\n" for body in bodies)

    @staticmethod
    def _angle(degrees: float, digits: int) -> str:
        whole, rest = divmod(abs(degrees), 1)
        return f"{int(whole):0{digits}d}{rest * 60:08.5f}"

    @staticmethod
    def _checksum(body: str) -> int:
        total = 0
        for byte in body.encode():
            total ^= byte
        return total


class Gpsd:
    """A gpsd on a free port that hears what gpsfake plays to it, over and over; the port stays over restarts."""

    def __init__(self, program: str, sentences: Path) -> None:
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self._program = program
        self._sentences = sentences
        self._process: subprocess.Popen[bytes] | None = None

    def play(self, nmea: str) -> None:
        """Start it with these sentences, some hundred a second; return once it listens."""
        self._sentences.write_text(nmea)
        # Started as root, gpsd drops to a user that is to read no more than the pseudo-terminal.
        command = [*_own_shared_memory(), self._program, "-q", "-c", "0.01", "-P", str(self.port), str(self._sentences)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for_port(HOST, self.port)

    def kill(self) -> None:
        """End gpsd and gpsfake as a crash would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            Path(f"/tmp/gpsfake-{self._process.pid}.sock").unlink(missing_ok=True)
            self._process = None


def _own_shared_memory() -> list[str]:
    """Return what runs a program so that its shared memory is seen by nobody else, where that is possible.

    gpsd tells the time there to whoever reads it: this computer's own chronyd must not follow what a test made up.
    """
    unshare = shutil.which("unshare", path=SEARCH_PATH)
    prefix = [unshare, "--ipc"] if unshare else []
    works = bool(prefix) and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if works else []


@pytest.fixture
def gpsd(tmp_path: Path) -> Iterator[Gpsd]:
    """A gpsd that is not started yet."""
    find("gpsd")
    daemon = Gpsd(find("gpsfake"), tmp_path / "sentences.nmea")
    yield daemon
    daemon.kill()
