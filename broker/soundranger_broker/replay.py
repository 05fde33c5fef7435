"""Replay: real recordings as virtual nodes, through MQTT, at the pace at which they happened or faster."""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from soundranger_broker.centre import Centre
from soundranger_broker.deciding import News
from soundranger_broker.locator import Locator
from soundranger_broker.mqtt import Address
from soundranger_broker.storage.store import temporary_store
from soundranger_broker.virtual import VirtualNetwork, VirtualPlace
from soundranger_broker.web.app import create_app
from soundranger_broker.web.hub import Hub
from soundranger_broker.web.server import first_free_port, serve
from soundranger_node.audiofile import FileSource
from soundranger_node.blocks import Block, Timebase, Timing
from soundranger_node.errors import InputError, SoundrangerError
from soundranger_node.messages import Event
from soundranger_node.recordings import POSITION_SIGMA_M, START_SIGMA_S, Recording, read_recordings

# A node's pipeline, its link and the broker deliver within this, on the wall clock, whatever the speed: generous, for
# nobody waits for a replay, and a machine that plays ten nodes at once has its hands full.
LATENESS_S = 5.0
# How far, in wall time, the replay starts before the first sample, so that all nodes are connected.
LEAD_IN_S = 2.0
CONNECT_S = 10.0
# How long the last detections may take to be delivered, and the locator to conclude.
DRAIN_S = 30.0
POLL_S = 0.05
# How often a person is told how far the replay is.
PROGRESS_S = 10.0


@dataclass(frozen=True)
class ReplaySettings:
    """Which recordings to replay, how fast, and where to show the map."""

    recordings: Path
    speed: float
    as_recorded: bool
    host: str
    port: int


@dataclass(frozen=True)
class Pace:
    """The clock of a replay: runs `speed` times as fast as the wall clock, from `origin_ns` at `started_s`."""

    origin_ns: int
    speed: float
    started_s: float

    def now_ns(self) -> int:
        """Return the replayed UTC."""
        return self.origin_ns + round((time.monotonic() - self.started_s) * self.speed * 1e9)

    def wait_until(self, utc_ns: int, closed: threading.Event) -> None:
        """Wait until a replayed UTC has come, or `closed` is set."""
        closed.wait(max(0.0, (utc_ns - self.now_ns()) / 1e9 / self.speed))


@dataclass(frozen=True)
class _Piece:
    """One recording in the stream of its node: where it begins in samples and in UTC, and how long it is."""

    recording: Recording
    first: int
    start_ns: int


@dataclass(frozen=True)
class PieceTimebase:
    """Dates the samples of a node whose recordings follow one another with gaps."""

    pieces: tuple[_Piece, ...]
    sample_rate_hz: float

    def timing(self, sample: float) -> Timing:
        """Return the UTC of a sample: counted from the start of the recording that it lies in."""
        piece = next((piece for piece in reversed(self.pieces) if sample >= piece.first), self.pieces[0])
        since_start_s = (sample - piece.first) / self.sample_rate_hz
        return Timing(piece.start_ns + round(since_start_s * 1e9), {"start": START_SIGMA_S}, "free")


