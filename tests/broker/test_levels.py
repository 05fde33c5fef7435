"""Levels: how loud arrivals are speaks for one source, or one gun, and never without bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from soundranger_broker import levels

NAN = math.nan


@given(st.lists(st.tuples(st.floats(10, 60), st.floats(30, 2000)), min_size=4, max_size=12), st.floats(-1, 1))
def test_levels_are_weighed_as_gaussians_with_one_source(heard: list[tuple[float, float]], more: float) -> None:
    snr_db, distances = (np.array(part) for part in zip(*heard, strict=True))
    mean = levels.SOURCE_SNR_DB[0] - 20 * np.log10(np.maximum(distances, levels.NEAREST_M))
    mean = mean - levels.AIR_DB_PER_M * distances
    snr_db = mean + np.clip(snr_db - mean, -10, 10) + more
    covariance = np.eye(len(heard)) * levels.NODE_SNR_SIGMA_DB**2 + levels.SOURCE_SNR_DB[1] ** 2
    expected = multivariate_normal(mean, covariance).logpdf(snr_db) + len(heard) * math.log(levels.CHANCE_SNR_RANGE_DB)
    assert levels.level_evidence(snr_db, distances) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.floats(-400, 400))
def test_no_single_level_speaks_without_bounds(snr_db: float) -> None:
    distances = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    heard_db = 78.0 - 20 * np.log10(distances) - levels.AIR_DB_PER_M * distances
    plausible = levels.level_evidence(heard_db, distances)
    heard_db[2] = snr_db
    assert plausible - 5.0 < levels.level_evidence(heard_db, distances) <= plausible + 1.0


def test_a_round_as_loud_as_the_last_speaks_for_the_gun_and_a_weak_sound_against() -> None:
    before = np.array([NAN, -10.0, 30.0])
    assert levels.level_ratio(before, np.array([NAN, -10.0, 30.0])) > 1.0
    assert levels.level_ratio(before, np.array([NAN, -25.0, 30.0])) == levels.LEAST_LEVEL_RATIO


def test_the_best_measure_that_both_know_counts() -> None:
    peak, snr = np.array([NAN, -10.0, 30.0]), np.array([NAN, NAN, 30.0])
    assert levels.level_ratio(peak, np.array([90.0, -10.0, 0.0])) > 1.0
    assert levels.level_ratio(peak, snr) == levels.level_ratio(snr, snr)


def test_a_clipped_level_and_one_that_is_not_known_say_nothing() -> None:
    clipped = np.full(levels.MEASURES, NAN)
    assert levels.level_ratio(clipped, np.array([90.0, -10.0, 30.0])) == 0.0
    assert levels.level_ratio(np.array([90.0, -10.0, 30.0]), clipped) == 0.0


@given(st.floats(-200, 200))
def test_no_level_speaks_more_strongly_against_a_round_than_the_least(change_db: float) -> None:
    before = np.array([90.0, NAN, NAN])
    assert levels.level_ratio(before, before + change_db) >= levels.LEAST_LEVEL_RATIO
