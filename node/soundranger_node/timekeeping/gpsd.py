"""gpsd: its JSON reports, what they tell of clock and place, and a client that keeps listening whatever happens.

The protocol is that of gpsd_json(5), 3.11 and later (gpsd 3.16 and later; Pi OS Bookworm has 3.22).
"""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from soundranger_node.errors import MessageError
from soundranger_node.messages import Latitude, Longitude
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.utc import NS_PER_S, utc_ns

WATCH = b'?WATCH={"enable":true,"json":true,"pps":true};\n'
# SKY with every satellite of four constellations is about 12 kB; gpsd itself never sends more than 64.
MAX_LINE = 65_536
CONNECT_TIMEOUT_S = 5.0
# A GPS reports every second. After this much silence the connection may be dead without a word: a new one tells, and
# costs nothing where there is only no GPS.
SILENCE_S = 60.0
# The wait before a new attempt doubles from the first to the second: a gpsd that is restarted is back in seconds.
MIN_BACKOFF_S = 1.0
MAX_BACKOFF_S = 30.0
# Enough pulses that a few late interrupts do not count, few enough that a crystal's rate is constant over them.
PULSES = 16
# A line through fewer says nothing about their scatter.
MIN_PULSES = 4
# Where so many of the last agree on another time than the line, it is the clock that changed, not an interrupt late.
LATEST_PULSES = 3
# Far above an interrupt's lateness, far below what a step of the clock usually is.
PULSE_JUMP_S = 5e-3
# Crystals are within 100 ppm, and the kernel slews by 500.
MAX_RATE = 600e-6
# Turns the median absolute deviation of a Gaussian into its standard deviation.
MAD_TO_SIGMA = 1.4826
# A fix with height.
MODE_3D = 3

_LOG = logging.getLogger(__name__)

# Whatever gpsd sends, a time is no further off than this: keeps sums of nanoseconds within 64 bits.
Seconds = Annotated[int, Meta(ge=-(2**33), le=2**33)]
Nanoseconds = Annotated[int, Meta(ge=-999_999_999, le=999_999_999)]
Height = Annotated[float, Meta(ge=-100_000, le=100_000)]


class Report(msgspec.Struct, frozen=True, tag_field="class"):
    """Base of gpsd's reports: unknown fields are ignored, those that a version may leave out are None."""


class Version(Report, frozen=True, tag="VERSION"):
    """What gpsd says first on every connection."""

    release: str


class Device(Report, frozen=True, tag="DEVICE"):
    """A receiver that gpsd reads; sent with `activated` 0 when it is gone, else with a time or without."""

    path: str = ""
    activated: str | float | None = None


class Devices(Report, frozen=True, tag="DEVICES"):
    """The receivers that gpsd reads."""

    devices: list[Device]


class Fix(Report, frozen=True, tag="TPV"):
    """Time and place; mode 2 is a fix without, 3 one with height.

    Heights in metres: `altHAE` above the ellipsoid, `altMSL` and (before gpsd 3.20, the only one) `alt` above the
    geoid, which is `geoidSep` above the ellipsoid.
    """

    mode: int = 0
    time: str | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    altHAE: Height | None = None  # noqa: N815 - gpsd's own name
    altMSL: Height | None = None  # noqa: N815 - gpsd's own name
    alt: Height | None = None
    geoidSep: Height | None = None  # noqa: N815 - gpsd's own name

    @property
    def height_m(self) -> float | None:
        """The height above the ellipsoid; None where this gpsd does not tell it."""
        if self.altHAE is not None:
            return self.altHAE
        above_geoid_m = self.alt if self.altMSL is None else self.altMSL
        return None if above_geoid_m is None or self.geoidSep is None else above_geoid_m + self.geoidSep

    @property
    def time_ns(self) -> int | None:
        """The UTC of the fix, None where it has none that can be read."""
        try:
            return None if self.time is None else utc_ns(self.time)
        except ValueError:
            return None


class Satellite(msgspec.Struct, frozen=True):
    """One satellite, and whether the fix rests on it."""

    used: bool = False


class Sky(Report, frozen=True, tag="SKY"):
    """The satellites in view; gpsd sends it without them too (then only precisions)."""

    satellites: list[Satellite] | None = None


class Pps(Report, frozen=True, tag="PPS"):
    """One pulse: the UTC that it marks, and what the system clock said at it. `precision` is log2 of seconds."""

    real_sec: Seconds
    real_nsec: Nanoseconds
    clock_sec: Seconds
    clock_nsec: Nanoseconds
    device: str = ""
    precision: Annotated[int, Meta(ge=-64, le=10)] = -20

    @property
    def ahead_ns(self) -> int:
        """How far the system clock was ahead of UTC."""
        return (self.clock_sec - self.real_sec) * NS_PER_S + self.clock_nsec - self.real_nsec


