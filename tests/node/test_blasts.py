"""The shapes of blasts that the onset picker knows."""

import numpy as np
import pytest

from soundranger_node.blasts import BLAST_S, RINGING, STEP_S, blasts

RATES_HZ = (8_000, 12_000, 16_000, 44_100, 48_000, 96_000)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_shapes_last_as_long_at_every_sample_rate(rate_hz: int) -> None:
    known = blasts(rate_hz, clipped=True)
    fractions, samples, count = known.shapes.shape
    assert samples == RINGING + round(BLAST_S * rate_hz)
    assert 1 / (fractions * rate_hz) < 1.1 * STEP_S
    assert known.rises_s.shape == (count,)
    assert 0 < len(known.outlines) < count


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_nothing_comes_ahead_of_an_onset_but_the_ringing_of_the_converter(rate_hz: int) -> None:
    known = blasts(rate_hz, clipped=False)
    ahead = np.abs(known.shapes[0, :RINGING]).max(axis=0) / np.abs(known.shapes[0]).max(axis=0)
    assert 0.01 < ahead.max() < 0.15
    # Rises over many samples do not ring.
    assert ahead[known.rises_s * rate_hz > 8].max() < 0.005


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_whole_shape_has_its_peak_where_its_rise_ends(rate_hz: int) -> None:
    known = blasts(rate_hz, clipped=False)
    # The high-pass draws the peak of a slow rise forward, by less than a quarter of it.
    peaks_s = (np.argmax(known.shapes[0], axis=0) - RINGING) / rate_hz
    assert np.all(np.abs(peaks_s - known.rises_s) <= 1.5 / rate_hz + known.rises_s / 4)


@pytest.mark.parametrize("row", range(4))
def test_row_k_is_later_by_k_fractions_of_a_sample(row: int) -> None:
    coarse, fine = blasts(12_000, clipped=False), blasts(48_000, clipped=False)
    slow = coarse.rises_s > 3e-4
    samples = np.arange(1, 40)
    late = coarse.shapes[row, RINGING + samples][:, slow]
    # Two running means of 2 ms are not quite the same at both rates.
    assert late == pytest.approx(fine.shapes[0, RINGING + 4 * samples - row][:, slow], abs=0.03)


def test_clipped_shapes_are_known_besides_the_whole_ones() -> None:
    whole, clipped = blasts(12_000, clipped=False).shapes[0].T, blasts(12_000, clipped=True).shapes[0].T
    assert len(clipped) > len(whole)
    assert all(np.any(np.all(np.isclose(clipped, shape), axis=1)) for shape in whole)
