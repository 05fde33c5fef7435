"""What to send next: new detections at once, older ones a few at a time, and each again until it is acked."""

from collections import OrderedDict
from collections.abc import Iterable

from soundranger_node.outbox import Outbox, Waiting

# An ack takes well under a second; a minute without one means that the message or the ack was lost.
RESEND_AFTER_S = 60.0
# Acks come in the order of sending: what was sent this much before something that is acked by now was lost.
OVERTAKEN_AFTER_S = 5.0
# How often it is tried whether somebody listens again, once the MQTT broker has said that nobody does.
PROBE_S = 2.0
# How many old detections wait for their acks at a time: enough for 1,000 a second over a local network, and so few
# that a centre that is away costs 20 messages a minute, whatever waits.
MAX_UNACKED = 20


class Sending:
    """The order in which an outbox is sent over one connection.

    What is heard while connected goes out at once, whatever else waits. What waited before goes from the newest to the
    oldest and round again, as long as fewer than MAX_UNACKED are waiting for their acks. While nobody listens at all,
    one is tried now and then. `now_s` is any clock that only runs forward. Nothing of this is kept on disk: sending
    costs the memory card no write.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._newest = outbox.newest()
        # The round goes on below this number; None where it begins at the newest.
        self._below: int | None = None
        # When each was sent, the oldest first.
        self._sent_at_s: OrderedDict[str, float] = OrderedDict()
        self._nobody_listens = False
        self._probe_at_s = 0.0

    def due(self, room: int, now_s: float) -> list[Waiting]:
        """Return what to send now, at most `room`; all of it counts as sent."""
        self._give_up(now_s - RESEND_AFTER_S)
        if self._nobody_listens:
            if now_s < self._probe_at_s:
                return []
            self._probe_at_s = now_s + PROBE_S
            room = min(room, 1)
        due = self._outbox.since(self._newest, room)
        if due:
            self._newest = due[-1].number
            self._note(due, now_s)
        under_way = self._below is not None
        due += self._round(room - len(due), now_s)
        if under_way and self._below is None:
            due += self._round(room - len(due), now_s)
        return due

    def acked(self, ids: Iterable[str]) -> None:
        """Note acks; what was sent long before and is not acked is due again at once."""
        sent_at_s = [self._sent_at_s.pop(name) for name in ids if name in self._sent_at_s]
        if sent_at_s:
            self._give_up(max(sent_at_s) - OVERTAKEN_AFTER_S)

    def passed_on(self) -> None:
        """Note that the MQTT broker has somebody to pass a detection on to."""
        self._nobody_listens = False

    def unheard(self, detection_id: str) -> None:
        """Note that the MQTT broker had nobody to pass a detection on to: it is due again."""
        self._nobody_listens = True
        self._sent_at_s.pop(detection_id, None)
        self._below = None

    def _round(self, room: int, now_s: float) -> list[Waiting]:
        """Return what comes next in the round, as many as the window allows."""
        window = min(room, MAX_UNACKED - len(self._sent_at_s))
        if window <= 0:
            return []
        below = self._newest + 1 if self._below is None else self._below
        waiting = self._outbox.before(below, window + len(self._sent_at_s))
        due = [one for one in waiting if one.id not in self._sent_at_s][:window]
        self._below = due[-1].number if len(due) == window else None
        self._note(due, now_s)
        return due

    def _note(self, sent: Iterable[Waiting], now_s: float) -> None:
        for one in sent:
            self._sent_at_s[one.id] = now_s
            self._sent_at_s.move_to_end(one.id)

    def _give_up(self, before_s: float) -> None:
        """Wait no longer for the acks of what was sent before."""
        while self._sent_at_s and next(iter(self._sent_at_s.values())) < before_s:
            self._sent_at_s.popitem(last=False)
