"""The watch on the clock goes on whatever its sources do."""

import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.node.timekeeping.conftest import HOST, Chronyd, Gpsd, Nmea, tell_refclock, wait_until

from soundranger_node.config import Clock
from soundranger_node.timekeeping import watch as watch_module
from soundranger_node.timekeeping.gpsd import GpsdClient
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.utc_clock import ClockRead
from soundranger_node.timekeeping.watch import INTERVAL_S, SHORT_INTERVAL_S, ClockWatch, interval_s

TRUSTED = Clock(source="trusted", sigma_s=0.01)


class Told:
    """What a watch told: every read, and every judgement with its moment; it fails where it is to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.reads: list[ClockRead] = []
        self.judgements: list[tuple[ClockQuality, int]] = []
        self._fails = fails

    def read(self, read: ClockRead) -> None:
        self.reads.append(read)

    def judge(self, quality: ClockQuality, monotonic_ns: int) -> None:
        self.judgements.append((quality, monotonic_ns))
        if self._fails:
            raise RuntimeError("no")

    @property
    def quality(self) -> ClockQuality | None:
        return self.judgements[-1][0] if self.judgements else None

    @property
    def good(self) -> bool:
        return self.quality is not None and self.quality.good

    @property
    def why(self) -> str:
        return "" if self.quality is None else self.quality.why


Watch = Callable[..., Told]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the watch look often."""
    monkeypatch.setattr(watch_module, "INTERVAL_S", 0.05)
    monkeypatch.setattr(watch_module, "SHORT_INTERVAL_S", 0.05)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Start watches that are closed at the end."""
    watches: list[ClockWatch] = []

    def start(clock: Clock, gpsd: GpsdClient | None = None) -> Told:
        told = Told()
        watches.append(ClockWatch(clock, gpsd))
        watches[-1].start(told)
        return told

    yield start
    for each in watches:
        each.close()


def test_a_clock_that_is_not_good_or_is_corrected_is_looked_at_more_often() -> None:
    good = ClockQuality("ntp", good=True, sigma_s=1e-3, bound_s=3e-3, source="", why="")
    assert interval_s(good) == INTERVAL_S
    assert interval_s(ClockQuality("free", good=False, sigma_s=1.0, bound_s=None, source="", why="")) < INTERVAL_S
    corrected = ClockQuality("pps", good=True, sigma_s=1e-5, bound_s=None, source="", why="", ahead_s=1e-3)
    assert interval_s(corrected) == SHORT_INTERVAL_S


def test_the_first_look_is_at_once_and_the_thread_ends_on_close() -> None:
    told = Told()
    watch = ClockWatch(TRUSTED, None)
    watch.start(told)
    wait_until(lambda: told.good)
    watch.close()
    assert "clock watch" not in {thread.name for thread in threading.enumerate()}
    (quality, monotonic_ns), read = told.judgements[0], told.reads[0]
    assert quality.sigma_s == 0.01
    assert monotonic_ns == read.monotonic_ns
    assert read.utc_ns == pytest.approx(time.time_ns(), abs=60e9)


def test_between_two_looks_the_clock_is_read(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "READ_INTERVAL_S", 0.01)
    told = watch(TRUSTED)
    wait_until(lambda: len(told.reads) > 5)
    assert len(told.judgements) == 1


def test_a_watch_that_never_started_can_be_closed() -> None:
    ClockWatch(TRUSTED, None).close()


@pytest.mark.usefixtures("hurried")
def test_a_listener_that_fails_does_not_end_the_watch_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    told = Told(fails=True)
    watch = ClockWatch(TRUSTED, None)
    with caplog.at_level(logging.ERROR):
        watch.start(told)
        wait_until(lambda: len(told.judgements) > 3)
        watch.close()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_a_computer_without_any_source_is_judged_too(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = watch(Clock(source="chrony"))
    wait_until(lambda: told.quality is not None)
    assert not told.good
    assert "chrony is not installed" in told.why


@pytest.mark.usefixtures("hurried")
def test_a_pulse_at_gpsd_measures_how_far_this_computers_clock_is_off(watch: Watch) -> None:
    # No pulse can be had from gpsfake: its pseudo-terminal has no line for it. So gpsd's own lines are sent from here.
    with socket.create_server((HOST, 0)) as server:
        client = GpsdClient(f"{HOST}:{server.getsockname()[1]}")
        client.start()
        connection, _ = server.accept()
        with connection:
            connection.sendall(b'{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}\n')
            now_s = int(time.time())
            for second in range(now_s - 5, now_s + 1):
                pulse = f'"real_sec":{second},"real_nsec":0,"clock_sec":{second},"clock_nsec":30000000,"precision":-20'
                connection.sendall(f'{{"class":"PPS","device":"/dev/pps0",{pulse}}}\n'.encode())
            told = watch(Clock(source="gpsd"), client)
            wait_until(lambda: told.good)
        quality = told.quality
        client.close()
    assert quality is not None
    assert (quality.tier, quality.source) == ("pps", "gpsd")
    assert quality.ahead_s == pytest.approx(0.03, abs=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_real_chronyd_that_comes_and_goes_makes_the_clock_good_and_not_good(
    watch: Watch, synchronised_chronyd: Chronyd
) -> None:
    told = watch(Clock(source="chrony", chrony_socket=synchronised_chronyd.socket))
    wait_until(lambda: told.good)
    assert told.quality is not None
    assert told.quality.tier == "ntp"
    assert told.quality.source == "chrony: 127.0.0.1"

    synchronised_chronyd.kill()
    wait_until(lambda: not told.good)
    assert "not running" in told.why

    synchronised_chronyd.start()
    wait_until(lambda: told.good)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("refid", "tier", "sigma_s"), [("GPS", "gps", 0.01), ("PPS", "pps", 1e-5)])
def test_a_real_chronyd_with_a_refclock_is_judged_by_the_refclocks_name(
    watch: Watch, chronyd: Callable[..., Chronyd], refid: str, tier: str, sigma_s: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "refclock"
        daemon = chronyd("port 0", f"refclock SOCK {path} refid {refid} poll 0 filter 1")
        told = watch(Clock(source="auto", chrony_socket=daemon.socket))

        def good() -> bool:
            tell_refclock(path, ahead_s=0.0)
            return told.quality is not None and told.good and told.quality.sigma_s < 1.5 * sigma_s

        wait_until(good)
    quality = told.quality
    assert quality is not None
    assert (quality.tier, quality.source) == (tier, f"chrony: {refid}")
    assert quality.sigma_s == pytest.approx(sigma_s, rel=0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_real_gpsd_without_a_pulse_vouches_for_nothing_and_says_what_to_do(watch: Watch, gpsd: Gpsd) -> None:
    client = GpsdClient(gpsd.address)
    client.start()
    told = watch(Clock(source="gpsd"), client)
    wait_until(lambda: "cannot be reached" in told.why)

    gpsd.play(Nmea().seconds(300))
    wait_until(lambda: "no pulse" in told.why)
    assert not told.good
    client.close()