class Complaint(Report, frozen=True, tag="ERROR"):
    """What gpsd did not like about a request."""

    message: str = ""


AnyReport = Version | Device | Devices | Fix | Sky | Pps | Complaint
CLASSES = frozenset({"VERSION", "DEVICE", "DEVICES", "TPV", "SKY", "PPS", "ERROR"})


class _Kind(msgspec.Struct):
    kind: str = msgspec.field(name="class")


_KIND = msgspec.json.Decoder(_Kind)
_REPORT: msgspec.json.Decoder[AnyReport] = msgspec.json.Decoder(AnyReport)


def parse_report(line: bytes) -> AnyReport | None:
    """Return one line of gpsd's, None where it is of a class that is of no use here.

    Raises:
        MessageError: it is no report of gpsd's, or one with a value that cannot be.
    """
    try:
        if _KIND.decode(line).kind not in CLASSES:
            return None
        return _REPORT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("a line from gpsd", f"cannot be used ({error})") from None


@dataclass(frozen=True)
class Pulse:
    """What the last pulses of one receiver say of the system clock.

    `ahead_s` is how far it is ahead of UTC at the time of asking, by the line through the pulses, `rate` how much
    faster it runs, `scatter_s` one standard deviation of a single pulse about the line (robust; no less than how far
    beside it the latest lie), `precision_s` what gpsd states for the way the pulse comes in (1 ms over USB), `age_s`
    how long ago the last pulse was.
    """

    ahead_s: float
    rate: float
    scatter_s: float
    precision_s: float
    age_s: float
    device: str


class PulseSeries:
    """The last pulses of one receiver; begins anew where the system clock is stepped."""

    def __init__(self) -> None:
        self._pulses: deque[Pps] = deque(maxlen=PULSES)
        self._came_s = 0.0

    def add(self, pulse: Pps, came_s: float) -> None:
        """Take the next pulse, and the monotonic time at which it was told."""
        if self._pulses and abs(pulse.ahead_ns - self._pulses[-1].ahead_ns) > PULSE_JUMP_S * 1e9:
            self._pulses.clear()
        self._pulses.append(pulse)
        self._came_s = came_s

    def fit(self, now_s: float) -> Pulse | None:
        """Return what they say at a monotonic time; None while they are too few.

        The line is Theil and Sen's (medians of slopes and of what is left): late interrupts do not move it.
        """
        if len(self._pulses) < MIN_PULSES:
            return None
        last = self._pulses[-1]
        x = np.array([float(pulse.real_sec - last.real_sec) for pulse in self._pulses])
        y = np.array([(pulse.ahead_ns - last.ahead_ns) * 1e-9 for pulse in self._pulses])
        later, earlier = np.nonzero(x[:, None] > x[None, :])
        slopes = (y[later] - y[earlier]) / (x[later] - x[earlier])
        rate = float(np.clip(np.median(slopes), -MAX_RATE, MAX_RATE)) if len(slopes) else 0.0
        rest = y - rate * x
        offset_s = float(np.median(rest))
        scatter_s = MAD_TO_SIGMA * float(np.median(np.abs(rest - offset_s)))
        aside_s = abs(float(np.median(rest[-LATEST_PULSES:])) - offset_s)
        age_s = now_s - self._came_s
        return Pulse(
            ahead_s=last.ahead_ns * 1e-9 + offset_s + rate * age_s,
            rate=rate,
            scatter_s=max(scatter_s, aside_s),
            precision_s=2.0**last.precision,
            age_s=age_s,
            device=last.device,
        )


@dataclass(frozen=True)
class GpsReport:
    """What gpsd knows: the pulse, if any, and the last fix.

    `late_s` is how much later than its own time, by the system clock, the last fix came: what the receiver and the line
    take (10 ms to 1 s, gpsd_json(5)) plus what the system clock is ahead. `devices` counts receivers.
    """

    release: str
    devices: int
    mode: int
    satellites_used: int
    late_s: float | None
    fix_age_s: float | None
    pulse: Pulse | None


