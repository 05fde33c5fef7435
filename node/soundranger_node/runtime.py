"""One node at work: from its source of sound through the pipeline into the outbox, and on to the broker."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec.structs import replace
from nacl.signing import SigningKey

from soundranger_node.blocks import Block, Moment, Source, Timing, Undatable
from soundranger_node.clips import Clips
from soundranger_node.errors import MessageError
from soundranger_node.link import Link
from soundranger_node.messages import DETECTION, EARLIEST_NS, MAX_PROBLEMS, MAX_SHORT_TEXT, Detection, NodeStatus
from soundranger_node.outbox import Dated, Outbox, Undated
from soundranger_node.pipeline import Heard, dated
from soundranger_node.signing import sign

# Often enough to see within a minute that a node is gone, seldom enough to cost nothing.
STATUS_INTERVAL_S = 30.0
# How soon what waits for a good clock is dated once there is one.
ATTEND_S = 1.0
# How many of these are dated in one transaction: well under a second's work.
DATED_AT_ONCE = 100
# How long `close` waits for `run` to take in the last block and flush the pipeline.
RUN_END_S = 10.0
# Why a detection is lost, where the outbox does not know it by itself.
INVALID = "invalid"
UNDATABLE = "undatable"

_LOG = logging.getLogger(__name__)


class DetectionPipeline(Protocol):
    """Turns blocks of sound into detections."""

    noise_dbfs: float | None
    withheld: int

    def push(self, block: Block) -> list[Heard]:
        """Return the detections that are complete with this block."""
        ...

    def flush(self) -> list[Heard]:
        """Return what was still open when the sound ended."""
        ...


class Retrospect(Protocol):
    """Dates moments that were heard before the system clock was good; asked from a thread of its own."""

    def redate(self, moment: Moment) -> Timing | Undatable:
        """Return the UTC of a moment with all terms but the onset's, or why there is none."""
        ...


class Node:
    """Wires a source, a pipeline, an outbox and a link together; closes all of them.

    The same for a Pi, a file and a virtual node: no signals, no logging set-up. Besides the link's thread there is one
    for what must go on while no sound comes: the status, the outbox's upkeep and dating in retrospect. `clips` cuts
    the sound that the link is asked for; without it there is none. `key` signs the detections; without it they stay
    unsigned. `heard` is told of every block that was worked on.
    """

    def __init__(
        self,
        source: Source,
        pipeline: DetectionPipeline,
        outbox: Outbox,
        link: Link,
        status: Callable[[], NodeStatus],
        *,
        key: SigningKey | None = None,
        clips: Clips | None = None,
        retrospect: Retrospect | None = None,
        heard: Callable[[Block], None] = lambda _block: None,
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._outbox = outbox
        self._link = link
        self._status = status
        self._key = key
        self._clips = clips
        self._retrospect = retrospect
        self._heard = heard
        self._said_invalid = False
        self._idle = threading.Event()
        self._idle.set()
        self._closing = threading.Event()
        self._attending = threading.Thread(target=self._attend, name=f"attend {link.node}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether both threads beside `run` are at work."""
        return self._link.alive and self._attending.is_alive()

    def run(self) -> None:
        """Work until the source ends or `close` is called; the link goes on until `close`, to empty the outbox.

        Raises:
            AudioError: the source failed.
        """
        self._idle.clear()
        try:
            self._link.start()
            self._attending.start()
            for block in self._source.blocks():
                self._hear(block)
        finally:
            try:
                self._keep(self._pipeline.flush())
                self._link.give_status(self._status())
            finally:
                self._idle.set()

    def close(self) -> None:
        """End `run` where another thread runs it, say that the node is offline, and close all parts."""
        self._source.close()
        self._idle.wait(RUN_END_S)
        self._closing.set()
        if self._attending.is_alive():
            self._attending.join(RUN_END_S)
        self._link.close()
        self._outbox.close()

    def _hear(self, block: Block) -> None:
        heard = self._pipeline.push(block)
        self._keep(heard)
        if self._clips is not None:
            self._clips.hear(block, heard)
            for clip in self._clips.cut():
                self._link.give_clip(clip.encode)
        self._heard(block)

    def _keep(self, heard: Iterable[Heard]) -> None:
        """Put detections into the outbox; one that breaks the contract is counted and does not stop the others."""
        for one in heard:
            try:
                self._put(one)
            except MessageError as error:
                self._say_invalid(error)
                self._outbox.count_lost(INVALID)
            else:
                self._link.wake()

    def _put(self, heard: Heard) -> None:
        detection = heard.detection
        if heard.undated is None:
            self._outbox.put(detection.id, detection.time_ns, self._encoded(detection))
        else:
            # What an unset clock says may be no time that the contract knows.
            payload = DETECTION.encode(replace(detection, time_ns=EARLIEST_NS))
            self._outbox.put_undated(detection.id, heard.undated, payload)

    def _encoded(self, detection: Detection) -> bytes:
        """Return what is to be sent: signed here, once, so that a resend is the same bytes."""
        payload = DETECTION.encode(detection)
        return payload if self._key is None else sign(payload, self._key)

    def _dated(self, waiting: Undated, timing: Timing) -> Dated:
        """Return a detection with its time.

        Raises:
            MessageError: that is no possible time, or the message is damaged.
        """
        detection = dated(DETECTION.decode(waiting.payload), timing)
        return Dated(detection.id, detection.time_ns, self._encoded(detection))

    def _say_invalid(self, error: MessageError) -> None:
        """Log the first one; the outbox counts them all."""
        if not self._said_invalid:
            _LOG.error("a detection is lost: %s", error)
        self._said_invalid = True

    def _attend(self) -> None:
        next_status_s = time.monotonic()
        while True:
            more = self._retrospect is not None and self._date_some(self._retrospect)
            now_s = time.monotonic()
            if now_s >= next_status_s:
                status = self._status()
                self._outbox.upkeep(status.time_ns if status.clock.good else None)
                self._link.give_status(status)
                next_status_s = now_s + STATUS_INTERVAL_S
            if self._closing.wait(0 if more else ATTEND_S):
                return

    def _date_some(self, retrospect: Retrospect) -> bool:
        """Date the oldest that wait for a good clock, or give them up; return whether the next may go the same way."""
        waiting = self._outbox.waiting_for_clock(DATED_AT_ONCE)
        known: list[Dated] = []
        gone: dict[str, list[str]] = {UNDATABLE: [], INVALID: []}
        for one in waiting:
            timing = retrospect.redate(one.moment)
            if timing is Undatable.EVER:
                gone[UNDATABLE].append(one.id)
            elif isinstance(timing, Timing):
                try:
                    known.append(self._dated(one, timing))
                except MessageError as error:
                    self._say_invalid(error)
                    gone[INVALID].append(one.id)
        before = self._outbox.undated
        self._outbox.date(known)
        for reason, ids in gone.items():
            self._outbox.drop_undated(ids, reason)
        if known:
            self._link.wake()
        return len(waiting) == DATED_AT_ONCE and self._outbox.undated <= before - len(waiting)


def problems(found: Iterable[str | None]) -> list[str] | None:
    """Return what does not work just now as a status can carry it: as much as the contract allows, None for nothing."""
    return [problem[:MAX_SHORT_TEXT] for problem in found if problem is not None][:MAX_PROBLEMS] or None
