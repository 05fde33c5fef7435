"""The command `soundranger-node`: what a person types; each error becomes one sentence."""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from soundranger_node import __version__
from soundranger_node.audiofile import FileSource
from soundranger_node.errors import AudioError, InputError, SoundrangerError
from soundranger_node.evidence import read_evidence
from soundranger_node.offline import Progress, plain_rows, recording_rows
from soundranger_node.recordings import Recording, read_recordings

if TYPE_CHECKING:
    from soundranger_node.config import Settings

BAD_INPUT = 2
FAILED = 1
LOG_FORMAT = "soundranger-node: %(message)s"
# Where a service looks; `run` without --config prefers the one in the folder it is started in.
SYSTEM_CONFIG = Path("/etc/soundranger/soundranger-node.toml")
LOCAL_CONFIG = Path("soundranger-node.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"The configuration. Default: {LOCAL_CONFIG} here, else {SYSTEM_CONFIG}."),
]

app = typer.Typer(
    help="The node of soundranger: hears loud impulses and says when each one arrived.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_LOG = logging.getLogger(__name__)


def main() -> None:
    """Run the command line; every error of ours becomes one sentence on standard error."""
    try:
        app()
    except InputError as error:
        _LOG.error("%s", error)
        sys.exit(BAD_INPUT)
    except SoundrangerError as error:
        _LOG.error("%s", error)
        sys.exit(FAILED)


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
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)


@app.command()
def detect(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Audio files: WAV or FLAC, 8 to 192 kHz.")
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="The table of files, places and start times. Without FILE, all files in it.",
        ),
    ] = None,
) -> None:
    """Find the loud impulses in audio files: one detection a line, as JSON, on standard output.

    The same detector as on a live node. `file` says which file, `onset_s` how many seconds after its start.
    """
    listed, problems = read_recordings(recordings) if recordings else ([], [])
    for problem in problems:
        _LOG.error("%s", problem)
    if not files and not recordings:
        raise InputError("detect", "has nothing to listen to", "name audio files, or give --recordings")
    wanted = _wanted(files, listed) if files else listed
    with _progress(wanted) as advance:
        good = [_detect_in(one, advance) for one in wanted]
    if problems or not all(good):
        sys.exit(BAD_INPUT)


@app.command()
def run(config: ConfigOption = None) -> None:
    """Be a node: listen to the microphone and publish detections, until Ctrl-C or SIGTERM."""
    # Only here, so that `detect` starts fast and needs neither MQTT nor sound card.
    from soundranger_node.config import load  # noqa: PLC0415
    from soundranger_node.station import Station  # noqa: PLC0415

    _log_as_a_service()
    settings = load(config or _usual_config())
    ending = _Ending()
    with _stopped_by_signals(ending.begin):
        _LOG.info("%s", _what_starts(settings))
        station = Station(settings)
        ending.call(station.stop)
        station.run()


@app.command()
def check(config: ConfigOption = None) -> None:
    """Say what is missing or wrong on this computer and how to mend it; 0 where nothing fails.

    It may be run while the node runs.
    """
    from soundranger_node.check import result, settings  # noqa: PLC0415 - as in `run`
    from soundranger_node.check.steps import steps  # noqa: PLC0415

    path = config or _usual_config()
    configured, first = settings.read(path)
    typer.echo(result.as_text(first))
    results = [first]
    for step in steps(path, configured):
        with _doing(step.doing):
            found = step.run()
        results += found
        for one in found:
            typer.echo(result.as_text(one))
    typer.echo(result.tally(results))
    if configured is None:
        sys.exit(BAD_INPUT)
    if any(one.verdict == "fails" for one in results):
        sys.exit(FAILED)


@app.command()
def devices() -> None:
    """List the microphones: number, name, channels, usual sample rate, and what changes their sound by itself."""
    from soundranger_node import gain, soundcard  # noqa: PLC0415 - as in `run`

    inputs = soundcard.devices()
    if not inputs:
        raise AudioError("microphone", "the system lists none", "plug one in, or load the driver of the one on board")
    for found in inputs:
        typer.echo(f"{found.number:3d}  {found.name}  ({found.channels} channels, {found.sample_rate_hz:g} Hz)")
        for processing in gain.find(found.name):
            typer.echo(f"     {processing}")


