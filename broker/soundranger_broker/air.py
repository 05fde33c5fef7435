"""The air as settled bangs tell it: a Kalman filter over the speed of sound and the wind.

Every bang is located with the air as an unknown, so what its arrivals say of the air is at hand: the information that
its posterior has and its prior had not. Between bangs the air drifts back towards what thermometers and the climate say
(an Ornstein-Uhlenbeck process). All nodes of a network share one air: with nodes more than some 5 km apart, wind and
temperature differ by what the drift allows for within an hour.
"""

import math
from dataclasses import dataclass

import numpy as np

from soundranger_broker.bang import Bang
from soundranger_broker.geodesy import Floats
from soundranger_broker.location import Medium

# In an hour the air warms or cools by about a kelvin (0.6 m/s), and a component of the wind changes by about 1 m/s:
# what a day makes of temperature, and what airfields report from one hour to the next. (Speed, wind, wind.)
DRIFT_PER_ROOT_HOUR = np.array([0.6, 1.0, 1.0])
HOUR_S = 3600.0
# Thermometers warm and cool later than the air, and do not agree: a change that they state is wrong by this share.
STATED_CHANGE_SHARE = 0.3
# A bang says something of the air where one could be made without it: five unknowns more than a time ...
LEAST_ARRIVALS = 6
# ... of arrivals that came the direct way more likely than not ...
DIRECT_WEIGHT = 0.5
# ... and where there is no doubt that it was one: one in a thousand is none.
LEAST_LOG_ODDS = 7.0


@dataclass(frozen=True, eq=False)
class Air:
    """What is known of the air at a time: (speed of sound, wind east, wind north) in m/s, (3,) and (3, 3).

    `stated` is the prior of that time, from the nodes' temperatures.
    """

    stated: Medium
    mean: Floats
    covariance: Floats
    time_ns: int

    def medium(self) -> Medium:
        """Return the air as a prior of the next look."""
        variances = np.diag(self.covariance)
        speed, east, north = (float(value) for value in self.mean)
        return Medium(
            speed,
            math.sqrt(variances[0]),
            math.sqrt(variances[1:].mean()),
            (east, north),
            tuple(tuple(float(value) for value in row) for row in self.covariance),
        )


def stated_air(stated: Medium, time_ns: int) -> Air:
    """Return the air of which no bang has told anything yet."""
    return Air(stated, stated.mean, np.asarray(np.linalg.inv(stated.precision), dtype=np.float64), time_ns)


def drifted(air: Air, stated: Medium, time_ns: int) -> Air:
    """Return the air at a later time, when the thermometers say something else."""
    prior = np.linalg.inv(stated.precision)
    if stated.speed_sigma_mps != air.stated.speed_sigma_mps:
        # There are thermometers now, or there are none any more: what differs from what they say is not known.
        return stated_air(stated, time_ns)
    change = stated.mean - air.stated.mean
    hours = max(time_ns - air.time_ns, 0) / 1e9 / HOUR_S
    # The rate at which this process forgets is that at which its stationary spread drifts as stated above.
    lasting = np.exp(-hours * DRIFT_PER_ROOT_HOUR**2 / (2.0 * np.diag(prior)))
    kept = np.outer(lasting, lasting)
    mean = stated.mean + lasting * (air.mean - air.stated.mean)
    covariance = kept * air.covariance + (1.0 - kept) * prior + np.diag((STATED_CHANGE_SHARE * change) ** 2)
    return Air(stated, mean, covariance, max(time_ns, air.time_ns))


def tells_of_air(bang: Bang) -> bool:
    """Say whether what a bang says of the air can be trusted."""
    return bang.log_odds >= LEAST_LOG_ODDS and int((bang.location.weights > DIRECT_WEIGHT).sum()) >= LEAST_ARRIVALS


def learnt(air: Air, bang: Bang) -> Air:
    """Return the air in view of a bang: what the bang's location knows more than it was given is added."""
    before = bang.given.medium
    posterior = np.linalg.inv(bang.location.covariance[3:, 3:])
    gained, axes = np.linalg.eigh(posterior - before.precision)
    # Where arrivals contradict each other a bang knows less than before: that is no information about the air.
    information = (axes * np.maximum(gained, 0.0)) @ axes.T
    # What the new information alone says, relative to what was given: the shift of the mean that it explains.
    pull = (information + before.precision) @ (bang.location.theta[3:] - before.mean)
    precision = np.linalg.inv(air.covariance)
    covariance = np.linalg.inv(precision + information)
    mean = air.mean + covariance @ (pull - information @ (air.mean - before.mean))
    return Air(air.stated, mean, (covariance + covariance.T) / 2.0, air.time_ns)
