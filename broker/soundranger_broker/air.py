"""The air as settled bangs tell it: a Kalman filter over the speed of sound and the wind.

Every bang is located with the air as an unknown, so what its arrivals say of the air is at hand: the information that
its posterior has and its prior had not. Between bangs the air drifts back towards what thermometers and the climate say
(an Ornstein-Uhlenbeck process). How fast it drifts differs from day to day: filters for calm and for changeable weather
run side by side, weighted by how well each foretells the bangs (Raftery, Karny, Ettler 2010). All nodes of a network
share one air: with nodes more than some 5 km apart, wind and temperature differ by what the drift allows for within an
hour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from soundranger_broker.bang import USED_WEIGHT, Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import Medium

# In an hour the air warms or cools by up to a kelvin (0.6 m/s), and a component of the wind changes by up to 1 m/s:
# what a day makes of temperature, and what airfields report from one hour to the next. (Speed, wind, wind.)
DRIFT_PER_ROOT_HOUR = np.array([0.6, 1.0, 1.0])
# In calm weather, they change by a small share of that.
CHANGEABLE = (0.1, 0.3, 1.0)
# The weather is another after some hours: what bangs said of how calm it is counts less by e.
WEATHER_S = 10_800.0
HOUR_S = 3600.0
# Thermometers warm and cool later than the air, and do not agree: a change that they state is wrong by this share.
STATED_CHANGE_SHARE = 0.3
# A bang says something of the air where one could be made without it: five unknowns more than a time, of arrivals
# that it rests on ...
LEAST_ARRIVALS = 6
# ... and where there is no doubt that it was one: one in a thousand is none.
LEAST_LOG_ODDS = 7.0


@dataclass(frozen=True, eq=False)
class Air:
    """What is known of the air at a time: (speed of sound, wind east, wind north) in m/s, (3,) and (3, 3).

    `stated` is the prior of that time, from the nodes' temperatures; `changeable` is the share of the drift that is
    assumed, `log_weight` how well that foretold the bangs.
    """

    stated: Medium
    mean: Floats
    covariance: Floats
    time_ns: int
    changeable: float = 1.0
    log_weight: float = 0.0


def stated_air(stated: Medium, time_ns: int, changeable: float = 1.0) -> Air:
    """Return the air of which no bang has told anything yet."""
    covariance = np.asarray(np.linalg.inv(stated.precision), dtype=np.float64)
    return Air(stated, stated.mean, covariance, time_ns, changeable)


def stated_airs(stated: Medium, time_ns: int) -> tuple[Air, ...]:
    """Return the air of which no bang has told anything yet, for calm and for changeable weather."""
    return tuple(stated_air(stated, time_ns, changeable) for changeable in CHANGEABLE)


def medium(airs: Sequence[Air]) -> Medium:
    """Return the air as a prior of the next look: mean and covariance of all that it may be."""
    shares = np.exp(np.array([air.log_weight for air in airs]) - max(air.log_weight for air in airs))
    shares /= shares.sum()
    means = np.array([air.mean for air in airs])
    mean = shares @ means
    apart = means - mean
    covariance = np.einsum("k,kij->ij", shares, np.array([air.covariance for air in airs])) + (apart.T * shares) @ apart
    speed, east, north = mean.tolist()
    speed_sigma, wind_sigma = math.sqrt(covariance[0, 0]), math.sqrt((covariance[1, 1] + covariance[2, 2]) / 2.0)
    return Medium(speed, speed_sigma, wind_sigma, (east, north), tuple(map(tuple, covariance.tolist())))


def drifted(air: Air, stated: Medium, time_ns: int) -> Air:
    """Return the air at a later time, when the thermometers say something else."""
    prior = np.linalg.inv(stated.precision)
    if stated.speed_sigma_mps != air.stated.speed_sigma_mps:
        # There are thermometers now, or there are none any more: what differs from what they say is not known.
        return stated_air(stated, time_ns, air.changeable)
    change = stated.mean - air.stated.mean
    later_s = max(time_ns - air.time_ns, 0) / 1e9
    drift = air.changeable * DRIFT_PER_ROOT_HOUR
    # The rate at which this process forgets is that at which its stationary spread drifts as stated above.
    lasting = np.exp(-later_s / HOUR_S * drift**2 / (2.0 * np.diag(prior)))
    kept = np.outer(lasting, lasting)
    mean = stated.mean + lasting * (air.mean - air.stated.mean)
    covariance = kept * air.covariance + (1.0 - kept) * prior + np.diag((STATED_CHANGE_SHARE * change) ** 2)
    log_weight = air.log_weight * math.exp(-later_s / WEATHER_S)
    return Air(stated, mean, covariance, max(time_ns, air.time_ns), air.changeable, log_weight)


def tells_of_air(bang: Bang) -> bool:
    """Say whether what a bang says of the air can be trusted."""
    return bang.log_odds >= LEAST_LOG_ODDS and int((bang.location.weights > USED_WEIGHT).sum()) >= LEAST_ARRIVALS


def learnt(air: Air, bang: Bang) -> Air:
    """Return the air in view of a bang: what the bang's location knows more than it was given is added."""
    before = bang.given.medium
    posterior = np.linalg.inv(bang.location.covariance[3:, 3:])
    gained, axes = np.linalg.eigh(posterior - before.precision)
    # Where arrivals contradict each other a bang knows less than before: that is no information about the air.
    information = (axes * np.maximum(gained, 0.0)) @ axes.T
    # What the new information alone says, relative to what was given: the shift of the mean that it explains.
    pull = (information + before.precision) @ (bang.location.theta[3:] - before.mean)
    surprise = pull - information @ (air.mean - before.mean)
    covariance = np.linalg.inv(np.linalg.inv(air.covariance) + information)
    covariance = (covariance + covariance.T) / 2.0
    # The density of what the bang says, with all that this air may be integrated over; but for what all airs share.
    misfit = (air.mean - before.mean) @ (2.0 * pull - information @ (air.mean - before.mean))
    foretold = 0.5 * (misfit + surprise @ covariance @ surprise)
    foretold += 0.5 * float(np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(air.covariance)[1])
    mean = air.mean + covariance @ surprise
    return replace(air, mean=mean, covariance=covariance, log_weight=air.log_weight + float(foretold))
