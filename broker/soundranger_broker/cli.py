"""The command line of the middle: `soundranger-broker`."""

import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import track

from soundranger_broker.compiling import compile_numerics
from soundranger_broker.evidence import commands as evidence_commands
from soundranger_broker.mqtt import Address, EmbeddedBroker, OwnBroker, SpawnedMosquitto
from soundranger_broker.storage import commands as storage_commands
from soundranger_broker.storage.commands import Database, default_database
from soundranger_node import __version__
from soundranger_node.errors import InputError, SoundrangerError
from soundranger_node.messages import EVENT, Event

FAILED = 1
BAD_INPUT = 2
# How often is looked whether the centre still works.
ALIVE_EVERY_S = 1.0
# A shell's convention for a reader that has gone: 128 + SIGPIPE.
BROKEN_PIPE = 141
DEFAULT_PAGE_PORT = 8080
DEFAULT_MQTT_PORT = 1883
# How long a detection may come after its time: a node's pipeline, its link and a slow broker.
LATENESS_NS = 2_000_000_000
# The nodes need this long to reconnect after the broker is back; until then an address may be silent.
CONNECT_S = 10.0

app = typer.Typer(
    help="soundranger, the middle: takes detections over MQTT, locates bangs, and tells people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
storage_commands.register(app)
_messages = Console(stderr=True, highlight=False)

Seed = Annotated[int | None, typer.Option(min=0, help="Same seed, same town and shots. Default: a new one each time.")]
Nodes = Annotated[int, typer.Option(min=4, max=100, help="How many virtual nodes.")]
Duration = Annotated[
    float | None, typer.Option(min=1, help="Fire for so many seconds, then end. Default: until Ctrl-C.")
]
Host = Annotated[str, typer.Option(help="Address of this machine to show the page on; 0.0.0.0 for the whole network.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port of the page; the next free one if it is taken.")]
Mqtt = Annotated[
    str,
    typer.Option(
        help="'embedded' (amqtt, in this process), 'mosquitto' (started by us), or [user:password@]host[:port].",
    ),
]


evidence_commands.register(app)


def main() -> None:
    """Run the command line; every error of ours becomes one sentence and exit status 2."""
    try:
        app()
    except SoundrangerError as error:
        _messages.print(f"soundranger-broker: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(BAD_INPUT)
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
) -> None:
    del version
    handler = RichHandler(console=_messages, show_path=False, show_level=False, markup=False, log_time_format="%X")
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler])


@app.command()
def demo(
    duration: Duration = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an event, the totals last; no page.")] = False,
    seed: Seed = None,
    nodes: Nodes = 9,
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PAGE_PORT,
) -> None:
    """Show everything at once: broker, simulated town, virtual nodes, locator and map page."""
    from soundranger_broker import terminal  # noqa: PLC0415 - the numerics take a second to import
    from soundranger_broker.demo import DemoSettings, run_demo  # noqa: PLC0415

    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    settings = DemoSettings(seed, nodes, duration, host, None if as_json else port)
    compile_numerics(_messages.print)
    if as_json:
        with _stop_signals() as stopped:
            totals = run_demo(settings, lambda _page, _town: None, terminal.print_final_json, stopped)
        terminal.print_json(totals)
        return
    show = terminal.DemoScreen(Console(highlight=False), seed, wanted_port=port)
    with _stop_signals() as stopped:
        totals = run_demo(settings, show.ready, show.line, stopped)
    show.totals(totals)


@app.command()
def simulate(
    mqtt: Annotated[str, typer.Option(help="The MQTT broker: [user:password@]host[:port].")] = "127.0.0.1",
    duration: Duration = None,
    seed: Seed = None,
    nodes: Nodes = 9,
) -> None:
    """Let the virtual nodes of a simulated town speak to any MQTT broker; what is fired is printed as JSON lines."""
    from soundranger_broker import terminal  # noqa: PLC0415 - the numerics take a second to import
    from soundranger_broker.simulate import SimulatedTown  # noqa: PLC0415

    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    town = SimulatedTown(seed, nodes, parse_address(mqtt), duration)
    _messages.print(f"{nodes} nodes of town {seed} speak to {mqtt}; Ctrl-C ends them")
    try:
        with _stop_signals() as stopped:
            town.run(terminal.print_shot, stopped)
        left = town.drain()
    finally:
        town.close()
    if left:
        raise InputError(mqtt, f"did not take {left} detections", "check that the broker and soundranger-broker run")


