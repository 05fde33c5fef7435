"""Findings: what a check of a bundle says, for a person and for a program."""

from typing import Literal

import msgspec

# What is checked: the files, what the event says, the log, the signatures, the nodes' places, and both locations.
Check = Literal["files", "event", "log", "signatures", "places", "arrivals", "sound"]


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong: which check found it, in what, and what it is."""

    check: Check
    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}."
