"""Deciding elsewhere: the same in a process of its own, so that taking messages in never waits for a search."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, cast

from soundranger_broker.deciding import News, State
from soundranger_node.messages import Detection, Event, Incident, NodeStatus

STOP_S: Final = 5.0
# What the process says first, when the numerics are compiled.
READY: Final = "ready"


class Elsewhere:
    """A decider in another process; `ready` is set once its numerics are compiled, until then no call returns."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.state = State()
        here, there = multiprocessing.Pipe()
        self._pipe = here
        # A fork of a process with threads may find their locks taken for ever.
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(there,), name="deciding", daemon=True
        )
        self._process.start()
        there.close()
        threading.Thread(target=self._wait, name="deciding starts", daemon=True).start()

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(STOP_S)
        self._process.kill()

    def status(self, status: NodeStatus, now_ns: int) -> None:
        """Take in what a node says of itself; a last will was written long before the node died."""
        self._ask("status", status, now_ns)

    def recall(self, told: Sequence[Event], incidents: Sequence[Incident]) -> None:
        """Take in what was told before the centre started again."""
        self._ask("recall", told, incidents)

    def decide(self, released: Sequence[Detection], until_ns: int) -> list[News]:
        """Take in detections and return what is decided as of a time: nothing that comes later changes it."""
        return cast("list[News]", self._ask("decide", released, until_ns))

    def look(self, waiting: Sequence[Detection], until_ns: int, heard: Sequence[str]) -> list[Event]:
        """Return what detections that are not released yet say; `heard` are nodes heard since the last look."""
        return cast("list[Event]", self._ask("look", waiting, until_ns, heard))

    def _wait(self) -> None:
        # Where it ended before it began, the first call finds that too, and says so.
        with contextlib.suppress(EOFError, OSError):
            self._pipe.recv()
        self.ready.set()

    def _ask(self, what: str, *arguments: Any) -> Any:
        """Return what the other process answers.

        Raises:
            EOFError: it is gone.
            OSError: it is gone, or this was stopped.
        """
        self.ready.wait()
        self._pipe.send((what, arguments))
        answer, self.state = self._pipe.recv()
        return answer


def serve(pipe: "Connection[Any, Any]") -> None:
    """Be the other process: decide what is asked, until nobody can ask any more."""
    from soundranger_broker.deciding import Decider  # noqa: PLC0415 - only this process needs the numerics
    from soundranger_broker.warm import warm_up  # noqa: PLC0415

    # Ctrl-C is for the centre, which still has something to ask then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm_up()
    decider = Decider()
    try:
        pipe.send(READY)
        while True:
            what, arguments = pipe.recv()
            answer = getattr(decider, what)(*arguments)
            pipe.send((answer, decider.state))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
