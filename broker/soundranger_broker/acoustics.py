"""Acoustics of the open air: how fast sound travels, and how much of it is left."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ZERO_CELSIUS_K = 273.15
# Dry air at 0 C; humid air is up to 0.5 % faster at 30 C, which a locator has to allow for anyway.
SPEED_AT_ZERO_CELSIUS_MPS = 331.3
# The pressure of 0 dB SPL: about the threshold of hearing at 1 kHz.
REFERENCE_PRESSURE_PA = 20e-6
# One standard atmosphere.
STANDARD_PRESSURE_KPA = 101.325


def speed_of_sound_mps(temperature_c: float) -> float:
    """Return the speed of sound in still, dry air, m/s: that of an ideal gas, 331.3 m/s at 0 C.

    Raises:
        ValueError: the temperature is below absolute zero.
    """
    return SPEED_AT_ZERO_CELSIUS_MPS * math.sqrt(1 + temperature_c / ZERO_CELSIUS_K)


def travel_time_s(
    offset_m: ArrayLike, speed_mps: float, wind_east_mps: float = 0.0, wind_north_mps: float = 0.0
) -> Floats:
    """Return how long sound takes from a source to receivers in a uniform horizontal wind, exactly.

    `offset_m` has shape (..., 3): east, north and up of the receiver from the source, metres; the result has shape
    (...), seconds. The wave front is a sphere that grows at `speed_mps` and drifts with the wind (the direction it
    blows to), so the time t is the positive root of |offset - wind t| = speed t. The wind must be slower than sound.
    """
    offset = np.asarray(offset_m, dtype=np.float64)
    along_wind = offset[..., 0] * wind_east_mps + offset[..., 1] * wind_north_mps
    margin = speed_mps**2 - wind_east_mps**2 - wind_north_mps**2
    squared_range = np.sum(offset**2, axis=-1)
    root = np.sqrt(along_wind**2 + margin * squared_range)
    # The squares of offsets below 1e-154 m are nothing, and the root is less than what it is the root of.
    time: Floats = np.maximum(root - along_wind, 0.0) / margin
    return time


def absorption_db_per_m(
    frequency_hz: ArrayLike,
    temperature_c: float,
    humidity_percent: float,
    pressure_kpa: float = STANDARD_PRESSURE_KPA,
) -> Floats:
    """Return how much of a pure tone the air itself absorbs, dB/m, in the shape of `frequency_hz`.

    The sum of shear and rotation, and of the vibrations of oxygen and of nitrogen: ISO 9613-1:1993, equations (3) to
    (5), and annex B for the share of water vapour. The standard claims 10 % from -20 to 50 C.
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    kelvin = temperature_c + ZERO_CELSIUS_K
    warmth = kelvin / 293.15
    pressure = pressure_kpa / STANDARD_PRESSURE_KPA
    saturation = 10 ** (4.6151 - 6.8346 * (273.16 / kelvin) ** 1.261)
    water_percent = humidity_percent * saturation / pressure
    oxygen_hz = pressure * (24 + 4.04e4 * water_percent * (0.02 + water_percent) / (0.391 + water_percent))
    nitrogen_hz = pressure * warmth**-0.5 * (9 + 280 * water_percent * math.exp(-4.170 * (warmth ** (-1 / 3) - 1)))
    classical = 1.84e-11 * warmth**0.5 / pressure
    oxygen = 0.01275 * math.exp(-2239.1 / kelvin) / (oxygen_hz + frequency**2 / oxygen_hz)
    nitrogen = 0.1068 * math.exp(-3352.0 / kelvin) / (nitrogen_hz + frequency**2 / nitrogen_hz)
    absorption: Floats = 8.686 * frequency**2 * (classical + warmth**-2.5 * (oxygen + nitrogen))
    return absorption


def pressure_pa(level_db_spl: float) -> float:
    """Return the sound pressure of a level: rms of an rms level, peak of a peak level."""
    return REFERENCE_PRESSURE_PA * 10 ** (level_db_spl / 20)