class GpsView:
    """What one connection has told so far."""

    def __init__(self) -> None:
        self._release = ""
        self._devices: set[str] = set()
        self._satellites_used = 0
        self._fix = Fix()
        self._fix_came_s: float | None = None
        self._late_s: float | None = None
        self._pulses: dict[str, PulseSeries] = {}

    def take(self, report: AnyReport, came_utc_ns: int, came_s: float) -> None:
        """Take a report, and the system's UTC and monotonic time at which it came."""
        match report:
            case Version():
                self._release = report.release
            case Devices():
                self._devices = {device.path for device in report.devices}
            case Device(activated=0):
                self._devices.discard(report.path)
            case Device():
                self._devices.add(report.path)
            case Sky(satellites=list(satellites)):
                self._satellites_used = sum(satellite.used for satellite in satellites)
            case Fix():
                self._fix, self._fix_came_s = report, came_s
                fix_ns = report.time_ns
                self._late_s = None if fix_ns is None else (came_utc_ns - fix_ns) * 1e-9
            case Pps():
                self._pulses.setdefault(report.device, PulseSeries()).add(report, came_s)
            case Complaint():
                _LOG.warning("gpsd: %s", report.message)

    def report(self, now_s: float) -> GpsReport:
        """Return what is known at a monotonic time; of several receivers' pulses, the most recent."""
        fits = [fit for series in self._pulses.values() if (fit := series.fit(now_s)) is not None]
        return GpsReport(
            release=self._release,
            devices=len(self._devices),
            mode=self._fix.mode,
            satellites_used=self._satellites_used,
            late_s=self._late_s,
            fix_age_s=None if self._fix_came_s is None else now_s - self._fix_came_s,
            pulse=min(fits, key=lambda fit: (round(fit.age_s), fit.precision_s, fit.scatter_s), default=None),
        )


class GpsdClient:
    """Listens to gpsd at `address` (host:port) in a thread, and goes on trying for ever.

    `on_fix` is called in that thread with each fix and the monotonic time in seconds at which it came.
    """

    def __init__(self, address: str, on_fix: Callable[[Fix, float], None] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._name = address
        self._on_fix = on_fix
        self._lock = threading.Lock()
        self._state: GpsView | Absent = Absent(f"gpsd at {address} has not been asked yet")
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpsd", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        with self._lock:
            if self._socket is not None:
                self._hang_up(self._socket)
        if self._thread.is_alive():
            self._thread.join(CONNECT_TIMEOUT_S)

    def report(self, now_s: float) -> GpsReport | Absent:
        """Return what gpsd has told, as of a monotonic time in seconds."""
        with self._lock:
            return self._state if isinstance(self._state, Absent) else self._state.report(now_s)

    def _run(self) -> None:
        wait_s = MIN_BACKOFF_S
        while not self._stopping.is_set():
            try:
                self._converse()
            except (OSError, OverflowError, UnicodeError) as error:
                why = getattr(error, "strerror", None) or str(error)
                reason = f"gpsd at {self._name} cannot be reached ({why})"
            except MessageError:
                reason = f"what listens at {self._name} is not gpsd"
            else:
                reason = f"gpsd at {self._name} has ended the connection"
            with self._lock:
                heard = isinstance(self._state, GpsView)
                self._state = Absent(reason)
            wait_s = MIN_BACKOFF_S if heard else min(MAX_BACKOFF_S, 2 * wait_s)
            self._stopping.wait(wait_s)

    def _converse(self) -> None:
        """Take what gpsd sends until the connection ends.

        Raises:
            OSError, OverflowError, UnicodeError: there is no connection, or it broke.
            MessageError: the other side does not begin as gpsd does.
        """
        with socket.create_connection(self._address, CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(SILENCE_S)
            with self._lock:
                self._socket = connection
            try:
                if not self._stopping.is_set():
                    connection.sendall(WATCH)
                    self._listen(connection)
            finally:
                with self._lock:
                    self._socket = None

    def _listen(self, connection: socket.socket) -> None:
        view: GpsView | None = None
        with connection.makefile("rb") as lines:
            while line := lines.readline(MAX_LINE):
                came_utc_ns, came_s = time.time_ns(), time.monotonic()
                try:
                    report = parse_report(line)
                except MessageError as error:
                    if view is None:
                        raise
                    _LOG.debug("%s", error)
                    continue
                if view is None:
                    if not isinstance(report, Version):
                        raise MessageError("gpsd", "does not say its version first")
                    view = GpsView()
                if report is not None:
                    self._take(view, report, came_utc_ns, came_s)

    def _take(self, view: GpsView, report: AnyReport, came_utc_ns: int, came_s: float) -> None:
        with self._lock:
            view.take(report, came_utc_ns, came_s)
            self._state = view
        if self._on_fix is not None and isinstance(report, Fix):
            try:
                self._on_fix(report, came_s)
            except Exception:  # noqa: BLE001 - whatever the fix is used for, the pulses go on
                _LOG.exception("a fix could not be used")

    @staticmethod
    def _hang_up(connection: socket.socket) -> None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It is gone already.
