"""Audio files as a source: every usual format, and files that are not what they should be."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from soundranger_node.audiofile import FileSource
from soundranger_node.errors import InputError

START_NS = 1_700_000_000_123_456_789


def tone(rate_hz: int = 48_000, seconds: float = 1.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def heard(source: FileSource) -> NDArray[np.float32]:
    """Return all samples of a source, having checked that its blocks follow one another."""
    samples: list[NDArray[np.float32]] = []
    for block in source.blocks():
        assert block.first == sum(map(len, samples))
        assert block.samples.dtype == np.float32
        samples.append(block.samples)
    return np.concatenate(samples)


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 2**-23),
        ("a.wav", "FLOAT", 2**-23),
        ("a.wav", "DOUBLE", 2**-23),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
    ],
)
def test_the_samples_are_those_of_the_file(tmp_path: Path, name: str, subtype: str, step: float) -> None:
    soundfile.write(tmp_path / name, tone(), 48_000, subtype=subtype)
    np.testing.assert_allclose(heard(FileSource(tmp_path / name)), tone(), atol=step)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 192_000])
def test_any_rate_from_8_to_192_khz_is_heard(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate_hz), rate_hz)
    source = FileSource(tmp_path / "a.wav")
    assert source.sample_rate_hz == rate_hz
    assert len(heard(source)) == rate_hz


@pytest.mark.parametrize("rate_hz", [4_000, 384_000])
def test_other_rates_are_refused(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate_hz), rate_hz)
    with pytest.raises(InputError, match=f"sample rate of {rate_hz} Hz"):
        FileSource(tmp_path / "a.wav")


def test_of_several_channels_the_first_is_heard(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), -tone(), 0 * tone()], axis=1), 48_000)
    np.testing.assert_allclose(heard(FileSource(tmp_path / "a.wav")), tone(), atol=2**-15)


def test_a_source_can_be_heard_twice_and_closed_early(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    source = FileSource(tmp_path / "a.wav")
    np.testing.assert_array_equal(heard(source), heard(source))
    blocks = source.blocks()
    next(blocks)
    source.close()
    assert list(blocks) == []


def test_samples_are_dated_from_the_start_to_the_nanosecond(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    timebase = FileSource(tmp_path / "a.wav", START_NS).timebase
    assert timebase.timing(0).time_ns == START_NS
    assert timebase.timing(48_000 * 3_600 + 0.5).time_ns == START_NS + 3_600_000_000_000 + 10_417


def test_samples_that_are_no_numbers_become_silence_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = tone()
    sound[[100, 20_000]] = np.nan
    sound[300] = -np.inf
    soundfile.write(tmp_path / "a.wav", sound, 48_000, subtype="FLOAT")
    result = heard(FileSource(tmp_path / "a.wav"))
    assert result[[100, 300, 20_000]].tolist() == [0, 0, 0]
    assert "3 samples are no finite numbers" in caplog.text


def test_a_file_of_digital_silence_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert sum(len(block.samples) for block in FileSource(tmp_path / "silent.wav").blocks()) == 16_000
    assert "nothing but digital silence" in caplog.text


def test_a_file_that_was_cut_off_gives_what_is_there_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    assert len(heard(FileSource(tmp_path / "a.wav"))) == pytest.approx(24_000, abs=50)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "is cut off: 50 % of the sound it promises is there, and used" in record.message


def test_a_flac_file_that_was_cut_off_gives_its_beginning_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 96_000)
    soundfile.write(tmp_path / "a.flac", noise, 48_000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    result = heard(FileSource(tmp_path / "a.flac"))
    assert 24_000 <= len(result) <= 48_000
    np.testing.assert_allclose(result, noise[: len(result)], atol=2**-15)
    assert "is damaged after" in caplog.text


def test_a_whole_file_is_heard_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 48_000)
    heard(FileSource(tmp_path / "a.wav"))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("text.wav", b"this is no sound\n" * 10, "is not an audio file"),
        ("empty.wav", b"", "is not an audio file"),
        ("cut.flac", b"fLaC\0\0", "is not an audio file"),
        ("sound.raw", b"\0" * 1_000, "does not say its sample rate"),
    ],
)
def test_what_is_no_audio_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem) as raised:
        FileSource(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert "give a WAV or FLAC file" in str(raised.value)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_a_file_of_next_to_no_samples_is_refused(tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone()[:samples], 48_000)
    with pytest.raises(InputError, match="holds"):
        FileSource(tmp_path / "a.wav")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        FileSource(tmp_path / "missing.wav")
    with pytest.raises(InputError, match="Is a directory"):
        FileSource(tmp_path)
