"""The detector on rendered gunfire: one world, in closed form in the frequency domain, sampled at any rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Samples
from soundranger_node.detector import Detector, Impulse

# Nothing above this is in the world, so that every sample rate from 12 kHz on holds all of it.
HIGHEST_HZ = 5_500.0
LOWEST_HZ = 20.0
NOISE_DBFS = -60.0
POSITIVE_PHASE_S = 0.0008
RATES_HZ = [12_000, 16_000, 44_100, 48_000, 96_000]
FACADE_HZ = 1_000.0
FACADE_S = 0.001
# From round to round: loads differ.
LEVEL_SIGMA_DB = 0.5
# How far sampling may move a feature, relative and absolute: the largest of few samples is less than the true peak.
TOLERANCES: dict[str, tuple[float, float]] = {
    "crest_factor": (0.1, 0),
    "kurtosis": (0.2, 0),
    "zero_crossing_hz": (0.25, 0),
    "centroid_hz": (0.05, 0),
    "bandwidth_hz": (0.15, 0),
    "low_share": (0, 0.06),
    "mid_share": (0, 0.06),
    "high_share": (0, 0.04),
    "tail_db": (0, 1),
    "noise_dbfs": (0, 0.5),
    "before_dbfs": (0, 1),
    "echo": (0, 0.1),
    "echo_level_db": (0, 1),
    "echo_likeness": (0, 0.15),
}


@dataclass(frozen=True)
class World:
    """Blasts at one microphone in pink noise. Each has the same echoes (delay s, level dB) and reverberation."""

    seconds: int
    blasts_s: Sequence[float]
    peak_dbfs: float
    echoes: Sequence[tuple[float, float]] = ()
    reverberation_db: float | None = None

    def sampled(self, rate_hz: int) -> Samples:
        """Return the samples that a microphone of any rate takes of this same world."""
        frequency_hz = np.arange(round(HIGHEST_HZ * self.seconds)) / self.seconds
        spectrum = self._noise(frequency_hz) + self._blasts(frequency_hz)
        count = self.seconds * rate_hz
        padded = np.zeros(count // 2 + 1, complex)
        padded[: len(spectrum)] = spectrum
        samples: Samples = (np.fft.irfft(padded, count) * rate_hz).astype(np.float32)
        return samples

    def _noise(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        rng = np.random.default_rng(5)
        draws = rng.standard_normal((2, len(frequency_hz)))
        amplitude = np.where(frequency_hz > LOWEST_HZ, np.maximum(frequency_hz, LOWEST_HZ) ** -0.5, 0)
        # Parseval: the mean square of the signal, of spectral lines 1 / seconds apart.
        power = 4 * np.square(amplitude).sum() / self.seconds**2
        spectrum: NDArray[np.complex128] = amplitude * (draws[0] + 1j * draws[1]) / np.sqrt(power)
        return spectrum * 10 ** (NOISE_DBFS / 20)

    def _blasts(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Friedlander waves (see the simulator's propagation), with an edge that the band can hold."""
        rng = np.random.default_rng(6)
        omega = 2j * np.pi * frequency_hz
        peaks = 10 ** ((self.peak_dbfs + LEVEL_SIGMA_DB * rng.standard_normal(len(self.blasts_s))) / 20)
        fired = sum(peak * np.exp(-omega * at_s) for peak, at_s in zip(peaks, self.blasts_s, strict=True))
        # A facade scatters what is shorter than its windows and balconies, and is not all at one distance.
        facade = (1 + np.exp(-omega * FACADE_S)) / 2 / (1 + omega / (2 * np.pi * FACADE_HZ))
        paths = 1 + facade * sum(10 ** (level_db / 20) * np.exp(-omega * delay_s) for delay_s, level_db in self.echoes)
        if self.reverberation_db is not None:
            # Many weak paths, their power falling by 60 dB in a second.
            delays_s = rng.uniform(0.005, 0.5, 250)
            signs = rng.choice([-1, 1], 250) * 10 ** (self.reverberation_db / 20 - 3 * delays_s)
            paths = paths + sum(sign * np.exp(-omega * delay_s) for sign, delay_s in zip(signs, delays_s, strict=True))
        band = np.cos(np.pi / 2 * np.clip(2 * frequency_hz / HIGHEST_HZ - 1, 0, 1)) ** 2
        blast = omega / (1 / POSITIVE_PHASE_S + omega) ** 2
        return np.asarray(fired * paths * blast * band)


def detect(samples: Samples, rate_hz: int) -> list[Impulse]:
    detector, block = Detector(rate_hz), rate_hz // 50
    found = []
    for first in range(0, len(samples), block):
        found += detector.push(Block(samples[first : first + block], first))
    return found + detector.flush()


def fire(rounds: int, interval_s: float, **more: Any) -> World:
    """A burst from 2 s on, in a street of two walls and many weak echoes."""
    blasts_s = [2 + number * interval_s for number in range(rounds)]
    return World(math.ceil(blasts_s[-1]) + 1, blasts_s, -30.0, ((0.023, -8.0), (0.081, -10.0)), -26.0, **more)


def nearest(found: list[Impulse], rate_hz: int, at_s: float) -> Impulse:
    return min(found, key=lambda one: abs(one.onset_sample / rate_hz - at_s))


