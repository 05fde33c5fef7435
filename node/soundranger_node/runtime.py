"""One node at work: from its source of sound through the pipeline into the outbox, and on to the broker."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from soundranger_node.blocks import Block, Source
from soundranger_node.errors import InputError, MessageError
from soundranger_node.link import Link
from soundranger_node.messages import DETECTION, Detection, NodeStatus
from soundranger_node.outbox import Outbox
from soundranger_node.topics import node_topic

# Often enough to see within a minute that a node is gone, seldom enough to cost nothing.
STATUS_INTERVAL_S = 30.0
# How long `close` waits for `run` to take in the last block and flush the pipeline.
RUN_END_S = 10.0

_LOG = logging.getLogger(__name__)


class DetectionPipeline(Protocol):
    """Turns blocks of sound into detections."""

    noise_dbfs: float | None
    withheld: int

    def push(self, block: Block) -> list[Detection]:
        """Return the detections that are complete with this block."""
        ...

    def flush(self) -> list[Detection]:
        """Return what was still open when the sound ended."""
        ...


class Node:
    """Wires a source, a pipeline, an outbox and a link together; closes all of them.

    The same for a Pi, a file and a virtual node: no signals, no logging set-up, no threads but the link's. `lost`
    counts detections that could not be written down. `heard` is told of every block that was worked on.
    """

    def __init__(
        self,
        source: Source,
        pipeline: DetectionPipeline,
        outbox: Outbox,
        link: Link,
        status: Callable[[], NodeStatus],
        heard: Callable[[Block], None] | None = None,
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._outbox = outbox
        self._link = link
        self._status = status
        self._heard = heard
        self._said: set[str] = set()
        self._idle = threading.Event()
        self._idle.set()
        self.lost = 0

    def run(self) -> None:
        """Work until the source ends or `close` is called; the link goes on until `close`, to empty the outbox.

        Raises:
            AudioError: the source failed.
        """
        self._idle.clear()
        try:
            self._link.start()
            self._hear()
        finally:
            self._keep(self._pipeline.flush())
            self._link.give_status(self._status())
            self._idle.set()

    def close(self) -> None:
        """End `run` where another thread runs it, say that the node is offline, and close all parts."""
        self._source.close()
        self._idle.wait(RUN_END_S)
        self._link.close()
        self._outbox.close()

    def _hear(self) -> None:
        next_status_s = time.monotonic()
        for block in self._source.blocks():
            self._keep(self._pipeline.push(block))
            if self._heard is not None:
                self._heard(block)
            now_s = time.monotonic()
            if now_s >= next_status_s:
                self._link.give_status(self._status())
                next_status_s = now_s + STATUS_INTERVAL_S

    def _keep(self, detections: Iterable[Detection]) -> None:
        """Put detections into the outbox; one that cannot be kept is counted and does not stop the others."""
        for detection in detections:
            topic = node_topic(detection.lat, detection.lon, detection.node, "detection")
            try:
                self._outbox.put(detection.id, detection.time_ns, topic, DETECTION.encode(detection))
            except (MessageError, InputError) as error:
                self._count_lost(error)
            else:
                self._link.wake()

    def _count_lost(self, error: MessageError | InputError) -> None:
        self.lost += 1
        if error.subject not in self._said:
            self._said.add(error.subject)
            _LOG.error("a detection is lost: %s", error)
