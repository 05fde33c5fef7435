"""The result of one check, and how a person reads it."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soundranger_node.errors import SoundrangerError

Verdict = Literal["ok", "warning", "fails"]
# A terminal of a Pi without a desktop.
WIDTH = 80
# The longest verdict and the longest name, and a gap after each.
VERDICT_WIDTH = 9
NAME_WIDTH = 15
INDENT = " " * (VERDICT_WIDTH + NAME_WIDTH)


@dataclass(frozen=True)
class Result:
    """What one check found: `found` is one sentence; `remedy` says what to do, `command` what to type."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    command: str = ""


def ok(name: str, found: str) -> Result:
    """Return the result of a check that found nothing wrong."""
    return Result(name, "ok", found)


def warning(name: str, found: str, remedy: str, command: str = "") -> Result:
    """Return the result of a check after which the node works, but less well than it could."""
    return Result(name, "warning", found, remedy, command)


def fails(name: str, found: str, remedy: str, command: str = "") -> Result:
    """Return the result of a check after which the node cannot do its work."""
    return Result(name, "fails", found, remedy, command)


def of_error(name: str, error: SoundrangerError, remedy: str) -> Result:
    """Return the result of a check that ended with an error; `remedy` is for one that knows none."""
    return fails(name, f"{error.subject} {error.problem}", error.remedy or remedy)


def as_text(result: Result) -> str:
    """Return a result as lines of at most 80 columns; only a command, which is there to be copied, may be longer."""
    lines = _wrapped(result.found, f"{result.verdict:<{VERDICT_WIDTH}}{result.name:<{NAME_WIDTH}}", INDENT)
    if result.remedy:
        lines += _wrapped(result.remedy, INDENT + "-> ", INDENT + "   ")
    if result.command:
        lines.append(f"    {result.command}")
    return "\n".join(lines)


def tally(results: Sequence[Result]) -> str:
    """Return how many results there are of each verdict, the worst first."""
    counts = Counter(result.verdict for result in results)
    warnings = "1 warning" if counts["warning"] == 1 else f"{counts['warning']} warnings"
    fail = "1 fails" if counts["fails"] == 1 else f"{counts['fails']} fail"
    return f"{fail}, {warnings}, {counts['ok']} ok"


def _wrapped(text: str, first: str, following: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
