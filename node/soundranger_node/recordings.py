"""recordings.csv: which audio file was recorded by which node, where, and from when on."""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from soundranger_node.errors import InputError, SoundrangerError
from soundranger_node.messages import Altitude, Celsius, Latitude, Longitude, NodeName, UtcNs
from soundranger_node.pipeline import Place
from soundranger_node.utc import utc_ns

COLUMNS = ("file", "node", "start_time", "lat", "lon", "alt_m", "temperature_c")
OPTIONAL = {"temperature_c"}
NUMBERS = ("lat", "lon", "alt_m", "temperature_c")
# Who writes down a recording's place took it from an aerial photograph or a survey.
POSITION_SIGMA_M = 0.5
# Start times are stated to the millisecond: rounding has a standard deviation of 1 ms / sqrt(12).
START_SIGMA_S = 0.0003
# A line that is longer is no line of a table.
MAX_FIELD = 4096


class Recording(msgspec.Struct, frozen=True):
    """One audio file of one node: the UTC of its first sample, the place (WGS84), the temperature if known."""

    file: Path
    node: NodeName
    start_ns: UtcNs
    lat: Latitude
    lon: Longitude
    alt_m: Altitude
    temperature_c: Celsius | None = None

    @property
    def boot(self) -> str:
        """What stands for the node's boot in ids: the same whenever this recording is detected again."""
        return hashlib.blake2b(f"{self.file.name}\n{self.start_ns}".encode(), digest_size=6).hexdigest()

    @property
    def place(self) -> Place:
        """The place of the microphone."""
        return Place(self.lat, self.lon, self.alt_m, POSITION_SIGMA_M)


def read_recordings(path: Path) -> tuple[list[Recording], list[SoundrangerError]]:
    """Return the recordings that a CSV file lists, and one error a line that cannot be used.

    Files are relative to the CSV's folder. Audio files are not looked at here.

    Raises:
        InputError: the CSV file cannot be read, or lacks a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "check its name and permissions") from None
    rows = csv.reader(text.splitlines())
    header = [name.strip() for name in next(_readable(rows), [])]
    missing = [name for name in COLUMNS if name not in header and name not in OPTIONAL]
    if missing:
        remedy = f"its first line must be {','.join(COLUMNS)}"
        raise InputError(str(path), f"lacks the column {', '.join(missing)}", remedy)
    recordings: list[Recording] = []
    problems: list[SoundrangerError] = []
    for row in _readable(rows):
        if not any(row):
            continue
        try:
            recordings.append(recording(_fields(header, row), path.parent))
        except InputError as error:
            where = f"{path}, line {rows.line_num}"
            problems.append(InputError(where, f"{error.subject} {error.problem}", error.remedy))
    return recordings, problems


def recording(fields: Mapping[str, Any], folder: Path) -> Recording:
    """Return one recording from the text of its columns, or from their values.

    Raises:
        InputError: a value is missing or not allowed; its subject is the column.
    """
    values = dict(fields)
    if not values.get("file"):
        raise InputError("file", "is empty", "name the audio file")
    try:
        values["start_ns"] = utc_ns(str(values.pop("start_time", "")))
    except ValueError as error:
        raise InputError("start_time", str(error)) from None
    values["file"] = folder / values["file"]
    try:
        return msgspec.convert(values, Recording, strict=False)
    except msgspec.ValidationError as error:
        what, _, column = str(error).partition(" - at `$.")
        raise InputError(column.rstrip("`") or "the line", f"cannot be used ({what})") from None


def _readable(rows: Any) -> Iterator[list[str]]:
    """Yield the rows of a csv reader; one that it cannot read is an empty one."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield ["?"]


def _fields(header: list[str], row: list[str]) -> dict[str, str]:
    """Return the fields of a row that have a name and are not empty, without the blanks around them."""
    named = zip(header, row, strict=False)
    return {name: value.strip() for name, value in named if name in COLUMNS and value.strip()}
