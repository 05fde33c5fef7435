"""Tells systemd how the service does, as sd_notify(3) says: that it is ready, what it does, and that it still hears."""

import logging
import socket
from collections.abc import Callable, Mapping

from soundranger_node.blocks import Block
from soundranger_node.messages import NodeStatus

# systemd reads its socket at once; a node never waits longer for it, because sound comes meanwhile.
SEND_TIMEOUT_S = 0.5
# sd_watchdog_enabled(3) asks for twice in the time allowed.
BEATS_PER_TIMEOUT = 2

_LOG = logging.getLogger(__name__)


class Notifier:
    """Speaks to the service manager that `environment` names; says nothing to anybody where it names none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An address of Linux's abstract namespace is written with an @ in place of its first byte, which is zero.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """Say that the start is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say in one line what the service does; `systemctl status` shows it."""
        self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        """Send a message; that it cannot be sent is logged and no reason to stop hearing."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(SEND_TIMEOUT_S)
                manager.sendto(message.encode(), self._address)
        except OSError as error:
            _LOG.info("the service manager cannot be told %s (%s)", message, error)


def beat_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return how often the process `pid` has to feed systemd's watchdog, or None where none watches it.

    Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends; WATCHDOG_PID may name another process.
    """
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) * 1e-6 / BEATS_PER_TIMEOUT


def is_due(samples: int, link_lives: bool, since_s: float, interval_s: float) -> bool:
    """Return whether a block of so many samples is to feed the watchdog, `since_s` after it was last fed.

    A block without samples is a microphone that is silent or away: the sound card mends that by itself for as long
    as the watchdog allows; then a new process is the last resort.
    """
    return samples > 0 and link_lives and since_s >= interval_s


class Watchdog:
    """Feeds systemd's watchdog while sound comes and the link lives; does nothing where none watches.

    `now_s` is any clock that only runs forward. The first block with sound feeds it at once.
    """

    def __init__(self, notifier: Notifier, interval_s: float | None, link_lives: Callable[[], bool]) -> None:
        self._notifier = notifier
        self._interval_s = interval_s
        self._link_lives = link_lives
        self._fed_s = float("-inf")

    def beat(self, block: Block, now_s: float) -> None:
        """Take a block that was heard and worked on."""
        if self._interval_s is None:
            return
        if is_due(len(block.samples), self._link_lives(), now_s - self._fed_s, self._interval_s):
            self._fed_s = now_s
            self._notifier.alive()


def summary(status: NodeStatus, connected: bool) -> str:
    """Return a status as the one line that `systemctl status` has room for."""
    clock = status.clock
    bound = "" if clock.bound_s is None else f" within {clock.bound_s * 1e3:.3g} ms"
    noise = "no sound yet" if status.noise_dbfs is None else f"noise {status.noise_dbfs:.0f} dBFS"
    broker = "connected" if connected else "no broker"
    return f"{status.node}: {noise}, clock {clock.tier}{bound}, {broker}, {status.outbox} in the outbox"
