"""Housekeeping: now and then, in a thread of its own, forgets what is older than it may become."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from soundranger_broker.storage.retention import Limit, keep_within
from soundranger_broker.storage.store import Store

EVERY_S: Final = 3_600.0
# Not at once: a centre that starts has other work.
FIRST_S: Final = 60.0

_LOG = logging.getLogger(__name__)


class Housekeeping:
    """Keeps a store within its limits until it is stopped."""

    def __init__(self, store: Store, limits: Mapping[str, Limit], now_ns: Callable[[], int]) -> None:
        self._store, self._limits, self._now_ns = store, dict(limits), now_ns
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the rows that are being deleted."""
        self._stopping.set()

    def _run(self) -> None:
        wait_s = FIRST_S
        while not self._stopping.wait(wait_s):
            wait_s = EVERY_S
            try:
                gone = keep_within(self._store, self._limits, self._now_ns())
            except SQLAlchemyError as error:
                _LOG.warning("nothing old could be deleted: %s", str(error).splitlines()[0])
                continue
            for name, rows in gone.items():
                _LOG.info("%d %s were older than they may become, and are deleted", rows, name)