def _log_as_a_service() -> None:
    """Log what is worth a line to somebody who reads it later, and where each thread stands if systemd aborts us.

    To a standard error of our own: while PortAudio starts it turns that of the process to nowhere.
    """
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    faulthandler.enable(stream)
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT, stream=stream, force=True)
    logging.getLogger("soundranger_node").setLevel(logging.INFO)


def _what_starts(settings: "Settings") -> str:
    """Return the settings that a reader of a log wants to know first, as one line."""
    place, microphone, mqtt = settings.place, settings.microphone, settings.mqtt
    where = "a place surveyed in by gpsd" if place.lat is None else f"{place.lat}, {place.lon}, {place.alt_m} m"
    device = "the default microphone" if microphone.device is None else f"microphone {microphone.device}"
    broker = f"mqtt{'s' if mqtt.tls else ''}://{mqtt.host}:{mqtt.port}"
    outbox = f"detections wait in {settings.outbox.path}"
    return f"{settings.node} {__version__} starts at {where}; {device}, broker {broker}; {outbox}"


def _usual_config() -> Path:
    # Path.exists raises where the folder is closed to us, as a home is to the service's user.
    return LOCAL_CONFIG if os.path.exists(LOCAL_CONFIG) else SYSTEM_CONFIG  # noqa: PTH110


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    """Show on a terminal what is being done, for as long as it is."""
    if not sys.stderr.isatty():
        yield
        return
    line = f"{what} ..."
    typer.echo(line, nl=False, err=True)
    try:
        yield
    finally:
        typer.echo(f"\r{' ' * len(line)}\r", nl=False, err=True)


def _wanted(files: Sequence[Path], listed: Sequence[Recording]) -> list[Recording | Path]:
    """Return, for each file, what is known of it: the recordings that the table has, or what it carries itself."""
    wanted: list[Recording | Path] = []
    for path in files:
        known = [one for one in listed if one.file.resolve() == path.resolve()]
        wanted += known or [_own_recording(path) or path]
    if any(isinstance(one, Path) for one in wanted):
        _LOG.warning(
            "files of which neither place nor start time is known get neither: give these by --recordings "
            "to make detections that can be located"
        )
    return wanted


def _own_recording(path: Path) -> Recording | None:
    try:
        return read_evidence(path)
    except InputError as error:
        # Where the file itself is bad, that is said when it is listened to.
        _LOG.info("%s", error)
        return None


def _detect_in(wanted: Recording | Path, advance: Progress) -> bool:
    """Print the detections in a file; return whether it could be used."""
    rows = plain_rows(wanted, advance) if isinstance(wanted, Path) else recording_rows(wanted, advance)
    try:
        for row in rows:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    except InputError as error:
        _LOG.error("%s", error)
        return False
    return True


@contextlib.contextmanager
def _progress(wanted: Sequence[Recording | Path]) -> Iterator[Progress]:
    """Show on standard error how far the work is, where a person sees that and it would not disturb the output."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _: None
        return
    frames = sum(_frames(one) for one in wanted)
    with typer.progressbar(length=frames, label="listening", file=sys.stderr) as bar:
        yield bar.update


def _frames(wanted: Recording | Path) -> int:
    with contextlib.suppress(InputError):
        return FileSource(wanted if isinstance(wanted, Path) else wanted.file).frames
    return 0


class _Ending:
    """The end of the program, which may be asked for before there is anything to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._stop: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """End the program."""
        with self._lock:
            self._asked = True
            self._stop()

    def call(self, stop: Callable[[], None]) -> None:
        """Have `stop` called at the end, or now where that was asked for already."""
        with self._lock:
            self._stop = stop
            if self._asked:
                stop()


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on Ctrl-C or SIGTERM; a second one ends the program at once."""

    def on_signal(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        # `stop` may want a lock that the interrupted code holds.
        threading.Thread(target=stop).start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
