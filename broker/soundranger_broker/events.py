"""Events: a bang that was found, as the message that tells of it."""

import hashlib
import math
from datetime import UTC, datetime

from soundranger_broker.bang import USED_WEIGHT, Bang
from soundranger_broker.doubts import doubts
from soundranger_broker.location import ellipse95
from soundranger_node.messages import MAX_ALTERNATIVES, Alternative, Arrival, Ellipse, Event, EventStatus
from soundranger_node.utc import NS_PER_S

# No model of sound and chance is right more often than this, whatever odds it gives.
MOST_PROBABILITY = 0.999


def event_id(bang: Bang) -> str:
    """Return a name for a bang that people can read out: its UTC, and six characters of its first arrival."""
    first = min(bang.heard, key=lambda one: (one.detection.time_ns, one.detection.id))
    return name_of(bang.time_ns, first.detection.id)


def name_of(time_ns: int, detection: str) -> str:
    """Return a name made of a UTC and of the id of a detection."""
    moment = datetime.fromtimestamp(time_ns // NS_PER_S, tz=UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{hashlib.sha256(detection.encode()).hexdigest()[:6]}"


def to_event(bang: Bang, name: str, revision: int, status: EventStatus) -> Event:
    """Return the event message of a bang, with the reasons to doubt it."""
    probability = probability_of(bang.log_odds)
    theta, covariance = bang.location.theta, bang.location.covariance
    lat, lon, alt_m = bang.place
    semi_major_m, semi_minor_m, bearing_deg = ellipse95(covariance[:2, :2])
    return Event(
        id=name,
        revision=revision,
        status=status,
        time_ns=bang.time_ns,
        time_sigma_s=math.sqrt(covariance[2, 2]),
        lat=lat,
        lon=lon,
        alt_m=alt_m,
        covariance_en_m2=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        ellipse95=Ellipse(semi_major_m=semi_major_m, semi_minor_m=semi_minor_m, bearing_deg=bearing_deg),
        probability=probability,
        speed_of_sound_mps=float(theta[3]),
        wind_mps=(float(theta[4]), float(theta[5])),
        arrivals=[
            Arrival(
                detection=one.detection.id,
                node=one.detection.node,
                residual_s=float(residual),
                distance_m=float(distance),
                used=bool(weight >= USED_WEIGHT),
            )
            for one, residual, distance, weight in zip(
                bang.heard,
                bang.location.residuals_s,
                bang.location.distances_m,
                bang.location.weights,
                strict=True,
            )
        ],
        silent=list(bang.silent),
        reason=doubts(bang, probability),
        alternatives=_alternatives(bang),
    )


def probability_of(log_odds: float) -> float:
    """Return the probability that goes with log odds: never certainty."""
    return min(1.0 / (1.0 + math.exp(-min(max(log_odds, -50.0), 50.0))), MOST_PROBABILITY)


def _alternatives(bang: Bang) -> list[Alternative] | None:
    """Return the other places that explain the arrivals, the likeliest first; None where there is none."""
    told = []
    for east_m, north_m, share in sorted(bang.location.alternatives, key=lambda place: -place[2])[:MAX_ALTERNATIVES]:
        lat, lon, _ = bang.frame.to_geodetic(east_m, north_m, bang.source_up_m)
        told.append(Alternative(lat=lat, lon=lon, probability=float(share)))
    return told or None
