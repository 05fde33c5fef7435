"""A node as its configuration wires it, as far as it comes without a microphone."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from soundranger_node.config import load
from soundranger_node.errors import InputError
from soundranger_node.station import Station

PATIENCE_S = 15.0
CONFIG = """
node = "roof"
[place]
source = "gpsd"
[clock]
source = "trusted"
gpsd = "127.0.0.1:{port}"
[outbox]
path = "{folder}/outbox.sqlite"
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stand where systemd does: hear what the service tells it."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE_S)
        yield heard


def heard_until(manager: socket.socket, wanted: str) -> list[str]:
    """Return what was told up to something wanted."""
    told: list[str] = []
    while not told or wanted not in told[-1]:
        told.append(manager.recv(4096).decode())
    return told


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_node_that_waits_for_its_place_says_what_is_in_the_way_lives_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: socket.socket
) -> None:
    monkeypatch.setattr("soundranger_node.station.PLACE_POLL_S", 0.05)
    config = tmp_path / "node.toml"
    config.write_text(CONFIG.format(port=closed_port(), folder=tmp_path))
    station = Station(load(config))
    running = threading.Thread(target=station.run)
    running.start()
    told = heard_until(manager, "cannot be reached")
    assert told[0] == "READY=1"
    assert "WATCHDOG=1" in told
    assert told[-1].startswith("STATUS=waiting for the GPS to know the place: gpsd at 127.0.0.1:")
    station.stop()
    heard_until(manager, "STOPPING=1")
    running.join(PATIENCE_S)
    assert not running.is_alive()


def test_a_damaged_key_stops_a_node_before_it_listens(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIG.format(port=closed_port(), folder=tmp_path))
    (tmp_path / "signing.key").write_text("damaged")
    with pytest.raises(InputError, match="does not hold the node's key any more"):
        Station(load(config))
