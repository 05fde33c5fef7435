"""The hub: takes messages from any thread and hands them to every open page, in order, without waiting for any."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from soundranger_broker.web.picture import KINDS, PageMessage, Picture

# About ten seconds of the busiest night; a page further behind is better served by a snapshot.
MAX_WAITING: Final = 500


class Subscription:
    """What one page has not been sent yet: messages, or, where it is new or fell behind, the whole picture."""

    def __init__(self, hub: "Hub", loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._behind = True
        self._news = asyncio.Event()

    def offer(self, payload: bytes) -> None:
        """Queue a message; the hub calls this, under its lock, from any thread."""
        if len(self._waiting) >= MAX_WAITING:
            self._behind = True
            self._waiting.clear()
        if not self._behind:
            self._waiting.append(payload)
        self._loop.call_soon_threadsafe(self._news.set)

    async def next(self) -> bytes | None:
        """Wait for news; return the next message as JSON, or None where the page needs a snapshot instead."""
        while True:
            with self._hub.lock:
                if self._behind:
                    return None
                if self._waiting:
                    return self._waiting.popleft()
                self._news.clear()
            await self._news.wait()

    def catch_up(self) -> dict[str, Any]:
        """Return a snapshot; the messages after it are exactly those that it does not hold."""
        with self._hub.lock:
            self._behind = False
            self._waiting.clear()
            return self._hub.picture.snapshot()


class Hub:
    """Keeps the picture, and tells every subscription what changes in it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.picture = Picture()
        self._subscriptions: set[Subscription] = set()

    def publish(self, message: PageMessage) -> None:
        """Take a message in and pass it on to all open pages; safe from any thread, never waits for a page."""
        payload = msgspec.json.encode({"kind": KINDS[type(message)], "message": message})
        with self.lock:
            if self.picture.apply(message):
                for subscription in self._subscriptions:
                    subscription.offer(payload)

    def snapshot(self) -> dict[str, Any]:
        """Return the picture as it is now, JSON-ready; safe from any thread."""
        with self.lock:
            return self.picture.snapshot()

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Open a subscription in the running event loop; it begins with a snapshot."""
        subscription = Subscription(self, asyncio.get_running_loop())
        with self.lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self.lock:
                self._subscriptions.discard(subscription)
