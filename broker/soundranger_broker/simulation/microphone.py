"""A virtual microphone: the samples that a node of a simulated town records, whatever way they are cut into blocks."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from soundranger_broker.acoustics import Floats, pressure_pa
from soundranger_broker.simulation.propagation import arrival, paths
from soundranger_broker.simulation.shots import Shot
from soundranger_broker.simulation.town import Town
from soundranger_node.blocks import Samples
from soundranger_node.utc import NS_PER_S

# The background is drawn in pieces of twice this, each of which overlaps half of the next.
PIECE_S = 0.5
# Below this, wind screens and microphones' own low cut leave little.
BACKGROUND_LOWEST_HZ = 30.0
# Pieces between two drawn levels of the wind: some four seconds.
PIECES_PER_GUST = 8
GUST_SHARE = 0.15
GUST_DB = (3.0, 9.0)
# More shots than are ever in the air at once: a burst of six, and the one before it.
KEPT_SHOTS = 64
# What keeps the numbers of pieces and those of gusts apart in the seeds.
PIECE_STREAM, GUST_STREAM = 0, 1


class VirtualMicrophone:
    """The microphone of one node of a town.

    Sample 0 is taken at `start_ns` true UTC, whatever the node's clock says. The background is noise of equal power in
    every octave from 30 Hz, at the node's level, now and then raised by a gust of a few seconds.
    """

    def __init__(self, town: Town, node_index: int, start_ns: int, seed: int, sample_rate_hz: float = 16_000.0) -> None:
        self.node = town.nodes[node_index]
        self.start_ns = start_ns
        self.sample_rate_hz = sample_rate_hz
        self.town = town
        self._seed = (seed, node_index)
        self._full_scale_pa = pressure_pa(self.node.full_scale_db_spl)
        self._half = round(PIECE_S * sample_rate_hz)
        self._window = np.sin(np.pi * (np.arange(2 * self._half) + 0.5) / (2 * self._half))
        self._band = _pink_band(2 * self._half, sample_rate_hz)
        self._arrivals = lru_cache(maxsize=KEPT_SHOTS)(self._make_arrivals)
        self._piece = lru_cache(maxsize=3)(self._make_piece)

    def render(self, first_sample: int, count: int, shots: Iterable[Shot]) -> Samples:
        """Return samples `first_sample` (0 or more) to `first_sample + count`, shape (count,), full scale at -1 and 1.

        `shots` are all those that could be heard then, in the same order at every call; others cost next to nothing.
        The samples depend on nothing else: two calls that split a range give the same samples as one.
        """
        pressure = self._background(first_sample, count)
        for shot in shots:
            for first, wave in self._arrivals(shot):
                start, end = max(first, first_sample), min(first + len(wave), first_sample + count)
                if start < end:
                    pressure[start - first_sample : end - first_sample] += wave[start - first : end - first]
        return np.clip(pressure / self._full_scale_pa, -1, 1).astype(np.float32)

    def _make_arrivals(self, shot: Shot) -> list[tuple[int, Floats]]:
        fired_s = (shot.time_ns - self.start_ns) / NS_PER_S
        return [
            arrival(self.town, shot, path, (fired_s + path.delay_s) * self.sample_rate_hz, self.sample_rate_hz)
            for path in paths(self.town, self.node, shot)
        ]

    def _background(self, first_sample: int, count: int) -> Floats:
        """Return the background's pressure, Pa: at every sample, the end of one piece fades into the next."""
        pressure = np.empty(count)
        position = 0
        while position < count:
            number, inside = divmod(first_sample + position, self._half)
            length = min(self._half - inside, count - position)
            rising = self._piece(number + 1)[inside : inside + length]
            falling = self._piece(number)[self._half + inside : self._half + inside + length]
            pressure[position : position + length] = rising + falling
            position += length
        return pressure

    def _make_piece(self, number: int) -> Floats:
        """Return two halves of background; the window's squares add up to one, so that the power is steady."""
        rng = np.random.default_rng([*self._seed, PIECE_STREAM, number])
        real, imaginary = rng.standard_normal((2, len(self._band)))
        noise = np.fft.irfft(self._band * (real + 1j * imaginary), 2 * self._half)
        piece: Floats = pressure_pa(self.node.noise_db_spl + self._gust_db(number)) * self._window * noise
        return piece

    def _gust_db(self, piece: int) -> float:
        """Return how far the wind raises the level of a piece: a straight line from one drawn level to the next."""
        gust, since = divmod(piece, PIECES_PER_GUST)
        before_db, after_db = self._gust_level_db(gust), self._gust_level_db(gust + 1)
        return before_db + (after_db - before_db) * since / PIECES_PER_GUST

    def _gust_level_db(self, gust: int) -> float:
        rng = np.random.default_rng([*self._seed, GUST_STREAM, gust])
        return rng.uniform(*GUST_DB) if rng.random() < GUST_SHARE else 0.0


def _pink_band(count: int, sample_rate_hz: float) -> Floats:
    """Return the amplitudes of the frequencies of `count` samples: equal power in every octave, a mean power of one."""
    frequency_hz = np.fft.rfftfreq(count, 1 / sample_rate_hz)
    inside = (frequency_hz >= BACKGROUND_LOWEST_HZ) & (frequency_hz < sample_rate_hz / 2)
    amplitude = np.zeros_like(frequency_hz)
    amplitude[inside] = frequency_hz[inside] ** -0.5
    # Each amplitude meets two normal parts, and every frequency but the ends counts twice in a real signal.
    power = 4 * np.sum(amplitude**2) / count**2
    band: Floats = amplitude / np.sqrt(power)
    return band
