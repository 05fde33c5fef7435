"""One look at a span of firing times: the best hypotheses one after the other, each with its arrivals."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from soundranger_broker import search
from soundranger_broker.contest import Again, Contest, Earlier, Hypothesis
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.given import Given
from soundranger_broker.location import Location, locate
from soundranger_node.messages import Detection

# The search allows for paths around buildings; location then finds out how large that error really is.
SEARCH_PATH_SIGMA_S = 0.008
# A bang further off than this is not heard; it bounds how long a step waits, and the search.
MAX_RANGE_M = 2000.0
# Bangs are looked for this far outside the nodes.
MARGIN_M = 500.0
# Outside the nodes a bang is less often heard at all, and echoes of bangs inside seem to come from there: the chance
# of one falls by e in this distance.
OUTSIDE_FALL_M = 300.0
# After a bang, one more from the same place within the next seconds is as likely as not, at a rate that falls by e in
# ten seconds; in one case of two it comes at once, at the rate of automatic fire.
AGAIN = Again(rates_hz=(0.1, 3.0), decays_s=(10.0, 0.3), fall_m=15.0)
# Where and when one more is looked for: so long before and after ...
AGAIN_S = 10.0
# ... and no further away than this.
AGAIN_MARGIN_M = 40.0
# One round of a gun is as loud at a node as the last, in its peak (live fire: 1 dB, with outliers) and less so in its
# signal-to-noise ratio; whatever else comes is weaker, and may be anything. Means and standard deviations, dB.
PEAK_SPREAD_DB, SNR_SPREAD_DB = 2.5, 5.0
OTHER_LEVEL_DB = (-8.0, 9.0)
# A door that closes, or a gun that turns: no single level speaks more strongly against a round than this (log).
LEAST_LEVEL_RATIO = -3.0
# Search and location date a bang apart by up to this: one that the search puts before the epoch, and the location in
# the span before it put after, would else belong to no span.
EDGE_S = 0.05
# Three arrivals have two solutions, and agree with nearly any: they make no event.
MIN_NODES = 4
# A search is not pursued below this score: with places and times weighed in, it could not be likelier than clutter.
LEAST_SCORE = 13.0
# Where a bang is expected, a lower score can do.
LEAST_SCORE_AGAIN = 8.0
# A hypothesis this likely takes part in the contest: two of them from one place may be a series.
DRAFT_LOG_ODDS = -6.0
# Better than clutter by e^2: of those at the border, one in eight is false.
LEAST_LOG_ODDS = 2.0
# Latitude and longitude (WGS84 degrees) and height (m).
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Heard:
    """A detection as evidence: the error of its time, with that of its place in it, and the clutter rate there."""

    detection: Detection
    sigma_s: float
    clutter_hz: float


@dataclass(frozen=True)
class Bang:
    """A hypothesis that was taken: the arrivals, where they put the bang, and the log odds that there was one.

    `location.theta` holds the time in seconds after `epoch_ns`; `silent` are nodes likely to have heard it;
    `given` is what the location rests on beside the arrivals.
    """

    heard: tuple[Heard, ...]
    location: Location
    epoch_ns: int
    source_up_m: float
    log_odds: float
    silent: tuple[str, ...]
    frame: Frame
    given: Given

    @property
    def time_ns(self) -> int:
        """The UTC of the bang."""
        return self.epoch_ns + round(float(self.location.theta[2]) * 1e9)

    def within(self, frame: Frame) -> "Bang":
        """Return the bang with its place in another frame; its covariance stays in the axes of the old one."""
        if frame == self.frame:
            return self
        theta = self.location.theta.copy()
        lat, lon, alt_m = self.frame.to_geodetic(float(theta[0]), float(theta[1]), self.source_up_m)
        theta[0], theta[1], up_m = frame.to_enu(lat, lon, alt_m)
        return replace(self, location=replace(self.location, theta=theta), source_up_m=float(up_m), frame=frame)


class Window:
    """The arrivals and nodes of one search, as arrays; arrivals sorted by node and time.

    `awake` gives the places of nodes whose silence counts, `lately` those of them that were heard not long ago, `given`
    what is known beforehand. A node
    stands where its first detection in the window says. The frame lies amid the nodes that were heard, so
    that none that is far off, or wrong about its place, can tilt it.
    """

    def __init__(
        self,
        inside: Iterable[Heard],
        awake: Mapping[str, Place],
        lately: set[str],
        epoch_ns: int,
        given: Given,
    ) -> None:
        self.epoch_ns = epoch_ns
        self.given = given
        self.heard = tuple(sorted(inside, key=lambda one: (one.detection.node, one.detection.time_ns)))
        fixes = np.array([(one.detection.lat, one.detection.lon, one.detection.alt_m) for one in self.heard])
        first = {one.detection.node: fix for one, fix in zip(self.heard[::-1], fixes[::-1], strict=True)}
        self.frame = Frame.amid([lat for lat, _, _ in first.values()], [lon for _, lon, _ in first.values()])
        self.places = self.frame.to_enu(*fixes.T)
        stands = dict(awake) | first
        self.names = tuple(sorted(stands))
        self.nodes = self.frame.to_enu(*np.array([stands[name] for name in self.names]).T)
        self.medium = given.medium
        sure = lately | {one.detection.node for one in self.heard}
        doubtful = np.array([name not in sure for name in self.names], dtype=np.int64)
        self.scene = search.make_scene(self.nodes[:, :2], doubtful, self.medium.speed_mps, MAX_RANGE_M)
        self.arrivals = self._arrivals()
        self._lowest = self.places[:, :2].min(axis=0) - MARGIN_M
        self._highest = self.places[:, :2].max(axis=0) + MARGIN_M
        self.evidence = self._evidence()

    def any_bang(self, span_s: float, earlier: Sequence[Bang]) -> bool:
        """Say whether a bang fired within `span_s` of the epoch is likely, whatever else these arrivals may mean."""
        return any(math.isfinite(found[0]) for found in self._candidates(span_s, earlier))

    def bangs(self, span_s: float, earlier: Sequence[Bang]) -> list[Bang]:
        """Return the bangs fired within `span_s` of the epoch, the likeliest first, each without the arrivals of those.

        `earlier` are the bangs of the seconds before the epoch.
        """
        drafts = self._drafts(span_s, earlier)
        contest = Contest(self.scene, self.arrivals, self.evidence, self._settled(earlier), AGAIN, MIN_NODES, -EDGE_S)
        return [self._bang(*one) for one in contest.settle(drafts)]

    def _drafts(self, span_s: float, earlier: Sequence[Bang]) -> list[Hypothesis]:
        """Return hypotheses, the likeliest first, each without the arrivals of those before it."""
        drafts: list[Hypothesis] = []
        known = list(earlier)
        while True:
            log_odds, point, chosen = max(self._candidates(span_s, known), key=lambda one: one[0])
            if not math.isfinite(log_odds):
                return drafts
            drafts.append((log_odds, point, chosen))
            known.append(self._bang(log_odds, point, chosen))
            self.arrivals.alive[chosen[chosen >= 0]] = False

    def _settled(self, earlier: Sequence[Bang]) -> Earlier:
        """Return where and when the bangs before the epoch were, in this frame, and who heard them."""
        places = np.array([bang.within(self.frame).location.theta[:2] for bang in earlier]).reshape(-1, 2)
        names = [{one.detection.node for one in bang.heard} for bang in earlier]
        heard = np.array([[name in some for name in self.names] for some in names], dtype=bool)
        times_s = np.array([(bang.time_ns - self.epoch_ns) / 1e9 for bang in earlier])
        return Earlier(places, times_s, heard.reshape(-1, len(self.names)))

    def _candidates(self, span_s: float, known: Sequence[Bang]) -> Iterator[tuple[float, Floats, search.Ints]]:
        """Yield the best hypothesis anywhere, and the best of one more round from each place where there was one."""
        anywhere = self.evidence._replace(least_log_odds=DRAFT_LOG_ODDS)
        yield search.best_hypothesis(self.scene, self.arrivals, anywhere, self._region(span_s), MIN_NODES, LEAST_SCORE)
        for bang in _distinct(bang.within(self.frame) for bang in known):
            near = self._near(bang, span_s)
            if near is not None:
                yield self._again(near, bang)

    def _again(self, region: search.Region, bang: Bang) -> tuple[float, Floats, search.Ints]:
        """Return the best hypothesis of a round like `bang`: near its place, and about as loud at every node."""
        ratios = self._level_ratios(bang)
        arrivals = self.arrivals._replace(gains=self.arrivals.gains + ratios)
        evidence = self.evidence._replace(
            log_clutter=self.evidence.log_clutter - ratios,
            log_prior=math.log(sum(AGAIN.rates_hz) / (2.0 * math.pi * AGAIN.fall_m**2)),
            least_log_odds=DRAFT_LOG_ODDS,
            low=bang.location.theta[:2],
            high=bang.location.theta[:2],
            fall_m=AGAIN.fall_m,
        )
        return search.best_hypothesis(self.scene, arrivals, evidence, region, MIN_NODES, LEAST_SCORE_AGAIN)

    def _level_ratios(self, bang: Bang) -> Floats:
        """Return, for every arrival (m,), how much likelier its level is for a round like `bang` than for clutter.

        In logarithms; 0 where the node did not hear `bang`.
        """
        before = {one.detection.node: one.detection for one in bang.heard}
        return np.array([level_ratio(before.get(one.detection.node), one.detection) for one in self.heard])

    def _near(self, bang: Bang, span_s: float) -> search.Region | None:
        """Return where and when another round after, or before, a bang is expected; None if not in this window."""
        at_s = (bang.time_ns - self.epoch_ns) / 1e9
        start_s, end_s = max(-EDGE_S, at_s - AGAIN_S), min(span_s, at_s + AGAIN_S)
        if end_s <= start_s:
            return None
        corner = np.array([*(bang.location.theta[:2] - AGAIN_MARGIN_M), start_s])
        return search.Region(corner, np.array([2.0 * AGAIN_MARGIN_M, 2.0 * AGAIN_MARGIN_M, end_s - start_s]))

    def _region(self, span_s: float) -> search.Region:
        corner = np.array([*self._lowest, -EDGE_S])
        return search.Region(corner, np.array([*(self._highest - self._lowest), span_s + EDGE_S]))

    def _arrivals(self) -> search.Arrivals:
        owner = np.searchsorted(self.names, [one.detection.node for one in self.heard])
        sigmas = np.array([math.hypot(one.sigma_s, SEARCH_PATH_SIGMA_S) for one in self.heard])
        return search.Arrivals(
            times_s=np.array([(one.detection.time_ns - self.epoch_ns) / 1e9 for one in self.heard]),
            sigmas_s=sigmas,
            gains=search.gain(sigmas, np.array([one.clutter_hz for one in self.heard])),
            alive=np.ones(len(self.heard), dtype=bool),
            starts=np.searchsorted(owner, np.arange(len(self.names) + 1)),
        )

    def _evidence(self) -> search.Evidence:
        return search.Evidence(
            places=self.places,
            sigmas_s=np.array([one.sigma_s for one in self.heard]),
            log_clutter=np.log([one.clutter_hz for one in self.heard]),
            snr_db=np.array([one.detection.snr_db for one in self.heard]),
            medium=self.medium.mean,
            precision=self.medium.precision,
            log_prior=math.log(self.given.bangs_per_hour_km2 / 3600.0 / 1e6),
            low=self.nodes[:, :2].min(axis=0),
            high=self.nodes[:, :2].max(axis=0),
            fall_m=OUTSIDE_FALL_M,
            least_log_odds=LEAST_LOG_ODDS,
        )

    def _bang(self, log_odds: float, point: Floats, chosen: search.Ints) -> Bang:
        """Locate a hypothesis that was taken."""
        picked = chosen[chosen >= 0]
        places = self.evidence.places[picked]
        source_up_m = float(np.median(places[:, 2]))
        location = locate(
            places, self.arrivals.times_s[picked], self.evidence.sigmas_s[picked], source_up_m, self.medium, point
        )
        missed = search.should_have_heard(self.scene, location.theta, chosen >= 0)
        return Bang(
            heard=tuple(self.heard[i] for i in picked),
            location=location,
            epoch_ns=self.epoch_ns,
            source_up_m=source_up_m,
            log_odds=log_odds,
            silent=tuple(name for name, quiet in zip(self.names, missed, strict=True) if quiet),
            frame=self.frame,
            given=self.given,
        )


def _distinct(bangs: Iterable[Bang]) -> list[Bang]:
    """Return bangs from different places: of those within half a margin of one another, the first."""
    distinct: list[Bang] = []
    for bang in bangs:
        place = bang.location.theta[:2]
        if all(np.linalg.norm(place - other.location.theta[:2]) > AGAIN_MARGIN_M / 2 for other in distinct):
            distinct.append(bang)
    return distinct


def level_ratio(before: Detection | None, now: Detection) -> float:
    """Return the log ratio of how likely a node's level is for one more round of a gun, and for anything else.

    A clipped level says nothing.
    """
    if before is None or before.clipped or now.clipped:
        return 0.0
    if before.peak_db_spl is not None and now.peak_db_spl is not None:
        change_db, spread_db = now.peak_db_spl - before.peak_db_spl, PEAK_SPREAD_DB
    elif before.peak_dbfs is not None and now.peak_dbfs is not None:
        change_db, spread_db = now.peak_dbfs - before.peak_dbfs, PEAK_SPREAD_DB
    else:
        change_db, spread_db = now.snr_db - before.snr_db, SNR_SPREAD_DB
    again = -0.5 * (change_db / spread_db) ** 2 - math.log(spread_db)
    other_db, other_spread_db = OTHER_LEVEL_DB
    other = -0.5 * ((change_db - other_db) / other_spread_db) ** 2 - math.log(other_spread_db)
    return max(again - other, LEAST_LEVEL_RATIO)
