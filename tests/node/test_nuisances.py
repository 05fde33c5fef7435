"""The detector in what is loud but no shot: few detections, and a real blast in the midst of it is still found."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_node.blocks import Block
from soundranger_node.detector import Detector, Impulse

Sound = NDArray[np.float64]
Maker = Callable[[np.random.Generator], Sound]
RATE_HZ = 16_000
# A minute to learn what it is like, and a minute that counts.
SECONDS = 120
COUNT = SECONDS * RATE_HZ
TIME_S = np.arange(COUNT) / RATE_HZ
BLAST_S = 100.3


def amplitude(level_db: float) -> float:
    return float(10 ** (level_db / 20))


def coloured(rng: np.random.Generator, lowest_hz: float, highest_hz: float, slope: float) -> Sound:
    """Noise of unit mean square whose amplitude goes with a power of frequency between two."""
    frequency_hz = np.fft.rfftfreq(COUNT, 1 / RATE_HZ)
    inside = (frequency_hz >= lowest_hz) & (frequency_hz <= highest_hz)
    shape = np.where(inside, np.maximum(frequency_hz, lowest_hz) ** slope, 0)
    noise = np.fft.irfft(shape * (rng.standard_normal(len(shape)) + 1j * rng.standard_normal(len(shape))), COUNT)
    return np.asarray(noise / noise.std())


def street(rng: np.random.Generator, level_dbfs: float = -60.0) -> Sound:
    return amplitude(level_dbfs) * coloured(rng, 30, 7_000, -0.5)


def wandering(rng: np.random.Generator, every_s: float, sigma_db: float) -> Sound:
    levels_db = rng.normal(0, sigma_db, int(SECONDS / every_s) + 2)
    return np.asarray(10 ** (np.interp(TIME_S / every_s, np.arange(len(levels_db)), levels_db) / 20))


def add(sound: Sound, at_s: float, piece: Sound) -> None:
    first = round(at_s * RATE_HZ)
    sound[first : first + len(piece)] += piece[: max(COUNT - first, 0)]


def wind(rng: np.random.Generator) -> Sound:
    """Gusts: rumble that is 40 dB over the street, and a hiss that rises and falls with it by 20 dB in a second."""
    rumble, hiss = coloured(rng, 1, 150, -1.2), coloured(rng, 100, 6_000, -1.5)
    return np.asarray(street(rng) + wandering(rng, 0.7, 7) * (amplitude(-16) * rumble + amplitude(-48) * hiss))


def storm(rng: np.random.Generator) -> Sound:
    """The same, so strong that most buffets clip."""
    return amplitude(14) * wind(rng)


def rain(rng: np.random.Generator) -> Sound:
    """Five drops a second on the housing: clicks of 1-3 ms."""
    sound = street(rng)
    time_s = np.arange(round(0.02 * RATE_HZ)) / RATE_HZ
    for at_s in rng.uniform(0, SECONDS, rng.poisson(5 * SECONDS)):
        ring = np.exp(-time_s / rng.uniform(5e-4, 2e-3)) * np.sin(2 * np.pi * rng.uniform(2_000, 6_000) * time_s)
        add(sound, at_s, amplitude(rng.normal(-34, 6)) * ring)
    return sound


def speech(rng: np.random.Generator) -> Sound:
    """Syllables of a voice close by, some after a plosive."""
    sound, at_s = street(rng), 0.5
    while at_s < SECONDS - 2:
        time_s = np.arange(round(rng.uniform(0.08, 0.3) * RATE_HZ)) / RATE_HZ
        phase = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time_s))) / RATE_HZ
        first_hz, second_hz = rng.uniform(400, 900), rng.uniform(1_100, 2_300)
        voice = np.zeros(len(time_s))
        for harmonic in range(1, 20):
            hertz = harmonic * 150
            formants = np.exp(-(((hertz - first_hz) / 350) ** 2)) + 0.4 * np.exp(-(((hertz - second_hz) / 420) ** 2))
            voice += formants / harmonic * np.sin(harmonic * phase)
        rise, fall = np.minimum(1, time_s / rng.uniform(0.01, 0.04)), np.minimum(1, (time_s[-1] - time_s) / 0.05)
        add(sound, at_s, amplitude(rng.normal(-30, 4)) * voice / voice.std() * rise * fall)
        if rng.random() < 0.3:
            puff = rng.standard_normal(round(0.012 * RATE_HZ)) * np.exp(-np.arange(round(0.012 * RATE_HZ)) / 100)
            add(sound, at_s - 0.013, amplitude(-38) * puff)
        at_s += time_s[-1] + rng.exponential(0.12) + (rng.random() < 0.12) * rng.uniform(0.3, 1.2)
    return sound


def mains_hum(rng: np.random.Generator) -> Sound:
    """Eleven harmonics of 50 Hz in step, every 5 s switched on or off."""
    buzz = sum((np.sin(2 * np.pi * 50 * number * TIME_S + number) / number for number in range(1, 12)), np.zeros(COUNT))
    return np.asarray(street(rng) + (np.floor(TIME_S / 5) % 2 == 1) * amplitude(-20) * buzz)


def offset_steps(rng: np.random.Generator) -> Sound:
    """Every other second the offset jumps."""
    steps = np.zeros(COUNT)
    steps[rng.integers(0, COUNT, SECONDS // 2)] = rng.normal(0, 0.1, SECONDS // 2)
    return np.asarray(street(rng) + np.clip(np.cumsum(steps), -0.5, 0.5))


def dropouts(rng: np.random.Generator) -> Sound:
    """Three holes of digital silence a second."""
    sound = street(rng, -45)
    for at_s in rng.uniform(0, SECONDS, 3 * SECONDS):
        first = round(at_s * RATE_HZ)
        sound[first : first + round(rng.exponential(0.03) * RATE_HZ) + 1] = 0
    return sound


def gain_control(rng: np.random.Generator) -> Sound:
    """Gain that pumps by 20 dB, up and down in 1.5 s."""
    return np.asarray(street(rng, -55) * 10 ** (2 * np.abs((TIME_S / 1.5) % 1 - 0.5)))


def blast(peak: float) -> Sound:
    """A Friedlander wave of 0.8 ms and the dull reverberation of a street, 14 dB lower."""
    rng = np.random.default_rng(9)
    time_s = np.arange(round(0.6 * RATE_HZ)) / RATE_HZ
    wave = (1 - time_s / 8e-4) * np.exp(-time_s / 8e-4)
    dull = np.convolve(rng.standard_normal(len(time_s)), np.exp(-2 * np.pi * 700 * time_s[:64]))[: len(time_s)]
    tail = dull / dull.std() * np.exp(-time_s / 0.12) * np.minimum(1, time_s / 0.01)
    return np.asarray(peak * (wave + 0.1 * tail))


def detect(sound: Sound) -> tuple[Sound, int]:
    """Return the onsets of what is told, s, and how many are withheld."""
    samples = np.clip(sound, -1, 1).astype(np.float32)
    detector = Detector(RATE_HZ)
    found: list[Impulse] = []
    for first in range(0, COUNT, RATE_HZ // 4):
        found += detector.push(Block(samples[first : first + RATE_HZ // 4], first))
    found += detector.flush()
    return np.array([impulse.onset_sample / RATE_HZ for impulse in found]), detector.withheld


# What is made of the first minute, in which it is all new, and of the second.
NUISANCES: list[tuple[Maker, int, int]] = [
    (wind, 25, 25),
    (storm, 25, 25),
    (rain, 60, 25),
    (speech, 80, 40),
    (mains_hum, 12, 12),
    (offset_steps, 3, 3),
    (dropouts, 3, 3),
    (gain_control, 3, 3),
]


@pytest.mark.parametrize(("make", "first_minute", "second_minute"), NUISANCES)
def test_a_nuisance_makes_few_detections_and_hides_no_blast(make: Maker, first_minute: int, second_minute: int) -> None:
    sound = make(np.random.default_rng(7))
    add(sound, BLAST_S, blast(0.5))
    onsets_s, withheld = detect(sound)
    assert np.abs(onsets_s - BLAST_S).min() < 1e-3
    assert np.count_nonzero(onsets_s < 60) <= first_minute
    assert np.count_nonzero(onsets_s >= 60) <= second_minute
    # What would have been more is counted.
    assert (withheld > 100) == (make in {rain, speech})
