"""All checks in the order in which they are made, each with what it is doing meanwhile."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundranger_node.check import broker, clock, disk, machine, microphone, settings
from soundranger_node.check.result import Result
from soundranger_node.config import Settings
from soundranger_node.station import PLACE_FILE
from soundranger_node.topics import node_topic


@dataclass(frozen=True)
class Step:
    """Some checks that belong together: what is done for them, and what does it."""

    doing: str
    run: Callable[[], Sequence[Result]]


def steps(path: Path, configured: Settings | None) -> Iterator[Step]:
    """Return every check; where there is no configuration, those that need none."""
    service = machine.service()
    yield Step("looking at this computer", lambda: _computer(service))
    if configured is None:
        return
    chosen = configured
    yield Step("looking at the configuration", lambda: _configuration(chosen, path))
    yield Step("writing to the disk", lambda: _disk(chosen))
    yield Step("listening to the microphone", lambda: microphone.probe(chosen.microphone, service))
    yield Step("asking who keeps the clock", lambda: _clock(chosen))
    yield Step("speaking to the broker", lambda: _broker(chosen))


def _computer(service: machine.Service) -> list[Result]:
    return [
        machine.judge_service(service),
        machine.judge_user(machine.this_user(), service_user_exists=machine.service_user_exists()),
        machine.judge_temperature(machine.hottest_c()),
        machine.judge_throttling(machine.pi_model(), machine.throttled_bits()),
        machine.judge_memory(machine.available_mb(), service_runs=service.runs),
        machine.judge_time_zone(*machine.time_zone(os.environ)),
    ]


def _configuration(chosen: Settings, path: Path) -> list[Result]:
    return [settings.judge_name(chosen.node, path), settings.judge_place(chosen.place, path)]


def _disk(chosen: Settings) -> list[Result]:
    outbox = chosen.outbox
    room = disk.judge_disk(disk.probe(outbox.path.parent), outbox.max_mb, machine.this_user().name)
    return [room, disk.judge_outbox(outbox.path, *disk.waiting_in(outbox.path))]


def _clock(chosen: Settings) -> list[Result]:
    surveyed = chosen.place.source == "gpsd"
    return clock.probe(chosen.clock, chosen.outbox.path.parent / PLACE_FILE if surveyed else None)


def _broker(chosen: Settings) -> list[Result]:
    place = chosen.place
    # A place that is not surveyed in yet has no cell; what the broker allows is the same in each.
    anywhere = node_topic(place.lat or 0.0, place.lon or 0.0, chosen.node, "status")
    return broker.probe(chosen.mqtt, anywhere.removesuffix("/status"), time.time())
