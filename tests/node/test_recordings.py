"""recordings.csv: good lines are used, bad ones are each one sentence with their number."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.errors import InputError
from soundranger_node.recordings import read_recordings
from soundranger_node.utc import utc_ns

HEADER = "file,node,start_time,lat,lon,alt_m,temperature_c\n"
GOOD = "a.wav,roof-north,2018-12-19T00:49:26.000000001Z,40.4381,-79.99797,267.5,-3.9\n"


def write(folder: Path, text: str) -> Path:
    (folder / "recordings.csv").write_text(text, encoding="utf-8")
    return folder / "recordings.csv"


def test_a_line_is_a_recording_relative_to_the_folder_of_the_table(tmp_path: Path) -> None:
    (one, two), problems = read_recordings(write(tmp_path, HEADER + GOOD + GOOD.replace("a.wav", "/sound/b.flac")))
    assert problems == []
    assert one.file == tmp_path / "a.wav"
    assert two.file == Path("/sound/b.flac")
    assert one.start_ns == 1_545_180_566_000_000_001
    assert (one.node, one.lat, one.lon, one.alt_m, one.temperature_c) == ("roof-north", 40.4381, -79.99797, 267.5, -3.9)


def test_columns_may_come_in_any_order_with_others_and_without_temperature(tmp_path: Path) -> None:
    text = "\ufeffnode, lat,lon,alt_m,start_time,file,remark\nn,1, 2 ,3,2018-12-19T00:49:26Z,a.wav,windy\n\n"
    (one,), problems = read_recordings(write(tmp_path, text))
    assert problems == []
    assert (one.lat, one.lon, one.alt_m, one.temperature_c) == (1, 2, 3, None)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (GOOD.replace("a.wav", ""), "file is empty"),
        (GOOD.replace("roof-north", "Roof North"), "node cannot be used"),
        (GOOD.replace("000000001Z", "5"), "start_time does not say its time zone: end it with Z for UTC"),
        (GOOD.replace("2018-12-19T", "yesterday "), "start_time is not an ISO 8601 time"),
        (GOOD.replace("2018-12-19", "2018-02-30"), "start_time is not a possible time"),
        (GOOD.replace("2018", "1970"), "start_ns cannot be used"),
        (GOOD.replace("40.4381", "140.4381"), "lat cannot be used"),
        (GOOD.replace("40.4381", "nan"), "lat cannot be used"),
        (GOOD.replace("-79.99797", "west"), "lon cannot be used"),
        (GOOD.replace("267.5", ""), "alt_m"),
        (GOOD.replace("-3.9", "-300"), "temperature_c cannot be used"),
        ("a.wav\n", "start_time"),
        ("\0,\ufffd,,,\n", "start_time"),
        ('"' + "x" * 200_000 + '",n,,,,,\n', "start_time"),
    ],
)
def test_a_bad_line_is_one_sentence_with_its_number_and_the_others_are_used(
    tmp_path: Path, bad: str, what: str
) -> None:
    good, problems = read_recordings(write(tmp_path, HEADER + GOOD + bad + GOOD))
    assert len(good) == 2
    (problem,) = problems
    assert "recordings.csv, line 3: " in str(problem)
    assert what in str(problem)
    assert "\n" not in str(problem)


@pytest.mark.parametrize("text", ["", "\n", "file,node\n", GOOD])
def test_a_table_without_its_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="lacks the column"):
        read_recordings(write(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_recordings(tmp_path / "missing.csv")


@given(st.binary(max_size=300))
def test_garbage_never_crashes(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "recordings.csv"
    path.write_bytes(HEADER.encode() + garbage)
    recordings, _ = read_recordings(path)
    assert recordings == []


def test_a_recording_stands_for_a_boot_of_its_own_that_stays_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + GOOD + GOOD.replace("a.wav", "b.wav") + GOOD.replace("00:49", "00:50"))
    boots = [one.boot for one in read_recordings(path)[0]]
    assert len(set(boots)) == 3
    assert boots == [one.boot for one in read_recordings(path)[0]]


@given(st.integers(946_684_800_000_000_000, 4_102_444_799_999_999_999))
def test_utc_is_read_to_the_nanosecond(time_ns: int) -> None:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    days, second = divmod(seconds, 86_400)
    # A date by day count, without the parser's own help.
    text = f"{_date(days)}T{second // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}.{nanoseconds:09}Z"
    assert utc_ns(text) == time_ns


@pytest.mark.parametrize(
    "text", ["2018-12-19T02:49:26.5+02:00", "2018-12-19 00:49:26,5Z", "2018-12-18T19:49:26.5-0500"]
)
def test_an_offset_is_taken_into_account(text: str) -> None:
    assert utc_ns(text) == 1_545_180_566_500_000_000


def _date(days: int) -> str:
    """Return the date of a day since 1970 (H. Hinnant, chrono-compatible low-level date algorithms)."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return f"{year + era * 400 + (month <= 2):04}-{month:02}-{day:02}"
