"""A node that settled bangs say is wrong about the time or its place."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """A node that is wrong: its clock by `size_s` (positive: late) or its place by `size_m`; `sigma` of that.

    `bangs` tell it, the first of them at `since_ns`.
    """

    node: str
    kind: Literal["clock", "place"]
    sigma: float
    since_ns: int
    bangs: int
    size_s: float | None = None
    size_m: float | None = None
