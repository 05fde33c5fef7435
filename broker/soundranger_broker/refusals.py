"""Refusals: loud sounds that several nodes heard and no bang explains, and why no event was made of them.

Whoever heard a bang that is not on the map wants to know why. So arrivals that no bang has claimed, once nothing can
claim them any more, are put into groups that one source can have made, and each group is explained in a sentence.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from soundranger_broker import words
from soundranger_broker.acoustics import speed_of_sound_mps
from soundranger_broker.association import MOST_REFUSED, SLOWEST_SOUND_MPS
from soundranger_broker.bang import MIN_NODES, Bang
from soundranger_broker.events import name_of, probability_of
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.location import Medium, locate
from soundranger_broker.nodes import LEAST_SIGMA_S
from soundranger_broker.window import LEAST_LOG_ODDS, Refused
from soundranger_node.messages import Detection, Refusal
from soundranger_node.utc import NS_PER_S

# Fainter sounds than this are not what somebody misses on the map.
LOUD_SNR_DB = 18.0
# Two nodes are no group: anything agrees with anything.
LEAST_NODES = 3
# Two nodes hear one sound within the time it needs from one to the other, in the slowest air, and this much more.
SLACK_S = 0.02
# Sound needs no longer than this across what hears one bang.
SPAN_NS = 7 * NS_PER_S
# For so long after a direct sound, whatever is hardly louder at that node is an echo of it.
ECHO_NS = 2 * NS_PER_S
ECHO_LOUDER_DB = 3.0
# The air where no bang has told it.
TEMPERATE = Medium(speed_of_sound_mps(12.0), 5.4, 2.5)
# Arrivals that fit one place to within this agree on it.
AGREE_S = 0.02
# Four of five agree on some place by chance too often for the fifth to be blamed.
FEW_AGREE = 5
# More refusals than this a minute nobody reads.
MOST_A_MINUTE = 6
MINUTE_NS = 60 * NS_PER_S
# A node that made more loud sounds of its own than this in the last minute says nothing with another one.
CHATTER_A_MINUTE = 20
# So many loud sounds are remembered: a minute of a storm.
MOST_LOUD = 2_000
# More unexplained sounds than this within a flight time are a storm: there are no groups in it.
STORM = 60


@dataclass
class RefusalBook:
    """Takes detections in the order of their times, and bangs; gives refusals, not too many.

    `refused` counts all groups, told or not.
    """

    refused: int = 0
    _pending: deque[Detection] = field(default_factory=deque)
    _loud: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=MOST_LOUD))
    _weighed: deque[Refused] = field(default_factory=lambda: deque(maxlen=MOST_REFUSED))
    _spent: set[str] = field(default_factory=set)
    _direct: dict[str, deque[Detection]] = field(default_factory=dict)
    _told_ns: deque[int] = field(default_factory=deque)
    _left_out: int = 0

    def add(self, detections: Iterable[Detection]) -> None:
        """Take in detections that a bang may still claim."""
        self._pending.extend(one for one in detections if one.snr_db >= LOUD_SNR_DB)

    def claim(self, bangs: Iterable[Bang]) -> None:
        """Take in bangs: what they rest on is explained, and so are echoes of it."""
        for bang in bangs:
            for one in bang.heard:
                self._spent.add(one.detection.id)
                self._direct.setdefault(one.detection.node, deque()).append(one.detection)

    def weigh(self, refused: Iterable[Refused]) -> None:
        """Take in hypotheses that were weighed and not likely enough to be bangs."""
        self._weighed.extend(refused)

    def refuse(self, decided_ns: int, medium: Medium | None = None) -> list[Refusal]:
        """Return refusals of groups that began before `decided_ns`, less the time that one can last.

        `medium` is the air, where it is known.
        """
        until_ns = decided_ns - SPAN_NS
        if not self._pending or self._pending[0].time_ns >= until_ns:
            return []
        near = [one for one in self._pending if one.time_ns < until_ns + SPAN_NS and not self._is_explained(one)]
        self._loud.extend((one.time_ns, one.node) for one in near if one.time_ns < until_ns)
        quiet = len({one.node for one in near}) < LEAST_NODES or len(near) > STORM
        told = [] if quiet else self._tell(self._without_chatter(near), until_ns, medium or TEMPERATE)
        self._forget(until_ns)
        return told

    def _tell(self, near: list[Detection], until_ns: int, medium: Medium) -> list[Refusal]:
        told = []
        for group in groups(near, sum(one.time_ns < until_ns for one in near)):
            self._spent.update(one.id for one in group)
            self.refused += 1
            while self._told_ns and group[0].time_ns - self._told_ns[0] > MINUTE_NS:
                self._told_ns.popleft()
            if len(self._told_ns) >= MOST_A_MINUTE:
                self._left_out += 1
                continue
            self._told_ns.append(group[0].time_ns)
            told.append(to_refusal(group, medium, self._left_out, self._likeliest(group)))
            self._left_out = 0
        return told

    def _likeliest(self, group: list[Detection]) -> Refused | None:
        """Return the likeliest hypothesis by which enough of a group for a bang are from one place, if there is any."""
        own = {one.id for one in group}
        rests = [one for one in self._weighed if len(own & {heard.detection.id for heard in one.heard}) >= MIN_NODES]
        return max(rests, key=lambda one: one.log_odds, default=None)

    def _is_explained(self, one: Detection) -> bool:
        return one.id in self._spent or any(
            0 <= one.time_ns - direct.time_ns < ECHO_NS and one.snr_db < direct.snr_db + ECHO_LOUDER_DB
            for direct in self._direct.get(one.node, ())
        )

    def _without_chatter(self, near: list[Detection]) -> list[Detection]:
        while self._loud and self._loud[0][0] < near[0].time_ns - MINUTE_NS:
            self._loud.popleft()
        loud = Counter(node for _, node in self._loud)
        return [one for one in near if loud[one.node] <= CHATTER_A_MINUTE]

    def _forget(self, until_ns: int) -> None:
        while self._pending and self._pending[0].time_ns < until_ns:
            self._spent.discard(self._pending.popleft().id)
        for node, direct in list(self._direct.items()):
            while direct and direct[0].time_ns < until_ns - ECHO_NS:
                self._spent.discard(direct.popleft().id)
            if not direct:
                del self._direct[node]


def groups(near: Sequence[Detection], first: int) -> list[list[Detection]]:
    """Return groups that one source can have made, each begun by one of the `first` of `near`, in the order of time.

    A group has one detection a node, and none is in two groups.
    """
    if len({one.node for one in near}) < LEAST_NODES:
        return []
    frame = Frame.amid([one.lat for one in near], [one.lon for one in near])
    places = frame.to_enu([one.lat for one in near], [one.lon for one in near])
    times_s = np.array([(one.time_ns - near[0].time_ns) / NS_PER_S for one in near])
    ways_s = np.linalg.norm(places[:, None, :] - places[None, :, :], axis=2) / SLOWEST_SOUND_MPS + SLACK_S
    fits = np.abs(times_s[:, None] - times_s[None, :]) <= ways_s
    free, found = np.ones(len(near), dtype=bool), []
    for seed in range(first):
        members = [seed] if free[seed] else []
        for other in np.flatnonzero(fits[seed] & free).tolist():
            nodes = {near[member].node for member in members}
            if other > seed and members and near[other].node not in nodes and fits[other, members].all():
                members.append(other)
        if len(members) >= LEAST_NODES:
            free[members] = False
            found.append([near[member] for member in members])
        free[seed] = False
    return found


def to_refusal(group: Sequence[Detection], medium: Medium, left_out: int, likeliest: Refused | None = None) -> Refusal:
    """Return the refusal of a group, in the order of time, with the reason.

    `likeliest` is what the search made of it, where that was worth weighing.
    """
    frame = Frame.amid([one.lat for one in group], [one.lon for one in group])
    places = frame.to_enu(*np.array([(one.lat, one.lon, one.alt_m) for one in group]).T)
    point, reason = _explained(group, places, medium, likeliest)
    lat, lon, _ = frame.to_geodetic(float(point[0]), float(point[1]))
    return Refusal(
        id=f"refused-{name_of(group[0].time_ns, group[0].id)}",
        time_ns=group[0].time_ns,
        lat=lat,
        lon=lon,
        nodes=[one.node for one in group],
        detections=[one.id for one in group],
        reason=words.sentence(reason),
        left_out=left_out,
    )


def _explained(
    group: Sequence[Detection], places: Floats, medium: Medium, likeliest: Refused | None
) -> tuple[Floats, str]:
    """Return where a group points to, or else its middle, (east m, north m), and why it is no event."""
    middle: Floats = places[:, :2].mean(axis=0)
    many = words.number(len(group))
    heard = f"{many} nodes ({words.names([one.node for one in group])}) heard something at {_when(group)}"
    if len(group) < MIN_NODES:
        return middle, f"{heard}, {words.number(MIN_NODES)} are needed"
    point, off = _fit(group, places, medium)
    if (off <= AGREE_S).all():
        return point, f"{heard} and agree on a place within {_within(off)}, but {_chance(likeliest)}"
    if len(group) > FEW_AGREE and (off > AGREE_S).sum() == 1:
        odd = int(off.argmax())
        size = words.seconds(float(off[odd]))
        return point, (
            f"{heard}, but only without {group[odd].node} do they agree on a place: its clock is off by {size}, "
            "or it heard something else"
        )
    if likeliest is not None:
        rests = {one.detection.id for one in likeliest.heard}
        some = [number for number, one in enumerate(group) if one.id in rests]
        who = words.names([group[number].node for number in some])
        point, some_off = _fit([group[number] for number in some], places[some], medium)
        return point, f"{heard}; {who} agree on a place within {_within(some_off)}, but {_chance(likeliest)}"
    return middle, f"{heard}, but not from one place: their times are off by up to {words.seconds(float(off.max()))}"


def _when(group: Sequence[Detection]) -> str:
    return words.moment(group[0].time_ns)


def _within(off_s: Floats) -> str:
    return words.seconds(max(float(off_s.max()), 0.001))


def _fit(group: Sequence[Detection], places: Floats, medium: Medium) -> tuple[Floats, Floats]:
    """Return the place (east m, north m) that explains arrivals best, and by how much they miss it, seconds."""
    times_s = np.array([(one.time_ns - group[0].time_ns) / NS_PER_S for one in group])
    sigmas_s = np.array([np.hypot(one.time_sigma_s, one.position_sigma_m / medium.speed_mps) for one in group])
    found = locate(places, times_s, np.maximum(sigmas_s, LEAST_SIGMA_S), medium)
    return found.theta[:2], np.abs(found.residuals_s)


def _chance(likeliest: Refused | None) -> str:
    """Return that chance makes such a group too, and how likely it is a bang all the same, where that was weighed."""
    chance = "chance does so, too, in this noise"
    if likeliest is None:
        return chance
    known, needed = (words.percent(probability_of(odds)) for odds in (likeliest.log_odds, LEAST_LOG_ODDS))
    return f"{chance}: it is a bang with a probability of {known}, and {needed} are needed"
