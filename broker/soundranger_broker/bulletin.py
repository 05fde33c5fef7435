"""The bulletin: what the centre says of itself, and of nodes that are wrong."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from soundranger_broker import words
from soundranger_broker.deciding import News
from soundranger_broker.faults import Fault
from soundranger_broker.locator import Locator
from soundranger_node import __version__
from soundranger_node.messages import (
    MAX_FAULTS,
    MAX_PROBLEMS,
    MAX_REASONS,
    MAX_SHORT_TEXT,
    CentreStatus,
    Event,
    NodeFault,
    Refusal,
)
from soundranger_node.utc import NS_PER_S

# As often as nodes say how they are.
EVERY_NS = 30 * NS_PER_S
# A fault whose size changes by this share is told at once.
SIZE_SHARE = 0.2
# A node that jumped is named for so long, and so many of them.
JUMP_TOLD_NS = 3_600 * NS_PER_S
MOST_JUMPS = MAX_PROBLEMS - 1
COMPILING = "Compiling the locator (once, up to a minute); what nodes report meanwhile waits and is located then."


# By node and kind.
Faults = dict[tuple[str, str], NodeFault]


@dataclass
class Bulletin:
    """Counts what is told, and makes the status of the centre when one is due."""

    locator: Locator
    started_ns: int
    told: Counter[str] = field(default_factory=Counter)
    _last_ns: int | None = None
    _last_faults: Faults = field(default_factory=dict)
    _problems: list[str] = field(default_factory=list)
    _jumps: dict[str, tuple[int, float]] = field(default_factory=dict)
    _changes: list[str] = field(default_factory=list)

    def note(self, item: News) -> None:
        """Count a piece of news that was published."""
        if isinstance(item, Refusal):
            self.told["refused"] += 1
        elif isinstance(item, Event) and item.revision == 0:
            self.told["events"] += 1
        elif isinstance(item, Event) and item.status == "retracted":
            self.told["retracted"] += 1

    def jumped(self, node: str, by_m: float, now_ns: int) -> None:
        """Take in that a node stands elsewhere than before; of each, the last jump is told."""
        if node not in self._jumps:
            self.repeat()
        self._jumps.pop(node, None)
        self._jumps[node] = now_ns, by_m
        if len(self._jumps) > MOST_JUMPS:
            del self._jumps[next(iter(self._jumps))]

    def will(self) -> CentreStatus:
        """Return what is to be said when the centre has gone."""
        return CentreStatus(online=False, time_ns=self.started_ns, version=__version__)

    def repeat(self) -> None:
        """Say it all once more at the next occasion."""
        self._last_ns = None

    def due(
        self,
        now_ns: int,
        received: int,
        dropped: Mapping[str, int],
        problems: Sequence[str] = (),
        log_head: Callable[[], str | None] = lambda: None,
    ) -> CentreStatus | None:
        """Return the status where one is due: every 30 s, and when something about it changes.

        `problems` are sentences about the centre, `log_head` is asked for only where a status is due.
        """
        state = self.locator.decider.state
        found = map(to_wire, state.faults)
        faults: Faults = {(fault.node, fault.kind): fault for fault in found}
        changes = fault_changes(self._last_faults, faults)
        waited = self._last_ns is None or abs(now_ns - self._last_ns) >= EVERY_NS
        if not (waited or changes or list(problems) != self._problems):
            return None
        self._last_ns, self._last_faults, self._problems = now_ns, faults, list(problems)
        self._changes += changes
        medium = state.medium
        return CentreStatus(
            online=True,
            time_ns=now_ns,
            version=__version__,
            uptime_s=max(0.0, (now_ns - self.started_ns) / NS_PER_S),
            detections=received,
            dropped=_most_common(dropped),
            events=self.told["events"],
            retracted=self.told["retracted"],
            refused=state.refused,
            speed_of_sound_mps=None if medium is None else medium.speed_mps,
            speed_of_sound_sigma_mps=None if medium is None else medium.speed_sigma_mps,
            wind_mps=None if medium is None else medium.wind_mps,
            wind_sigma_mps=None if medium is None else medium.wind_sigma_mps,
            faults=list(faults.values())[:MAX_FAULTS] or None,
            problems=[*problems, *self._jumps_told(now_ns)][:MAX_PROBLEMS] or None,
            log_head=log_head(),
        )

    def _jumps_told(self, now_ns: int) -> list[str]:
        """Return a sentence for each node that jumped not long ago."""
        self._jumps = {node: jump for node, jump in self._jumps.items() if now_ns - jump[0] < JUMP_TOLD_NS}
        return [
            words.sentence(f"node {node} jumped by {words.metres(by_m)} at {words.moment(time_ns)}")
            for node, (time_ns, by_m) in self._jumps.items()
        ]

    def changes(self) -> list[str]:
        """Return sentences, each once, about faults that were found or are gone."""
        changes, self._changes = self._changes, []
        return changes


def to_wire(fault: Fault) -> NodeFault:
    """Return a fault as the message tells it, with its sentence."""
    bangs = words.counted(fault.bangs, "bang")
    if fault.kind == "clock":
        size_s = fault.size_s or 0.0
        text = f"clock is {'late' if size_s > 0.0 else 'early'} by {words.seconds(size_s)} (from {bangs})"
    else:
        text = f"place is off by {words.metres(fault.size_m or 0.0)} (from {bangs})"
    return NodeFault(
        node=fault.node,
        kind=fault.kind,
        size_s=fault.size_s,
        sigma_s=fault.sigma if fault.kind == "clock" else None,
        size_m=fault.size_m,
        sigma_m=fault.sigma if fault.kind == "place" else None,
        since_ns=fault.since_ns,
        bangs=fault.bangs,
        text=text,
    )


def fault_changes(before: Faults, now: Faults) -> list[str]:
    """Return a sentence for each fault that was found, changed its size, or is gone."""
    found = [f"node {key[0]}: {fault.text}" for key, fault in now.items() if not _is_same(before.get(key), fault)]
    gone = [f"node {node}: the {kind} is right again" for node, kind in before if (node, kind) not in now]
    return found + gone


def _is_same(before: NodeFault | None, now: NodeFault) -> bool:
    if before is None:
        return False
    old, new = before.size_s or before.size_m or 0.0, now.size_s or now.size_m or 0.0
    return abs(new - old) <= SIZE_SHARE * abs(old)


def _most_common(dropped: Mapping[str, int]) -> dict[str, int] | None:
    """Return the most common reasons and how often each was, the rest as one."""
    ranked = Counter[str]()
    for reason, count in dropped.items():
        ranked[reason[:MAX_SHORT_TEXT]] += count
    told = dict(ranked.most_common(MAX_REASONS - 1))
    rest = sum(ranked.values()) - sum(told.values())
    return (told | {"other reasons": rest} if rest else told) or None
