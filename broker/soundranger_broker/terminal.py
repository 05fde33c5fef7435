"""What the demonstration says in a terminal: a line for a person, or a line of JSON for a programme."""

import sys
import threading
from datetime import UTC, datetime

import msgspec
from rich.console import Console

from soundranger_broker.scorecard import Line, Totals
from soundranger_broker.simulate import SimulatedTown
from soundranger_broker.simulation import Shot

_WRITING = threading.Lock()


def print_json(item: Line | Totals) -> None:
    """Write one line of JSON to standard output."""
    with _WRITING:
        sys.stdout.write(msgspec.json.encode(item).decode() + "\n")
        sys.stdout.flush()


def print_final_json(line: Line) -> None:
    """Write an event that will not change any more."""
    if line.status == "final":
        print_json(line)


def print_shot(shot: Shot, heard: int) -> None:
    """Write a simulated shot, and how many nodes hear it, as a line of JSON."""
    about = {"id": shot.id, "time_ns": shot.time_ns, "lat": shot.lat, "lon": shot.lon, "alt_m": shot.alt_m}
    sys.stdout.write(msgspec.json.encode(about | {"heard_by": heard}).decode() + "\n")
    sys.stdout.flush()


class DemoScreen:
    """The lines of a demonstration, for a person who watches."""

    def __init__(self, console: Console, seed: int, wanted_port: int) -> None:
        self._console = console
        self._seed = seed
        self._wanted_port = wanted_port

    def ready(self, page: str | None, town: SimulatedTown) -> None:
        """Say where the map is and what is going on."""
        weather = town.town
        if page is not None and not page.endswith(f":{self._wanted_port}"):
            self._console.print(f"port {self._wanted_port} is taken; the map is on another one:")
        self._console.print(f"[bold]map: {page}[/bold]   (Ctrl-C ends everything)")
        self._console.print(
            f"simulated town {self._seed}: {len(weather.nodes)} nodes, {weather.temperature_c:.0f} °C, wind "
            f"{(weather.wind_east_mps**2 + weather.wind_north_mps**2) ** 0.5:.0f} m/s; a bang or a burst every 8 s"
        )
        self._console.print(
            "[dim]○ first seen  ● final  x taken back: UTC, place, 95 % ellipse, true error, delay after firing[/dim]\n"
        )

    def line(self, line: Line) -> None:
        """Print an event: when it is first seen, when it is final and when it is taken back."""
        if line.status == "preliminary" and line.first_delay_s != line.delay_s:
            return
        sign = {"preliminary": "[yellow]○[/yellow]", "final": "[green]●[/green]", "retracted": "[red]x[/red]"}
        moment = datetime.fromtimestamp(line.time_ns / 1e9, tz=UTC)
        error = "no such shot" if line.error_m is None else f"off {line.error_m:4.1f} m"
        delay = "" if line.delay_s is None else f"  {line.delay_s:4.1f} s"
        ellipse = f"± {line.semi_major_m:.0f} x {line.semi_minor_m:.0f} m"
        self._console.print(
            f"{sign[line.status]} {moment:%H:%M:%S.%f}"[:-3]
            + f"Z  {line.lat:.5f} {line.lon:.5f}  {ellipse:<12s}  {error}  {line.nodes:2d} nodes{delay}"
        )

    def totals(self, totals: Totals) -> None:
        """Print the sums."""
        if totals.median_error_m is None:
            self._console.print(f"\n{totals.shots} shots fired, none located yet")
            return
        self._console.print(
            f"\n{totals.located} of {totals.shots_heard_by_4} shots located that 4 nodes heard, median error "
            f"{totals.median_error_m:.1f} m, {totals.events_without_shot} events without a shot; first seen "
            f"{totals.median_first_delay_s:.1f} s and final {totals.median_final_delay_s:.1f} s after firing (medians)"
        )
