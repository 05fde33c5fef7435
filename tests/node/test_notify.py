"""What the service manager is told, by a datagram socket as systemd has one, and when the watchdog is fed."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.blocks import Block
from soundranger_node.messages import ClockStatus, NodeStatus
from soundranger_node.notify import Notifier, Watchdog, beat_interval_s, is_due, summary

SOUND = Block(np.zeros(960, np.float32), 0)
NO_SOUND = Block(np.zeros(0, np.float32), 0)


class Manager:
    """The service manager's side: a datagram socket that keeps what it is told."""

    def __init__(self, address: str, named: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": named}

    def told(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"{tmp_path}/notify"
    server = Manager(name, name) if request.param == "path" else Manager(f"\0{name}", f"@{name}")
    yield server
    server.close()


def test_the_manager_hears_what_it_is_told(manager: Manager) -> None:
    notifier = Notifier(manager.environment)
    notifier.ready()
    notifier.status("hears\nthe street")
    notifier.alive()
    notifier.stopping()
    assert manager.told() == ["READY=1", "STATUS=hears the street", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    Notifier(environment).ready()


def test_a_manager_that_reads_nothing_does_not_hold_up_the_node(manager: Manager) -> None:
    notifier = Notifier(manager.environment)
    deepest = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(deepest + 2):
        notifier.alive()
    assert 0 < len(manager.told()) <= deepest + 1


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "180000000"}, 90.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "42"}, 90.0),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_where_it_watches_this_process(
    environment: dict[str, str], interval_s: float | None
) -> None:
    assert beat_interval_s(environment, 42) == interval_s


def test_the_watchdog_is_fed_while_sound_comes_and_the_link_lives(manager: Manager) -> None:
    links = {"alive": True}
    watchdog = Watchdog(Notifier(manager.environment), 10.0, lambda: links["alive"])
    watchdog.beat(SOUND, 0.0)
    watchdog.beat(SOUND, 9.9)
    assert manager.told() == ["WATCHDOG=1"]
    watchdog.beat(SOUND, 10.0)
    assert manager.told() == ["WATCHDOG=1"]
    watchdog.beat(NO_SOUND, 30.0)
    assert manager.told() == []
    links["alive"] = False
    watchdog.beat(SOUND, 31.0)
    assert manager.told() == []
    links["alive"] = True
    watchdog.beat(SOUND, 32.0)
    assert manager.told() == ["WATCHDOG=1"]


def test_without_a_watchdog_nobody_is_fed(manager: Manager) -> None:
    Watchdog(Notifier(manager.environment), None, lambda: True).beat(SOUND, 0.0)
    assert manager.told() == []


@given(st.integers(0, 4800), st.booleans(), st.floats(0, 1e6), st.floats(0.1, 1e3))
def test_a_node_that_hears_nothing_or_cannot_send_never_feeds(
    samples: int, link_lives: bool, since_s: float, interval_s: float
) -> None:
    assert is_due(samples, link_lives, since_s, interval_s) <= (samples > 0 and link_lives)


def test_the_summary_is_one_line_with_noise_clock_broker_and_outbox() -> None:
    status = NodeStatus(
        node="roof",
        online=True,
        time_ns=0,
        version="1",
        lat=48.1,
        lon=11.5,
        alt_m=520.0,
        position_sigma_m=5.0,
        clock=ClockStatus(tier="ntp", bound_s=0.0042),
        noise_dbfs=-61.4,
        outbox=3,
    )
    assert summary(status, connected=True) == (
        "roof: noise -61 dBFS, clock ntp within 4.2 ms, connected, 3 in the outbox"
    )