@app.command()
def run(
    mqtt: Mqtt = "mosquitto",
    mqtt_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of our own broker.")] = DEFAULT_MQTT_PORT,
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PAGE_PORT,
    tiles: Annotated[
        str | None,
        typer.Option(help="Map tiles: https://.../{z}/{x}/{y}.png, or a file NAME.pmtiles. Default: a grid."),
    ] = None,
    attribution: Annotated[
        str, typer.Option(help="What the tile server wants to see on its map. A file says it itself.")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="Settings, as soundranger-broker.example.toml explains.")] = None,
    database: Database = None,
) -> None:
    """Run the centre of a network: take detections over MQTT, publish and remember events, show the map."""
    from soundranger_broker.centre import Centre  # noqa: PLC0415 - the numerics take a second to import
    from soundranger_broker.elsewhere import Elsewhere  # noqa: PLC0415
    from soundranger_broker.housekeeping import Housekeeping  # noqa: PLC0415
    from soundranger_broker.locator import Locator  # noqa: PLC0415
    from soundranger_broker.recall import show  # noqa: PLC0415
    from soundranger_broker.settings import read_settings  # noqa: PLC0415
    from soundranger_broker.storage.database import database_url  # noqa: PLC0415
    from soundranger_broker.storage.store import Store  # noqa: PLC0415
    from soundranger_broker.web.app import PageSettings, create_app  # noqa: PLC0415
    from soundranger_broker.web.hub import Hub  # noqa: PLC0415
    from soundranger_broker.web.server import first_free_port, serve  # noqa: PLC0415

    settings = read_settings(config)
    where = database or settings.database or default_database(os.environ)
    with contextlib.ExitStack() as stack:
        store = Store.open(where)
        stack.callback(store.close)
        limits = settings.retention.limits()
        store.log("settings", "centre", {"version": __version__, "retention": limits}, time.time_ns())
        hub = Hub()
        show(store, hub)
        shown = PageSettings(tiles=tiles, attribution=attribution)
        page = serve(create_app(hub, shown, store=store), host, first_free_port(host, port))
        stack.callback(page.stop)
        address = stack.enter_context(_broker(mqtt, mqtt_port))
        decider = Elsewhere()
        stack.callback(decider.stop)
        locator = Locator(LATENESS_NS, decider=decider)
        centre = Centre(address, locator, time.time_ns, hub, ready=decider.ready, store=store)
        centre.start(CONNECT_S)
        stack.callback(centre.stop)
        housekeeping = Housekeeping(store, limits, time.time_ns)
        housekeeping.start()
        stack.callback(housekeeping.stop)
        _messages.print(f"map: http://{host}:{page.port}   MQTT: {address.host}:{address.port}   Ctrl-C ends it")
        _messages.print(f"memory: {database_url(where).render_as_string()}", markup=False, soft_wrap=True)
        with _stop_signals() as stopped:
            while not stopped.wait(ALIVE_EVERY_S):
                if not centre.is_alive:
                    raise typer.Exit(FAILED)


@app.command()
def locate(
    detections: Annotated[Path, typer.Argument(help="Detections, one JSON message a line; '-' for standard input.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the events. Default: standard output.")] = None,
) -> None:
    """Locate the bangs in a file of detections: final events, one JSON line each, in time order."""
    from soundranger_broker.locator import locate_all  # noqa: PLC0415 - the numerics take a second to import

    lines = _read_lines(detections)
    compile_numerics(_messages.print)
    progress = track(lines, "locating", console=_messages, transient=True, disable=not _messages.is_terminal)
    events, ingest = locate_all(progress, time.time_ns())
    _write_events(events, out)
    for reason, count in ingest.dropped.most_common():
        _messages.print(f"{detections}: {count} lines left out: {reason}", markup=False, soft_wrap=True)
    if lines and sum(ingest.dropped.values()) == len([line for line in lines if line.strip()]):
        raise InputError(str(detections), "holds no detection that can be used", "one JSON detection a line is wanted")


@app.command()
def replay(
    recordings: Annotated[Path, typer.Option(help="CSV: file,node,start_time,lat,lon,alt_m,temperature_c.")],
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="How many times faster than it happened.")] = 1.0,
    as_recorded: Annotated[bool, typer.Option(help="Keep the recorded times instead of 'now'.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write the final events. Default: standard output.")] = None,
    mqtt: Mqtt = "embedded",
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PAGE_PORT,
) -> None:
    """Replay recordings as virtual nodes through MQTT, and locate what they hear as it comes."""
    from soundranger_broker.replay import ReplaySettings, run_replay  # noqa: PLC0415 - the numerics take a second

    compile_numerics(_messages.print)
    settings = ReplaySettings(recordings, speed, as_recorded, host, port)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_broker(mqtt, 0))
        sink = stack.enter_context(_events_sink(out))
        stopped = stack.enter_context(_stop_signals())
        run_replay(settings, address, sink, lambda text: _messages.print(text, markup=False, soft_wrap=True), stopped)


def parse_address(text: str) -> Address:
    """Return the address in `[user:password@]host[:port]`.

    Raises:
        InputError: it is none.
    """
    login, _, place = text.rpartition("@")
    user, _, password = login.partition(":")
    host, colon, port = place.rpartition(":")
    if not colon:
        host, port = place, str(DEFAULT_MQTT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:  # noqa: PLR2004 - TCP's own limit
        raise InputError(text, "is no address of an MQTT broker", "write [user:password@]host[:port]")
    return Address(host, int(port), user or None, password or None)


@contextlib.contextmanager
def _broker(mqtt: str, port: int) -> Iterator[Address]:
    """Start the broker that was asked for, or take the address that was given."""
    own: OwnBroker | None = None
    if mqtt == "embedded":
        own = EmbeddedBroker(port=port)
    elif mqtt == "mosquitto":
        own = SpawnedMosquitto(port)
    try:
        yield own.address if own is not None else parse_address(mqtt)
    finally:
        if own is not None:
            own.stop()


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and a service manager set; a second Ctrl-C ends at once."""
    stopped = threading.Event()

    def stop(signum: int, _frame: Any) -> None:
        stopped.set()
        signal.signal(signum, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_lines(path: Path) -> list[bytes]:
    try:
        return (sys.stdin.buffer if str(path) == "-" else path.open("rb")).readlines()
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "name a file of detections") from None


@contextlib.contextmanager
def _events_sink(out: Path | None) -> Iterator[Any]:
    """Yield a function that writes one event a line, at once."""
    if out is None:
        yield lambda event: typer.echo(EVENT.encode(event))
        return
    try:
        file = out.open("wb")
    except OSError as error:
        raise InputError(
            str(out), f"cannot be written ({error.strerror})", "name a file in a folder that is there"
        ) from None
    with file:

        def write(event: Event) -> None:
            file.write(EVENT.encode(event) + b"\n")
            file.flush()

        yield write


def _write_events(events: list[Event], out: Path | None) -> None:
    with _events_sink(out) as write:
        for event in events:
            write(event)