@pytest.mark.parametrize("rate_hz", [12_000, 16_000, 48_000])
@pytest.mark.parametrize("interval_s", [0.05, 0.1])
@pytest.mark.parametrize("peak_dbfs", [-30.0, -12.0])
def test_every_round_of_automatic_fire_in_a_street_has_its_own_onset(
    interval_s: float, rate_hz: int, peak_dbfs: float
) -> None:
    world = replace(fire(20, interval_s), peak_dbfs=peak_dbfs)
    found = detect(world.sampled(rate_hz), rate_hz)
    nearest_s = [nearest(found, rate_hz, at_s).onset_sample / rate_hz for at_s in world.blasts_s]
    assert len(set(nearest_s)) == len(world.blasts_s)
    assert nearest_s == pytest.approx(world.blasts_s, abs=1.5e-3)
    # The limit of the world's band rings a third of a millisecond ahead of a loud blast.
    assert np.median(np.abs(np.subtract(nearest_s, world.blasts_s))) < 4e-4


def test_the_rounds_are_heard_at_20_db() -> None:
    found = detect(fire(30, 0.05).sampled(16_000), 16_000)
    assert np.median([one.snr_db for one in found]) == pytest.approx(20, abs=2)


def test_ten_seconds_of_1200_rounds_a_minute_are_told_in_full() -> None:
    world = replace(fire(200, 0.05), peak_dbfs=-15.0)
    detector = Detector(12_000)
    found = [*detector.push(Block(world.sampled(12_000), 0)), *detector.flush()]
    assert detector.withheld == 0
    assert detector.noise_dbfs is not None
    assert detector.noise_dbfs < NOISE_DBFS + 4
    onsets_s = [one.onset_sample / 12_000 for one in found]
    assert all(min(abs(onset_s - at_s) for onset_s in onsets_s) < 1.5e-3 for at_s in world.blasts_s)


@pytest.mark.parametrize("interval_s", [0.05, 0.1])
def test_a_further_round_is_rarely_taken_for_an_echo(interval_s: float) -> None:
    world = replace(fire(30, interval_s), peak_dbfs=-20.0)
    found = detect(world.sampled(16_000), 16_000)
    rounds = [nearest(found, 16_000, at_s) for at_s in world.blasts_s]
    assert all(one.features["echo"] < 0.5 for one in rounds)
    assert all(one.features["echo_likeness"] > 0.8 for one in rounds[1:])
    assert all(abs(one.features["echo_level_db"]) < 4 for one in rounds[1:])


def test_the_first_of_a_burst_is_no_echo_and_has_none_to_compare_with() -> None:
    first = detect(fire(3, 0.2).sampled(16_000), 16_000)[0]
    assert first.features["echo"] == 0
    assert "echo_delay_s" not in first.features


@pytest.mark.parametrize(("delay_s", "level_db"), [(0.08, -9.0), (0.3, -12.0), (1.2, -15.0)])
def test_the_echo_of_a_wall_says_so_and_how_late_and_weak_it_is(delay_s: float, level_db: float) -> None:
    world = World(5, [2.0], -12.0, ((delay_s, level_db),))
    direct, echo = detect(world.sampled(16_000), 16_000)
    assert direct.features["echo"] == 0
    assert echo.features["echo"] > 0.7
    assert echo.features["echo_delay_s"] == pytest.approx(delay_s, abs=3e-3)
    # The facade takes from the level what it scatters and spreads.
    assert level_db - 10 < echo.features["echo_level_db"] < level_db + 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_same_world_gives_the_same_impulses_at_any_sample_rate(rate_hz: int) -> None:
    world = World(4, [2.0, 2.3, 2.6, 2.9], -20.0, ((0.12, -3.0),), -34.0)
    reference, found = detect(world.sampled(48_000), 48_000), detect(world.sampled(rate_hz), rate_hz)
    assert len(found) == len(reference)
    for one, other in zip(found, reference, strict=True):
        within_s = 1 / rate_hz + 2 * other.onset_sigma_s
        assert one.onset_sample / rate_hz == pytest.approx(other.onset_sample / 48_000, abs=within_s)
        assert one.snr_db == pytest.approx(other.snr_db, abs=1)
        assert one.peak_dbfs == pytest.approx(other.peak_dbfs, abs=1)
        assert one.features.keys() == other.features.keys()
        for name, (share, difference) in TOLERANCES.items():
            value, expected = one.features.get(name, 0), other.features.get(name, 0)
            assert value == pytest.approx(expected, rel=share, abs=difference), name


@pytest.mark.parametrize("rate_hz", [12_000, 48_000])
@pytest.mark.parametrize("block_s", [0.005, 0.02, 0.05])
def test_a_blast_is_told_at_most_120_ms_and_a_block_after_its_onset(rate_hz: int, block_s: float) -> None:
    # Not a multiple of frames or blocks: each blast falls elsewhere in them.
    world = World(12, [2 + 0.571 * number for number in range(17)], -20.0)
    samples, detector, size = world.sampled(rate_hz), Detector(rate_hz), round(block_s * rate_hz)
    told_s = [
        (first + size - one.onset_sample) / rate_hz
        for first in range(0, len(samples), size)
        for one in detector.push(Block(samples[first : first + size], first))
    ]
    assert len(told_s) == len(world.blasts_s)
    assert max(told_s) < 0.12 + block_s
