"""A simulated town: virtual microphones that hear simulated gunshots, and the truth about every one of them.

A reader follows a shot from `shots` (what is fired, and when) through `propagation` (what air, walls and screens make
of it) and `microphone` (samples, with a background) to `source` (blocks at the pace of a clock); `town` is where it
happens.
"""

from soundranger_broker.simulation.microphone import VirtualMicrophone
from soundranger_broker.simulation.propagation import HEARD_MARGIN_DB, direct_travel_time_s, heard_by
from soundranger_broker.simulation.shots import Schedule, Shot
from soundranger_broker.simulation.source import SimulatedSource, wall_clock
from soundranger_broker.simulation.town import Screen, Town, VirtualNode, Wall, make_town

__all__ = [
    "HEARD_MARGIN_DB",
    "Schedule",
    "Screen",
    "Shot",
    "SimulatedSource",
    "Town",
    "VirtualMicrophone",
    "VirtualNode",
    "Wall",
    "direct_travel_time_s",
    "heard_by",
    "make_town",
    "wall_clock",
]
