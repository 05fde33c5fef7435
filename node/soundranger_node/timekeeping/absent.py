"""A source of knowledge about the clock that has nothing to say, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """What stands in the place of a report that could not be had; `reason` is a clause for a person."""

    reason: str
