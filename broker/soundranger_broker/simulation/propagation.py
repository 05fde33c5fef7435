"""From a muzzle to a microphone: the paths a blast takes, and the spectrum that arrives by each of them.

Modelled are spherical spreading, absorption by the air, a uniform wind, reflections by walls and diffraction over
screens. Not modelled are the bullet's shock wave, the direction in which a gun points, the reflection by the ground,
the bending of sound by gradients of wind and temperature, and turbulence.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundranger_broker.acoustics import REFERENCE_PRESSURE_PA, Floats, absorption_db_per_m, pressure_pa, travel_time_s
from soundranger_broker.simulation.shots import Shot
from soundranger_broker.simulation.town import Town, VirtualNode, Wall

Spectrum = NDArray[np.complex128]

# The time constant of the rise near the gun, where the front is a shock; it takes 0.3 dB off the peak.
RISE_S = 2e-6
# Windows and balconies scatter what is shorter than they are: a facade's echo is dull above about this.
WALL_LOW_PASS_HZ = 2000.0
# The level that is referred to is that at this range, and nothing is louder nearer by.
REFERENCE_RANGE_M = 1.0
# A blast, with all that air, walls and screens add to its length, is over within this.
ARRIVAL_S = 0.120
# Room before the onset for what a band limit spreads to both sides.
BEFORE_ONSET_S = 0.010
# A direct arrival whose peak stands this far above the rms of the background is one that any detector should hear.
HEARD_MARGIN_DB = 15.0
# The band in which `heard_by` judges: that of a node that samples at 16 kHz.
HEARD_SAMPLE_RATE_HZ = 16_000.0


@dataclass(frozen=True)
class Path:
    """One way from a muzzle to a microphone: the time and length of it, a screen's detour on it or a wall's loss."""

    delay_s: float
    range_m: float
    detour_m: float = 0.0
    wall_loss_db: float | None = None


def blast_spectrum(frequency_hz: Floats, level_db_spl: float, positive_phase_s: float) -> Spectrum:
    """Return the Fourier transform, Pa/Hz, of a muzzle blast at 1 m that begins at time 0.

    The Friedlander wave p(t) = P (1 - t/T) exp(-t/T) with peak P and positive phase T, whose transform is
    P j w / (1/T + j w)^2 (F. G. Friedlander, Proc. R. Soc. A 186, 1946; for muzzle blasts: Beck, Nakasone and Marr,
    JASA 129, 2011). A low-pass gives it a finite rise.
    """
    omega = 2j * np.pi * frequency_hz
    friedlander = omega / (1 / positive_phase_s + omega) ** 2
    spectrum: Spectrum = pressure_pa(level_db_spl) * friedlander / (1 + omega * RISE_S)
    return spectrum


def screen_response(frequency_hz: Floats, detour_m: float, speed_mps: float) -> Spectrum:
    """Return what a screen lets pass, as a causal filter; its delay is not part of it.

    Maekawa's chart as ISO 9613-2 writes it, a loss of 10 log10(3 + 40 detour f / speed) dB, in the form of a low-pass
    of half an order: right at both ends and at most 1.5 dB off between.
    """
    response: Spectrum = 1 / np.sqrt(3 * (1 + 1j * frequency_hz * 40 * detour_m / (3 * speed_mps)))
    return response


def paths(town: Town, node: VirtualNode, shot: Shot) -> list[Path]:
    """Return the ways from a shot to a node, the direct one first."""
    muzzle = town.frame.to_enu(shot.lat, shot.lon, shot.alt_m)
    microphone = town.frame.to_enu(node.lat, node.lon, node.alt_m)
    echoes = (_echo(town, muzzle, microphone, wall) for wall in node.walls)
    return [_direct(town, muzzle, microphone, node), *(echo for echo in echoes if echo is not None)]


def direct_travel_time_s(town: Town, node: VirtualNode, shot: Shot) -> float:
    """Return how long the direct sound of a shot takes to a node, a screen's detour included."""
    return paths(town, node, shot)[0].delay_s


def _direct(town: Town, muzzle: Floats, microphone: Floats, node: VirtualNode) -> Path:
    offset = microphone - muzzle
    bearing_deg = math.degrees(math.atan2(-offset[0], -offset[1]))
    detour_m = max(
        (
            screen.detour_m
            for screen in node.screens
            if abs((bearing_deg - screen.bearing_deg + 180) % 360 - 180) <= screen.width_deg / 2
        ),
        default=0.0,
    )
    delay_s = _travel_time_s(town, offset) + detour_m / town.speed_of_sound_mps
    return Path(delay_s, float(np.linalg.norm(offset)), detour_m)


