"""The contest: which bang owns which arrival where several overlap, by the joint evidence of all of them.

The search takes one bang after the other, within a wide tolerance. Rounds of automatic fire, and shots of two shooters,
lie within that tolerance of one another: what it finds is a draft. Moves that raise the joint evidence are made until
none does: arrivals are dealt out anew, node by node, as an assignment problem; rounds from about one place are looked
for again, all at once, where most arrivals of all of them agree; bangs and series that the others have left without
evidence are dropped. So the joint evidence never falls.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from soundranger_broker import series
from soundranger_broker.assignment import deal
from soundranger_broker.claims import Claim
from soundranger_broker.echoes import LATEST_S
from soundranger_broker.geodesy import Floats
from soundranger_broker.joint import JointEvidence
from soundranger_broker.scoring import Flags, Ints

# Log odds, point (east m, north m, firing time s) and arrivals (n,; -1: silent), as the search gives them.
Hypothesis = tuple[float, Floats, Ints]

# Rounds this close to one another (m) may have one another's arrivals, and be from one place; so may those within
# this time (s) of one another: automatic fire with a round or two not heard.
FAMILY_M = 120.0
FAMILY_S = 1.0
# A round before the first or after the last one known is looked for this long (s) before and after.
MORE_S = 0.35
# Ghosts made of echoes follow their rounds after times that differ by less than this (s).
SAME_WAIT_S = 0.02
# A round looked for at a known place must have this score; the joint evidence decides of it.
LEAST_SCORE = 8.0
# What does not raise the joint evidence by this much is the same.
LEAST_RISE = 1e-6
# A contest ends by itself after a few sweeps; more than this would be two that change places for ever.
MOST_SWEEPS = 10


class Contest:
    """A contest for the arrivals of a window, among bangs fired at `start_s` or later, heard by `min_nodes` or more."""

    def __init__(self, evidence: JointEvidence, min_nodes: int, start_s: float) -> None:
        self._evidence = evidence
        self._scene, self._arrivals = evidence.scene, evidence.arrivals
        self._min_nodes, self._start_s = min_nodes, start_s
        # Families that were looked for again: the same look leads to the same rounds.
        self._looked: set[tuple[bytes, bytes]] = set()
        # Who gets what of the arrivals when bangs are dealt to anew: the same bangs get the same.
        self._deals: dict[tuple[Claim, ...], Ints] = {}
        self._owner = series.owners(evidence.arrivals)

    def settle(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Return the hypotheses that stand, each with its own arrivals, in the order of their log odds.

        The log odds of each are those given that all others stand. One that nobody contests is left as it is.
        """
        drafts = [self._evidence.claim(point, chosen) for _, point, chosen in hypotheses]
        rivals = self._rivals(drafts)
        least_log_odds = self._evidence.evidence.least_log_odds
        settled = [
            hypothesis
            for hypothesis, one, rival in zip(hypotheses, drafts, rivals, strict=True)
            if not rival and hypothesis[0] >= least_log_odds and one.used >= self._min_nodes
        ]
        # A draft that its arrivals put before the start is none of this contest's.
        contesting = zip(drafts, rivals, strict=True)
        claims = self.improve([one for one, rival in contesting if rival and one.theta[2] >= self._start_s])
        settled += [(self._evidence.odds(claims, one), one.theta[:3].copy(), one.chosen) for one in claims]
        return sorted(settled, key=lambda one: -one[0])

    def improve(self, claims: list[Claim]) -> list[Claim]:
        """Return bangs of the highest joint evidence that moves from these lead to."""
        for _ in range(MOST_SWEEPS):
            before = claims
            for move in (self._dealt, self._in_series, self._dropped):
                better: list[Claim] | None = claims
                while better is not None:
                    claims = better
                    better = self._better(claims, move(claims))
            if claims is before:
                break
        return claims

    def _rivals(self, drafts: Sequence[Claim]) -> list[bool]:
        """Say of each bang whether it is near another, or wants an arrival of another, or another one of its own."""
        rivals = np.zeros(len(drafts), dtype=np.bool_)
        for family in self._families(drafts):
            if len(family) > 1:
                rivals[list(family)] = True
        wanted = np.array([one.stakes > 0.0 for one in drafts]).reshape(len(drafts), len(self._owner))
        for k, one in enumerate(drafts):
            wanting: Flags = np.logical_or.reduce(wanted[:, one.chosen[one.chosen >= 0]], axis=1)
            wanting[k] = False
            rivals[wanting] = True
            if wanting.any():
                rivals[k] = True
        return [bool(rival) for rival in rivals]

    def _better(self, claims: list[Claim], proposals: Iterator[list[Claim]]) -> list[Claim] | None:
        """Return the first proposal of more joint evidence than the bangs have, or None."""
        least = self._evidence.of(claims) + LEAST_RISE
        return next((proposal for proposal in proposals if self._evidence.of(proposal) > least), None)

    def _dealt(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs after all arrivals were dealt out anew; then those after the arrivals of one node were."""
        if not claims:
            return
        dealt, held = self._deal(claims), np.array([one.chosen for one in claims])
        changed = np.flatnonzero((dealt != held).any(axis=0))
        if len(changed) == 0:
            return
        points = _points(claims)
        yield self._claims(points, dealt)
        for node in changed if len(changed) > 1 else ():
            one = held.copy()
            one[:, node] = dealt[:, node]
            yield self._claims(points, one)

    def _deal(self, claims: Sequence[Claim]) -> Ints:
        """Return who gets which arrival, (k, n), the arrivals of each node going where they are worth most."""
        key = tuple(claims)
        if key not in self._deals:
            stakes = np.array([one.stakes for one in claims]) - self._evidence.echoes(claims)
            self._deals[key] = deal(stakes, self._arrivals.starts)
        return self._deals[key]

    def _claims(self, points: Floats, chosen: Ints) -> list[Claim]:
        """Return what arrivals (k, n) say of bangs near points, where these are bangs of this contest."""
        enough = np.flatnonzero((chosen >= 0).sum(axis=1) >= self._min_nodes)
        claims = [self._evidence.claim(points[k], chosen[k]) for k in enough]
        return [one for one in claims if one.theta[2] >= self._start_s and one.used >= self._min_nodes]

    def _in_series(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs after those near one of them were looked for again, at one place.

        First among what the others leave; then among all arrivals, which are dealt out to old and new.
        """
        everything = np.arange(len(self._owner))
        for family in self._families(claims):
            others = [one for number, one in enumerate(claims) if number not in family]
            places = np.array([claims[k].theta[:2] for k in family])
            times = [claims[k].theta[2] for k in family]
            span = np.array([max(min(times) - MORE_S, self._start_s), max(times) + MORE_S])
            for free in (self._free(others), everything) if others else (everything,):
                for rounds in self._rounds(free, places, span):
                    yield self._polished(others + rounds if free is not everything else self._shared(others + rounds))

    def _rounds(self, free: Ints, places: Floats, span: Floats) -> Iterator[list[Claim]]:
        """Yield the rounds fired within `span`, from the place near those given where most agree, and from each."""
        centre = places.mean(axis=0)
        free = series.within_reach(self._scene, self._arrivals, self._owner, free, centre, span)
        key = (free.tobytes(), places.tobytes())
        if key in self._looked:
            return
        self._looked.add(key)
        best = series.best_place(self._scene, self._arrivals, self._owner, free, centre, span)
        for place in _distinct([best, *places]):
            points, chosen = series.rounds_at(
                self._scene, self._arrivals, self._owner, free, place, span, self._min_nodes, LEAST_SCORE
            )
            yield self._claims(points, chosen)

    def _shared(self, claims: list[Claim]) -> list[Claim]:
        """Return bangs that want one another's arrivals after these were dealt out."""
        return self._claims(_points(claims), self._deal(claims)) if claims else claims

    def _polished(self, claims: list[Claim]) -> list[Claim]:
        """Return bangs after their arrivals were dealt out anew, as long as that raises the joint evidence."""
        while True:
            better = self._better(claims, itertools.islice(self._dealt(claims), 1))
            if better is None:
                return claims
            claims = better

    def _free(self, claims: Sequence[Claim]) -> Ints:
        """Return the arrivals that are none of the bangs'."""
        free = np.ones(len(self._owner), dtype=bool)
        for one in claims:
            free[one.chosen[one.chosen >= 0]] = False
        return np.flatnonzero(free)

    def _families(self, claims: Sequence[Claim]) -> list[tuple[int, ...]]:
        """Return, for each bang, those near it in place and time, each set once."""
        places = np.array([one.theta[:2] for one in claims]).reshape(-1, 2)
        times_s = np.array([one.theta[2] for one in claims])
        near = np.linalg.norm(places[:, None] - places, axis=2) < FAMILY_M
        near &= np.abs(times_s[:, None] - times_s) < FAMILY_S
        return list(dict.fromkeys(tuple(np.flatnonzero(row).tolist()) for row in near))

    def _dropped(self, claims: list[Claim]) -> Iterator[list[Claim]]:
        """Yield the bangs without one of them, the least likely first, and without series of them."""
        for least in sorted(claims, key=lambda one: self._evidence.odds(claims, one)):
            yield [one for one in claims if one is not least]
        series_of = {found for family in self._families(claims) for found in self._series(claims, family)}
        for found in sorted(series_of, key=len):
            yield [one for number, one in enumerate(claims) if number not in found]

    @staticmethod
    def _series(claims: Sequence[Claim], family: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the bangs of a family, and those of them that follow others after the same time, as echoes do."""
        yield family
        times_s = np.array([claims[k].theta[2] for k in family])
        waits_s = times_s - times_s[:, None]
        for wait_s in waits_s[(waits_s > 0.0) & (waits_s < LATEST_S)]:
            follows = (np.abs(waits_s - wait_s) < SAME_WAIT_S).any(axis=0)
            yield tuple(k for k, so in zip(family, follows, strict=True) if so)


def _points(claims: Sequence[Claim]) -> Floats:
    """Return where and when bangs were, (k, 3): east m, north m, time s."""
    return np.array([one.theta[:3] for one in claims])


def _distinct(places: Sequence[Floats]) -> list[Floats]:
    """Return places (2,), the first of those from where the same rounds are found."""
    distinct: list[Floats] = []
    for place in places:
        if all(np.hypot(*(place - other)) > series.FINEST_M for other in distinct):
            distinct.append(place)
    return distinct
