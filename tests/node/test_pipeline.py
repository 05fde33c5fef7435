"""The pipeline: impulses become detections that the wire contract takes, with ids that stay."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from soundranger_node.blocks import Block, Moment, Timing
from soundranger_node.detector import Detector
from soundranger_node.messages import DETECTION, Detection
from soundranger_node.pipeline import Pipeline, Place, dated

RATE_HZ = 48_000
START_NS = 1_700_000_000_000_000_000
CLOCK_SIGMA_S = 0.003


@dataclass(frozen=True)
class SteadyClock:
    """A timebase without error, but not sure of it."""

    def timing(self, sample: float) -> Timing:
        return Timing(START_NS + round(sample / RATE_HZ * 1e9), {"clock": CLOCK_SIGMA_S}, "ntp")


def sound() -> NDArray[np.float32]:
    """Return 3 s of noise with clicks at 1, 1.5 and 2.99 s."""
    samples = 1e-3 * np.random.default_rng(1).standard_normal(3 * RATE_HZ)
    for at_s in (1.0, 1.5, 2.99):
        first = round(at_s * RATE_HZ)
        samples[first : first + 200] += 0.3 * np.exp(-np.arange(200) / 50) * np.cos(np.arange(200) / 5)
    return samples.astype(np.float32)


def detections(boot: str = "b", peak_dbfs_to_spl: float | None = None, limit: int = 120) -> list[Detection]:
    pipeline = Pipeline(
        node="roof",
        boot=boot,
        place=Place(48.1, 11.5, 520.0, 2.0),
        timebase=SteadyClock(),
        detector=Detector(RATE_HZ, limit),
        temperature_c=4.0,
        peak_dbfs_to_spl=peak_dbfs_to_spl,
    )
    return [one.detection for one in (*pipeline.push(Block(sound(), 0)), *pipeline.flush())]


def test_a_detection_is_dated_by_the_timebase_and_the_onset() -> None:
    times_s = [(one.time_ns - START_NS) / 1e9 for one in detections()]
    assert times_s == pytest.approx([1.0, 1.5, 2.99], abs=1e-4)


def test_the_sigma_of_the_time_is_that_of_clock_and_onset_together() -> None:
    for one in detections():
        assert np.hypot(CLOCK_SIGMA_S, 1e-4) <= one.time_sigma_s < 1.1 * CLOCK_SIGMA_S


def test_a_detection_carries_its_node_place_temperature_and_clock() -> None:
    one = detections()[0]
    assert (one.node, one.lat, one.lon, one.alt_m, one.position_sigma_m) == ("roof", 48.1, 11.5, 520.0, 2.0)
    assert (one.temperature_c, one.clock) == (4.0, "ntp")


def test_a_detection_is_what_the_wire_contract_takes() -> None:
    for one in detections():
        assert DETECTION.decode(DETECTION.encode(one)) == one


def test_ids_are_node_boot_and_counter_and_the_same_again() -> None:
    assert [one.id for one in detections("b7")] == ["roof-b7-1", "roof-b7-2", "roof-b7-3"]
    assert detections() == detections()


def test_only_a_calibrated_microphone_gives_a_sound_pressure_level() -> None:
    assert detections()[0].peak_db_spl is None
    calibrated = detections(peak_dbfs_to_spl=120.0)[0]
    assert calibrated.peak_dbfs is not None
    assert calibrated.peak_db_spl == pytest.approx(calibrated.peak_dbfs + 120)


def test_what_is_heard_says_which_sample_and_that_it_is_undated_where_the_clock_is_not_good() -> None:
    moment = Moment("boot", 1_500_000_000, 1e-4)

    class Unset(SteadyClock):
        def timing(self, sample: float) -> Timing:
            return Timing(round(sample), {"clock": 1e9}, "free", moment)

    for clock, undated in ((SteadyClock(), None), (Unset(), moment)):
        place = Place(48.1, 11.5, 520.0, 2.0)
        pipeline = Pipeline(node="roof", boot="b", place=place, timebase=clock, detector=Detector(RATE_HZ))
        heard = [*pipeline.push(Block(sound(), 0)), *pipeline.flush()]
        assert [one.sample / RATE_HZ for one in heard] == pytest.approx([1.0, 1.5, 2.99], abs=1e-4)
        assert {one.undated for one in heard} == {undated}
        assert heard[0].id == heard[0].detection.id


def test_a_detection_that_is_dated_anew_keeps_what_its_onset_is_known_to() -> None:
    (before, *_) = detections()
    after = dated(before, Timing(START_NS + 5, {"clock": 0.02, "read": 0.01}, "gps"))
    assert before.sigma_terms_s is not None
    onset_s = before.sigma_terms_s["onset"]
    assert after.sigma_terms_s == {"clock": 0.02, "read": 0.01, "onset": onset_s}
    assert after.time_sigma_s == pytest.approx(np.sqrt(0.02**2 + 0.01**2 + onset_s**2))
    assert (after.id, after.time_ns, after.clock, after.snr_db) == (before.id, START_NS + 5, "gps", before.snr_db)
    assert DETECTION.decode(DETECTION.encode(after)) == after


def test_noise_level_and_what_was_withheld_are_the_detectors() -> None:
    pipeline = Pipeline(
        node="roof",
        boot="b",
        place=Place(0, 0, 0, 1),
        timebase=SteadyClock(),
        detector=Detector(RATE_HZ, limit_per_minute=1),
    )
    assert pipeline.noise_dbfs is None
    assert len([*pipeline.push(Block(sound(), 0)), *pipeline.flush()]) == 1
    assert pipeline.noise_dbfs == pytest.approx(-60, abs=1.5)
    assert pipeline.withheld == 2
