"""Tables as CSV (RFC 4180) that no spreadsheet takes for a program."""

import csv
import io
from collections.abc import Iterable
from typing import Final

# A cell that begins with one of these (the last four are as wide as two), perhaps after blanks, is a formula.
FORMULA: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
MEDIA_TYPE: Final = "text/csv"


def line(cells: Iterable[str | float | None]) -> str:
    """Return a line of a table; texts that would run as formulas begin with an apostrophe, which shows them as text."""
    out = io.StringIO()
    csv.writer(out).writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue()


def _harmless(text: str) -> str:
    begins_oddly = text[:1] != text[:1].strip() or text.lstrip().startswith(FORMULA)
    return f"'{text}" if begins_oddly else text
