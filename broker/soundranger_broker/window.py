"""One look at a span of firing times: the best hypotheses one after the other, each with its arrivals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from soundranger_broker import scoring, search
from soundranger_broker.backprojection import Region
from soundranger_broker.bang import MIN_NODES, Bang, Heard, Place
from soundranger_broker.contest import MORE_S, Contest, Hypothesis
from soundranger_broker.geodesy import Floats, Frame
from soundranger_broker.given import RIGHT, Given
from soundranger_broker.joint import JointEvidence
from soundranger_broker.levels import MEASURES
from soundranger_broker.location import locate
from soundranger_broker.rounds import Again, Rounds
from soundranger_broker.starts import height_prior
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
# Search and location date a bang apart by up to this: one that the search puts before the epoch, and the location in
# the span before it put after, would else belong to no span.
EDGE_S = 0.05
# A search is not pursued below this score: with places and times weighed in, it could not be likelier than clutter.
LEAST_SCORE = 13.0
# Where a bang is expected, a lower score can do.
LEAST_SCORE_AGAIN = 8.0
# Better than clutter by e^2: of those at the border, one in eight is false.
LEAST_LOG_ODDS = 2.0
# A hypothesis this likely takes part in the contest: two of them from one place may be a series.
DRAFT_LOG_ODDS = -6.0
# After a bang, one more from the same place follows as likely as not, at a rate that falls by e in ten seconds; in one
# case of two it comes at once, at the rate of automatic fire.
AGAIN = Again(rates_hz=(search.AGAIN_HZ, 3.0), decays_s=(search.AGAIN_S, 0.3), fall_m=search.AGAIN_FALL_M)


# Latitude and longitude (WGS84 degrees) and time (UTC, ns) of a bang that there may be.
Draft = tuple[float, float, int]


@dataclass(frozen=True)
class Refused:
    """A hypothesis that was considered and not likely enough: when and where (WGS84 degrees) it would have been."""

    time_ns: int
    lat: float
    lon: float
    heard: tuple[Heard, ...]
    log_odds: float


@dataclass(frozen=True)
class Look:
    """How a window is looked at.

    Bangs fired within `span_s` of the epoch are wanted, nothing being left out of the first `thorough_s`; those of
    `overlap_s` more compete with them for arrivals. All that sounded until `heard_until_s` has been reported. What
    earlier looks have `seen` enough of, detections by their names, leads to nothing new: their `drafts` are gone on
    from.
    """

    epoch_ns: int
    span_s: float
    thorough_s: float
    overlap_s: float
    heard_until_s: float = math.inf
    seen: frozenset[tuple[str, str]] = frozenset()
    drafts: tuple[Draft, ...] = ()


class Window:
    """The arrivals and nodes of one search, as arrays; arrivals sorted by node and time.

    `awake` gives the places of nodes whose silence counts, `lately` those of them that were heard not long ago, `given`
    what is known beforehand. A node stands where its first detection in the window says. The frame lies amid the nodes
    that were heard, so that none that is far off, or wrong about its place, can tilt it.
    """

    def __init__(
        self,
        inside: Iterable[Heard],
        awake: Mapping[str, Place],
        lately: set[str],
        given: Given,
        look: Look,
    ) -> None:
        self.epoch_ns = look.epoch_ns
        self.given = given
        self._look = look
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
        self.scene = scoring.make_scene(
            self.nodes[:, :2], doubtful, self.medium.speed_mps, MAX_RANGE_M, look.heard_until_s
        )
        offsets = [given.offsets.get(one.detection.node, RIGHT) for one in self.heard]
        self.offsets_s = np.array([offset.mean_s for offset in offsets])
        self.sigmas_s = np.hypot([one.sigma_s for one in self.heard], [offset.sigma_s for offset in offsets])
        self.arrivals = self._arrivals()
        self._lowest = self.places[:, :2].min(axis=0) - MARGIN_M
        self._highest = self.places[:, :2].max(axis=0) + MARGIN_M
        self.evidence = self._evidence()
        self.levels_db = np.array([_levels_db(one.detection) for one in self.heard])
        self.refused: list[Refused] = []
        self.owned: frozenset[tuple[str, str]] = frozenset()
        self.drafts: tuple[Draft, ...] = ()

    def bangs(self, earlier: Sequence[Bang]) -> list[Bang]:
        """Return the bangs fired within the span, and hardly later, the likeliest first.

        `earlier` are the bangs of the seconds before the epoch. Afterwards, `refused` is what was not likely enough,
        `owned` names what went into bangs, and `drafts` are what a later look may go on from.
        """
        span_s = self._look.span_s
        known = self._known(_distinct(bang.within(self.frame) for bang in earlier))
        found, refused = search.find_bangs(
            self.scene, self.arrivals, self.evidence, self.levels_db, known, self._task()
        )
        drafts = [*zip(*found, strict=True), *_weak(refused)]
        # Where nothing was fired in the span, there is nothing to settle yet.
        due = any(point[2] < span_s + MORE_S for _, point, _ in drafts)
        settled = self._contest(earlier).settle(drafts) if due else []
        self.drafts = tuple(self._to_geodetic(point) for _, point, _ in (*settled, *drafts))
        owned = {int(i) for _, _, chosen in settled for i in chosen[chosen >= 0]}
        self.owned = frozenset(self.heard[i].name for i in owned)
        self.refused = [self._refused(*one) for one in zip(*refused, strict=True) if owned.isdisjoint(one[2])]
        return [self._bang(*one) for one in settled if one[1][2] < span_s + EDGE_S]

    def _contest(self, earlier: Sequence[Bang]) -> Contest:
        """Return the contest for the arrivals, after bangs that may be followed by more rounds."""
        known = self._known([bang.within(self.frame) for bang in earlier])
        names = [{one.detection.node for one in bang.heard} for bang in earlier]
        heard = np.array([[name in some for name in self.names] for some in names], dtype=bool)
        before = Rounds(known.places, known.times_s, heard.reshape(-1, len(self.names)), known.levels_db)
        evidence = JointEvidence(self.scene, self.arrivals, self.evidence, self.levels_db, before, AGAIN)
        return Contest(evidence, MIN_NODES, -EDGE_S)

    def _known(self, bangs: Sequence[Bang]) -> search.Known:
        """Return bangs as what may be followed by more rounds."""
        levels_db = np.full((len(bangs), len(self.names), MEASURES), np.nan)
        numbers = {name: number for number, name in enumerate(self.names)}
        for row, bang in zip(levels_db, bangs, strict=True):
            for one in bang.heard:
                if one.detection.node in numbers:
                    row[numbers[one.detection.node]] = _levels_db(one.detection)
        return search.Known(
            np.array([bang.location.theta[:2] for bang in bangs]).reshape(-1, 2),
            np.array([(bang.time_ns - self.epoch_ns) / 1e9 for bang in bangs]),
            levels_db,
        )

    def _task(self) -> search.Task:
        look, corner = self._look, np.array([*self._lowest, -EDGE_S])
        extent = np.array([*(self._highest - self._lowest), look.span_s + look.overlap_s + EDGE_S])
        thorough_s = look.thorough_s + 2.0 * EDGE_S if look.thorough_s > 0.0 else 0.0
        fresh = np.array([one.name not in look.seen for one in self.heard])
        drafts = np.array([self._from_geodetic(one) for one in look.drafts]).reshape(-1, 3)
        region = Region(corner, extent)
        return search.Task(region, thorough_s, drafts, fresh, MIN_NODES, LEAST_SCORE, LEAST_SCORE_AGAIN)

    def _from_geodetic(self, draft: Draft) -> tuple[float, float, float]:
        lat, lon, time_ns = draft
        east_m, north_m, _ = self.frame.to_enu(lat, lon)
        return float(east_m), float(north_m), (time_ns - self.epoch_ns) / 1e9

    def _to_geodetic(self, point: Floats) -> Draft:
        lat, lon, _ = self.frame.to_geodetic(float(point[0]), float(point[1]))
        return lat, lon, self.epoch_ns + round(float(point[2]) * 1e9)

    def _arrivals(self) -> scoring.Arrivals:
        owner = np.searchsorted(self.names, [one.detection.node for one in self.heard])
        sigmas = np.hypot(self.sigmas_s, SEARCH_PATH_SIGMA_S)
        return scoring.Arrivals(
            times_s=np.array([(one.detection.time_ns - self.epoch_ns) / 1e9 for one in self.heard]) - self.offsets_s,
            sigmas_s=sigmas,
            gains=scoring.gain(sigmas, np.array([one.clutter_hz for one in self.heard])),
            alive=np.ones(len(self.heard), dtype=bool),
            starts=np.searchsorted(owner, np.arange(len(self.names) + 1)),
        )

    def _evidence(self) -> scoring.Evidence:
        return scoring.Evidence(
            places=self.places,
            sigmas_s=self.sigmas_s,
            log_clutter=np.log([one.clutter_hz for one in self.heard]),
            snr_db=np.array([one.detection.snr_db for one in self.heard]),
            medium=self.medium.mean,
            precision=self.medium.precision,
            log_shares=np.log(self.given.path_shares),
            late_shares=np.array(self.given.late_shares),
            log_prior=math.log(self.given.bangs_per_hour_km2 / 3600.0 / 1e6),
            low=self.nodes[:, :2].min(axis=0),
            high=self.nodes[:, :2].max(axis=0),
            fall_m=OUTSIDE_FALL_M,
            least_log_odds=LEAST_LOG_ODDS,
        )

    def _refused(self, log_odds: float, point: Floats, chosen: scoring.Ints) -> Refused:
        lat, lon, time_ns = self._to_geodetic(point)
        return Refused(time_ns, lat, lon, tuple(self.heard[i] for i in chosen[chosen >= 0]), float(log_odds))

    def _bang(self, log_odds: float, point: Floats, chosen: scoring.Ints) -> Bang:
        """Locate a hypothesis that was taken."""
        picked = chosen[chosen >= 0]
        times_s, sigmas_s = self.arrivals.times_s[picked], self.evidence.sigmas_s[picked]
        # Hills further off than sound goes say nothing of the ground here.
        near = np.linalg.norm(self.nodes[:, :2] - point[:2], axis=1) < MAX_RANGE_M
        ground = height_prior(self.nodes[near])
        places, clutter_hz = self.evidence.places[picked], np.exp(self.evidence.log_clutter[picked])
        shares = self.given.path_shares, self.given.late_shares
        location = locate(places, times_s, sigmas_s, self.medium, point, ground, *shares, clutter_hz)
        missed = scoring.should_have_heard(self.scene, location.theta, chosen >= 0)
        return Bang(
            heard=tuple(self.heard[i] for i in picked),
            location=location,
            epoch_ns=self.epoch_ns,
            source_up_m=location.up_m,
            log_odds=float(log_odds),
            silent=tuple(name for name, quiet in zip(self.names, missed, strict=True) if quiet),
            frame=self.frame,
            given=self.given,
        )


def _weak(refused: search.Found) -> list[Hypothesis]:
    """Return what was refused, but may be a bang beside others."""
    return [one for one in zip(*refused, strict=True) if one[0] >= DRAFT_LOG_ODDS]


def _distinct(bangs: Iterable[Bang]) -> list[Bang]:
    """Return bangs from different places: of those within half a margin of one another, the first."""
    distinct: list[Bang] = []
    for bang in bangs:
        place = bang.location.theta[:2]
        if all(np.linalg.norm(place - other.location.theta[:2]) > search.AGAIN_MARGIN_M / 2 for other in distinct):
            distinct.append(bang)
    return distinct


def _levels_db(detection: Detection) -> tuple[float, ...]:
    """Return how loud a detection was, by each measure of `levels`; NaN where it is not known, or clipped."""
    if detection.clipped:
        return (math.nan,) * MEASURES
    peaks_db = (math.nan if peak is None else peak for peak in (detection.peak_db_spl, detection.peak_dbfs))
    return (*peaks_db, detection.snr_db)
