"""The intake: takes messages in as they come, in a thread of its own; a detection is stored, then acked."""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple

from soundranger_broker.ingest import Taken
from soundranger_broker.keeping import Keeper
from soundranger_broker.locator import Locator
from soundranger_node.topics import NodeTopic

# More than a minute of the busiest network; what comes on top is not acked, so the nodes send it again.
MOST_QUEUED: Final = 100_000
# Messages handled in one go, before they are committed.
MOST_AT_ONCE: Final = 500
# How often is looked whether it is to end when nothing comes in.
TICK_S: Final = 0.05
STOP_S: Final = 10.0

Acknowledge = Callable[[NodeTopic, list[str]], None]


class Letter(NamedTuple):
    """A message of a node, and when it came."""

    topic: NodeTopic
    payload: bytes
    came_ns: int


class Intake:
    """Gives detections to a locator, stores and acks them; `others` holds the messages that are not detections.

    `remarks` holds what is to be said of detections: by node, what became of one, and when it came. `came` is set
    whenever something has come.
    """

    def __init__(
        self, locator: Locator, keeper: Keeper | None, acknowledge: Acknowledge, now_ns: Callable[[], int]
    ) -> None:
        self.received = 0
        self.overflowed = 0
        self.others: queue.SimpleQueue[Letter] = queue.SimpleQueue()
        self.remarks: queue.SimpleQueue[tuple[str, Taken, int]] = queue.SimpleQueue()
        self.came = threading.Event()
        self._locator, self._keeper, self._acknowledge, self._now_ns = locator, keeper, acknowledge, now_ns
        self._queue: queue.Queue[Letter] = queue.Queue(MOST_QUEUED)
        self._handled_ns = now_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to handle what comes."""
        self._thread.start()

    def stop(self) -> None:
        """Handle what has come in, then end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def put(self, topic: NodeTopic, payload: bytes) -> None:
        """Take a message in; never waits."""
        try:
            self._queue.put_nowait(Letter(topic, payload, self._now_ns()))
        except queue.Full:
            self.overflowed += 1

    @property
    def is_idle(self) -> bool:
        """Whether all that came has been handled."""
        return self._queue.unfinished_tasks == 0

    def until_ns(self) -> int:
        """Return the time up to which all that came has been handled."""
        now_ns = self._now_ns()
        return now_ns if self.is_idle else self._handled_ns

    def _run(self) -> None:
        while not self._stopping.is_set() or not self._queue.empty():
            letters = self._next()
            acks: dict[NodeTopic, list[str]] = defaultdict(list)
            for letter in letters:
                self._handle(letter, acks)
            if self._keeper is None or self._keeper.commit(self._now_ns()) is not None:
                for topic, ids in acks.items():
                    self._acknowledge(topic, ids)
            if letters:
                self._handled_ns = letters[-1].came_ns
                self.came.set()
            for _ in letters:
                self._queue.task_done()

    def _next(self) -> list[Letter]:
        """Return what waits, the first after a while where nothing does."""
        letters = list[Letter]()
        try:
            letters.append(self._queue.get(timeout=TICK_S))
            while len(letters) < MOST_AT_ONCE:
                letters.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return letters

    def _handle(self, letter: Letter, acks: dict[NodeTopic, list[str]]) -> None:
        topic = letter.topic
        if topic.kind != "detection":
            self.others.put(letter)
            return
        self.received += 1
        taken = self._locator.detection(letter.payload, letter.came_ns, topic.node)
        if taken.dropped is not None or taken.moved_m is not None:
            self.remarks.put((topic.node, taken, letter.came_ns))
        if taken.stored is not None and self._keeper is not None:
            self._keeper.heard(taken.stored, letter.payload, letter.came_ns)
        if taken.detection is not None:
            acks[NodeTopic(topic.cell, topic.node, "ack")].append(taken.detection)