def _echo(town: Town, muzzle: Floats, microphone: Floats, wall: Wall) -> Path | None:
    """Return the path by a wall, or None where the muzzle is behind it.

    The wall reflects where the line from the muzzle to the microphone's mirror image meets it. The time is that of the
    two legs, each exact in the wind, so that an echo is never before the direct sound.
    """
    bearing = math.radians(wall.bearing_deg)
    towards_wall = np.array([math.sin(bearing), math.cos(bearing), 0.0])
    muzzle_to_wall_m = wall.distance_m + float(towards_wall @ (microphone - muzzle))
    if muzzle_to_wall_m <= 0:
        return None
    to_image = microphone + 2 * wall.distance_m * towards_wall - muzzle
    to_wall = to_image * muzzle_to_wall_m / (muzzle_to_wall_m + wall.distance_m)
    delay_s = _travel_time_s(town, to_wall) + _travel_time_s(town, microphone - muzzle - to_wall)
    return Path(delay_s, float(np.linalg.norm(to_image)), wall_loss_db=wall.loss_db)


def _travel_time_s(town: Town, offset: Floats) -> float:
    return float(travel_time_s(offset, town.speed_of_sound_mps, town.wind_east_mps, town.wind_north_mps))


def received_spectrum(town: Town, shot: Shot, path: Path, frequency_hz: Floats) -> Spectrum:
    """Return the Fourier transform, Pa/Hz, of the pressure that a path brings, time 0 being its onset.

    The air's absorption has zero phase: below the relaxation of oxygen (some 20 kHz) it is a diffusion, which spreads a
    front evenly to both sides of where the speed of sound puts it.
    """
    spectrum = blast_spectrum(frequency_hz, shot.level_db_spl, shot.positive_phase_s)
    air_db = path.range_m * absorption_db_per_m(frequency_hz, town.temperature_c, town.humidity_percent)
    spectrum *= 10 ** (-air_db / 20) * REFERENCE_RANGE_M / max(path.range_m, REFERENCE_RANGE_M)
    if path.detour_m:
        spectrum *= screen_response(frequency_hz, path.detour_m, town.speed_of_sound_mps)
    if path.wall_loss_db is not None:
        spectrum *= 10 ** (-path.wall_loss_db / 20) / (1 + 1j * frequency_hz / WALL_LOW_PASS_HZ)
    return spectrum


def arrival(town: Town, shot: Shot, path: Path, onset_sample: float, sample_rate_hz: float) -> tuple[int, Floats]:
    """Return what a path brings to a stream of samples: the number of the first of them, and their pressures, Pa.

    `onset_sample` is where in the stream the onset falls; it may lie between two samples and is exact. The band ends
    with half a cosine from a quarter to half of the sample rate, which rings less than a brick wall.
    """
    count = 2 ** math.ceil(math.log2(ARRIVAL_S * sample_rate_hz))
    frequency_hz = np.asarray(np.fft.rfftfreq(count, 1 / sample_rate_hz), dtype=np.float64)
    first = math.floor(onset_sample - BEFORE_ONSET_S * sample_rate_hz)
    shift = np.exp(-2j * np.pi * frequency_hz * (onset_sample - first) / sample_rate_hz)
    above_quarter = np.clip(4 * frequency_hz / sample_rate_hz - 1, 0, 1)
    band = (1 + np.cos(np.pi * above_quarter)) / 2
    spectrum = received_spectrum(town, shot, path, frequency_hz) * shift * band
    return first, np.fft.irfft(spectrum * sample_rate_hz, count)


def heard_by(town: Town, shot: Shot) -> list[str]:
    """Return the names of the nodes that hear a shot: the audible truth against which a network is scored.

    A node hears a shot when the peak of the direct arrival, as a node that samples at 16 kHz records it without
    clipping, stands at least 15 dB (`HEARD_MARGIN_DB`) above the rms of its background between gusts. A shot that four
    nodes hear counts as locatable.
    """
    return [
        node.name for node in town.nodes if direct_peak_db_spl(town, node, shot) >= node.noise_db_spl + HEARD_MARGIN_DB
    ]


def direct_peak_db_spl(town: Town, node: VirtualNode, shot: Shot) -> float:
    """Return the peak level of a shot's direct arrival at a node, in the band of `heard_by`."""
    direct = paths(town, node, shot)[0]
    _, pressures = arrival(town, shot, direct, 0.0, HEARD_SAMPLE_RATE_HZ)
    return 20 * math.log10(float(np.abs(pressures).max()) / REFERENCE_PRESSURE_PA)