class ReplaySource:
    """A source (see `soundranger_node.blocks`): the recordings of one node, each at its time."""

    def __init__(self, recordings: Sequence[Recording], shift_ns: int, pace: Pace) -> None:
        ordered = sorted(recordings, key=lambda one: one.start_ns)
        self._pace = pace
        self._closed = threading.Event()
        self._rate_hz = FileSource(ordered[0].file).sample_rate_hz
        origin_ns = ordered[0].start_ns
        self._pieces = tuple(
            _Piece(one, round((one.start_ns - origin_ns) / 1e9 * self._rate_hz), one.start_ns + shift_ns)
            for one in ordered
        )

    @property
    def sample_rate_hz(self) -> float:
        """The rate of the node's recordings."""
        return self._rate_hz

    @property
    def timebase(self) -> Timebase:
        """Dates samples by the start of the recording that they lie in."""
        return PieceTimebase(self._pieces, self._rate_hz)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of one recording after the other, each when its last sample has been heard."""
        for piece in self._pieces:
            for block in FileSource(piece.recording.file).blocks():
                end_ns = piece.start_ns + round((block.first + len(block.samples)) / self._rate_hz * 1e9)
                self._pace.wait_until(end_ns, self._closed)
                if self._closed.is_set():
                    return
                yield Block(block.samples, piece.first + block.first)

    def close(self) -> None:
        """End `blocks` at once."""
        self._closed.set()


def run_replay(
    settings: ReplaySettings,
    address: Address,
    write: Callable[[Event], None],
    say: Callable[[str], None],
    stopped: threading.Event,
) -> None:
    """Replay recordings against a broker, locate what they hear, and `write` the final events.

    Raises:
        SoundrangerError: nothing can be replayed, or the broker or the page cannot be reached or started.
    """
    recordings = _usable(settings.recordings, say)
    first_ns = min(one.start_ns for one in recordings)
    lead_in_ns = round(LEAD_IN_S * settings.speed * 1e9)
    shift_ns = 0 if settings.as_recorded else time.time_ns() + lead_in_ns - first_ns
    pace = Pace(first_ns + shift_ns - lead_in_ns, settings.speed, time.monotonic())
    hub = Hub()

    def on_news(news: News) -> None:
        if isinstance(news, Event) and news.status == "final":
            write(news)

    with ExitStack() as stack:
        store = stack.enter_context(temporary_store())
        page = serve(create_app(hub, store=store), settings.host, first_free_port(settings.host, settings.port))
        stack.callback(page.stop)
        locator = Locator(round(LATENESS_S * settings.speed * 1e9))
        centre = Centre(address, locator, pace.now_ns, hub, on_news, store=store)
        centre.start(CONNECT_S)
        stack.callback(centre.stop)
        network = VirtualNetwork()
        stack.callback(network.close)
        _add_nodes(network, recordings, shift_ns, pace, address)
        say(f"map: http://{settings.host}:{page.port}   {len(network.nodes)} nodes, {len(recordings)} recordings")
        network.start()
        _watch(network, pace, recordings, shift_ns, say, stopped)
        if stopped.is_set():
            return
        left = network.drain(DRAIN_S)
        centre.conclude(DRAIN_S)
        if left:
            problem = f"{left} detections were not delivered"
            raise InputError(str(settings.recordings), problem, "choose a lower --speed")


def _usable(path: Path, say: Callable[[str], None]) -> list[Recording]:
    """Return the recordings that can be read; say what is wrong with the others."""
    recordings, problems = read_recordings(path)
    usable = []
    for one in recordings:
        try:
            FileSource(one.file)
        except SoundrangerError as error:
            problems.append(error)
        else:
            usable.append(one)
    for problem in problems:
        say(str(problem))
    if not usable:
        raise InputError(str(path), "names no recording that can be replayed", "see the lines above")
    return usable


def _add_nodes(
    network: VirtualNetwork, recordings: Sequence[Recording], shift_ns: int, pace: Pace, address: Address
) -> None:
    by_node: dict[str, list[Recording]] = defaultdict(list)
    for one in recordings:
        by_node[one.node].append(one)
    for node, own in sorted(by_node.items()):
        place = VirtualPlace(
            node=node,
            lat=own[0].lat,
            lon=own[0].lon,
            alt_m=own[0].alt_m,
            clock="free",
            clock_sigma_s=START_SIGMA_S,
            temperature_c=own[0].temperature_c,
            position_sigma_m=POSITION_SIGMA_M,
        )
        network.add(ReplaySource(own, shift_ns, pace), place, f"{own[0].start_ns:x}", address, pace.now_ns)


def _watch(
    network: VirtualNetwork,
    pace: Pace,
    recordings: Sequence[Recording],
    shift_ns: int,
    say: Callable[[str], None],
    stopped: threading.Event,
) -> None:
    """Wait for the nodes to have heard all, telling now and then how far it is."""
    last_ns = max(one.start_ns for one in recordings) + shift_ns
    next_s = time.monotonic() + PROGRESS_S
    for _ in itertools.takewhile(lambda _: network.listening, itertools.count()):
        if stopped.wait(POLL_S):
            return
        if time.monotonic() >= next_s:
            next_s += PROGRESS_S
            left_s = max(0.0, (last_ns - pace.now_ns()) / 1e9 / pace.speed)
            say(f"{network.listening} nodes still listen; about {left_s:.0f} s to the last recording")
