"""MQTT brokers that soundranger brings along: amqtt inside this process, or a mosquitto that it starts."""

import asyncio
import logging
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.session import Session

from soundranger_node.errors import BrokerError

# Either broker listens within a second; a machine that needs longer than this has another problem.
START_S = 15.0
# How long a broker may take to say goodbye to its clients.
STOP_S = 5.0
# Debian keeps mosquitto where an ordinary user's PATH does not look.
EXTRA_PATH = "/usr/sbin"


@dataclass(frozen=True)
class Address:
    """Where an MQTT broker listens, and how to log in."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None


class OwnBroker(Protocol):
    """A broker that we started and have to stop."""

    address: Address

    def stop(self) -> None:
        """End it; safe more than once."""
        ...


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Filters(dict[str, list[tuple[Session, int]]]):
    """Subscriptions by topic filter that may change while they are walked through, as amqtt 0.12 does."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))


class _Broker(Broker):
    """amqtt without two faults of version 0.12, which show when many clients connect at once.

    To every new client it publishes what is retained for all subscriptions, whoever's they are; and while it does, a
    subscription of another client breaks the connection.
    """

    def __init__(self, config: BrokerConfig, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, loop=loop)
        self._subscriptions = _Filters()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        if any(own.client_id == session.client_id for own, _ in self._subscriptions.get(subscription[0], [])):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class EmbeddedBroker:
    """An amqtt broker in a thread of this process, for demonstrations, tests and small networks (MQTT 3.1.1).

    Raises:
        BrokerError: it could not listen.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.address = Address(host, port or free_port())
        self._loop = asyncio.new_event_loop()
        self._failure: Exception | None = None
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="mqtt broker", daemon=True)
        # It logs every client that leaves in a hurry as a warning of several lines.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._thread.start()
        if not self._ready.wait(START_S) or self._failure is not None:
            where = f"{self.address.host}:{self.address.port}"
            raise BrokerError(
                "the embedded MQTT broker", f"cannot listen on {where} ({self._failure})", "free the port"
            )

    def stop(self) -> None:
        """End the broker; its clients see the connection close."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_S)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        listener = ListenerConfig(type=ListenerType.TCP, bind=f"{self.address.host}:{self.address.port}")
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        broker = _Broker(BrokerConfig(listeners={"default": listener}, plugins=plugins), loop=self._loop)
        try:
            await broker.start()
        except Exception as error:  # noqa: BLE001 - amqtt raises what it likes; the caller is told
            self._failure = error
            self._ready.set()
            return
        self._ready.set()
        await self._stopping.wait()
        await broker.shutdown()


class SpawnedMosquitto:
    """A mosquitto process of our own on the loopback interface, for more load than the embedded broker carries.

    Raises:
        BrokerError: mosquitto is not installed or did not start.
    """

    def __init__(self, port: int = 0) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path=EXTRA_PATH)
        if program is None:
            raise BrokerError("mosquitto", "is not installed", "sudo apt install mosquitto, or use --mqtt embedded")
        self.address = Address("127.0.0.1", port or free_port())
        self._folder = tempfile.TemporaryDirectory(prefix="soundranger-mosquitto-")
        settings = Path(self._folder.name) / "mosquitto.conf"
        settings.write_text(
            f"listener {self.address.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n"
        )
        self._process = subprocess.Popen(  # noqa: S603 - the program is the one found above, the file is our own
            [program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def stop(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def _wait(self) -> None:
        give_up_s = time.monotonic() + START_S
        while time.monotonic() < give_up_s and self._process.poll() is None:
            try:
                socket.create_connection((self.address.host, self.address.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise BrokerError("mosquitto", f"did not start on port {self.address.port}", "run it by hand to see why")
