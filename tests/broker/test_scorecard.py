"""The scorecard of a simulation counts what a person would count."""

import itertools

import pytest

from soundranger_broker.geodesy import Frame
from soundranger_broker.scorecard import Scorecard
from soundranger_broker.simulation import Shot
from soundranger_node.messages import Ellipse, Event, EventStatus

FIRED_NS = 1_767_225_600_000_000_000
FRAME = Frame(52.0, 5.0)
NUMBERS = itertools.count()


def shot(name: str, at_s: float = 0.0) -> Shot:
    return Shot(name, "incident", FIRED_NS + round(at_s * 1e9), 52.0, 5.0, 0.0, 155.0, 0.003)


def event(east_m: float, at_s: float = 0.0, status: EventStatus = "final", name: str | None = None) -> Event:
    lat, lon, _ = FRAME.to_geodetic(east_m, 0.0)
    return Event(
        id=name or f"event-{next(NUMBERS)}",
        revision=0,
        status=status,
        time_ns=FIRED_NS + round(at_s * 1e9),
        time_sigma_s=0.001,
        lat=lat,
        lon=lon,
        alt_m=0.0,
        covariance_en_m2=((9.0, 0.0), (0.0, 9.0)),
        ellipse95=Ellipse(semi_major_m=7.3, semi_minor_m=7.3, bearing_deg=0.0),
        probability=0.99,
        speed_of_sound_mps=340.0,
        arrivals=[],
        silent=[],
    )


def test_an_event_near_a_shot_is_that_shot_with_its_error_and_delay() -> None:
    card = Scorecard()
    card.fired(shot("one"), 6)
    card.published(event(8.0, 0.01, "preliminary", "seen"), FIRED_NS + 2 * 10**9)
    line = card.published(event(6.0, 0.01, "final", "seen"), FIRED_NS + 9 * 10**9)
    assert (line.shot, line.inside_ellipse, line.first_delay_s, line.delay_s) == ("one", True, 2.0, 9.0)
    assert line.error_m == pytest.approx(6.0, abs=0.01)
    totals = card.totals()
    assert (totals.shots, totals.located, totals.events, totals.events_without_shot) == (1, 1, 1, 0)


def test_an_error_beyond_the_ellipse_is_outside_it() -> None:
    card = Scorecard()
    card.fired(shot("one"), 6)
    assert card.published(event(8.0), FIRED_NS).inside_ellipse is False


@pytest.mark.parametrize(("east_m", "at_s"), [(150.0, 0.0), (0.0, 0.5)])
def test_an_event_far_off_in_place_or_time_is_no_shot(east_m: float, at_s: float) -> None:
    card = Scorecard()
    card.fired(shot("one"), 6)
    assert card.published(event(east_m, at_s), FIRED_NS).shot is None
    assert card.totals().events_without_shot == 1


def test_a_second_event_of_one_shot_counts_as_one_without() -> None:
    card = Scorecard()
    card.fired(shot("one"), 6)
    for east_m in (1.0, 2.0):
        card.published(event(east_m), FIRED_NS)
    assert (card.totals().located, card.totals().events_without_shot) == (1, 1)


def test_rounds_of_a_burst_go_to_the_shot_nearest_in_time() -> None:
    card = Scorecard()
    card.fired(shot("one"), 6)
    card.fired(shot("two", 0.1), 6)
    assert [card.published(event(1.0, at_s), FIRED_NS).shot for at_s in (0.02, 0.08)] == ["one", "two"]


def test_a_shot_that_three_nodes_heard_need_not_be_located() -> None:
    card = Scorecard()
    card.fired(shot("one"), 3)
    assert (card.totals().shots_heard_by_4, card.totals().located_share) == (0, None)
