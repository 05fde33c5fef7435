"""Events, tracking and incidents: what is told of a bang, by which name, and what belongs together."""

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_broker.bang import Bang, Heard
from soundranger_broker.events import MOST_PROBABILITY, event_id, to_event
from soundranger_broker.geodesy import Frame
from soundranger_broker.given import Given, Offset
from soundranger_broker.incidents import MOST_DISTANCE_M, MOST_EVENTS, MOST_PAUSE_NS, IncidentBook
from soundranger_broker.location import ANY_LATE, ANY_PATH, Location, Medium
from soundranger_broker.tracking import Tracker, worth_telling
from soundranger_node.messages import EVENT, INCIDENT, Event

if TYPE_CHECKING:
    from tests.broker.conftest import Town

EPOCH_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000


def a_bang(
    town: "Town",
    at_s: float = 10.0,
    nodes: tuple[int, ...] = (0, 1, 2, 3, 4),
    place_m: tuple[float, float] = (100.0, 50.0),
    log_odds: float = 20.0,
) -> Bang:
    """Return a bang heard by some nodes; its arrivals have the same ids whenever the time is the same."""
    heard = [one for one in town.hear(*place_m, at_s, range_m=5000.0) if one.node in {town.names[n] for n in nodes}]
    count = len(heard)
    theta = np.array([*place_m, at_s, 341.0, 1.0, -2.0])
    covariance = np.diag([9.0, 4.0, 1e-6, 1.0, 4.0, 4.0])
    covariance[0, 1] = covariance[1, 0] = 1.5
    location = Location(
        theta=theta,
        covariance=covariance,
        up_m=3.0,
        up_sigma_m=2.0,
        residuals_s=np.linspace(-0.001, 0.2, count),
        weights=np.linspace(1.0, 0.0, count),
        distances_m=np.linspace(100.0, 900.0, count),
        path_sigma_s=0.001,
        log_evidence=1.0,
        alternatives=np.zeros((0, 3)),
        path_shares=np.array(ANY_PATH),
        late_shares=np.array(ANY_LATE),
    )
    return Bang(
        heard=tuple(Heard(one, 0.001, 0.02) for one in heard),
        location=location,
        epoch_ns=EPOCH_NS,
        source_up_m=3.0,
        log_odds=log_odds,
        silent=("node-07",),
        frame=Frame(town.lat, town.lon),
        given=Given(Medium(341.0, 1.8, 2.5)),
    )


def after(seconds: float) -> int:
    return EPOCH_NS + round(seconds * SECOND_NS)


def an_event(town: "Town", at_s: float, east_m: float = 0.0, north_m: float = 0.0) -> Event:
    bang = a_bang(town, at_s, place_m=(east_m, north_m))
    return to_event(bang, event_id(bang), 0, "final")


# Events


def test_an_event_says_what_was_located(town: "Town") -> None:
    bang = a_bang(town)
    event = to_event(bang, event_id(bang), 3, "preliminary")
    assert town.offset_m(event.lat, event.lon) == pytest.approx((100.0, 50.0), abs=1e-3)
    assert event.alt_m == pytest.approx(3.0, abs=0.01)
    assert event.time_ns == after(10.0)
    assert event.time_sigma_s == pytest.approx(0.001)
    assert event.covariance_en_m2 == ((9.0, 1.5), (1.5, 4.0))
    axes = np.array([event.ellipse95.semi_major_m, event.ellipse95.semi_minor_m]) / math.sqrt(5.9915)
    assert axes**2 == pytest.approx(np.linalg.eigvalsh([[9.0, 1.5], [1.5, 4.0]])[::-1], rel=1e-4)
    assert (event.speed_of_sound_mps, event.wind_mps) == (341.0, (1.0, -2.0))
    assert (event.revision, event.status) == (3, "preliminary")
    assert event.silent == ["node-07"]
    assert EVENT.decode(EVENT.encode(event)) == event


def test_an_event_names_its_arrivals_and_which_of_them_it_rests_on(town: "Town") -> None:
    bang = a_bang(town)
    arrivals = to_event(bang, "e", 0, "final").arrivals
    assert [arrival.detection for arrival in arrivals] == [one.detection.id for one in bang.heard]
    assert [arrival.used for arrival in arrivals] == [True, True, True, False, False]
    assert [arrival.residual_s for arrival in arrivals] == pytest.approx(bang.location.residuals_s.tolist())
    assert [arrival.distance_m for arrival in arrivals] == pytest.approx(bang.location.distances_m.tolist())


@given(log_odds=st.floats(-30, 1e6))
def test_the_probability_is_that_of_the_odds(town: "Town", log_odds: float) -> None:
    event = to_event(a_bang(town, log_odds=log_odds), "e", 0, "final")
    assert 0.0 <= event.probability <= 1.0
    assert event.probability == pytest.approx(min(1 / (1 + math.exp(-min(log_odds, 50.0))), MOST_PROBABILITY))
    EVENT.encode(event)


def test_the_name_of_an_event_can_be_read_out_and_says_when(town: "Town") -> None:
    assert re.fullmatch(r"20260101-010203-[0-9a-f]{6}", event_id(a_bang(town, 3_723.5)))


def test_the_name_does_not_depend_on_the_order_of_arrivals(town: "Town") -> None:
    bang = a_bang(town)
    assert event_id(replace(bang, heard=bang.heard[::-1])) == event_id(bang)


def test_two_bangs_of_one_second_have_two_names(town: "Town") -> None:
    assert event_id(a_bang(town, 10.1)) != event_id(a_bang(town, 10.6))


# Doubts


def a_good_bang(town: "Town", **changes: Any) -> Bang:
    """Return a bang that nothing speaks against, but for what is changed of its location."""
    bang = a_bang(town, nodes=tuple(range(9)))
    location = replace(bang.location, residuals_s=np.zeros(9), weights=np.ones(9), **changes)
    return replace(bang, location=location, silent=())


def reason_of(bang: Bang) -> str:
    return to_event(bang, "e", 0, "final").reason or ""


def test_of_a_good_bang_there_is_no_doubt(town: "Town") -> None:
    event = to_event(a_good_bang(town), "e", 0, "final")
    assert (event.reason, event.alternatives) == (None, None)


def test_four_nodes_are_few(town: "Town") -> None:
    four = a_bang(town, nodes=(0, 1, 2, 3))
    location = replace(four.location, residuals_s=np.zeros(4), weights=np.ones(4))
    told = reason_of(replace(four, location=location, silent=()))
    assert told.startswith("Four nodes heard it, the least that makes an event.")


def test_low_odds_are_told_as_how_many_such_events_are_false(town: "Town") -> None:
    assert "one such event in 8 is false" in reason_of(replace(a_good_bang(town), log_odds=math.log(7.0)))
    assert reason_of(replace(a_good_bang(town), log_odds=math.log(20.0))) == ""


def test_another_place_that_fits_is_told_with_its_way_and_share(town: "Town") -> None:
    bang = a_good_bang(town, alternatives=np.array([[100.0 + 300.0, 50.0 - 300.0, 0.2], [0.0, 0.0, 0.01]]))
    event = to_event(bang, "e", 0, "final")
    assert event.reason == "The same arrivals fit another place, 420 m to the south-east, with a probability of 20%."
    assert event.alternatives is not None
    places = [town.offset_m(place.lat, place.lon) for place in event.alternatives]
    assert places == [pytest.approx((400.0, -250.0), abs=0.01), pytest.approx((0.0, 0.0), abs=0.01)]
    assert [place.probability for place in event.alternatives] == [0.2, 0.01]
    assert EVENT.decode(EVENT.encode(event)) == event


def test_far_outside_the_nodes_the_distance_is_poor(town: "Town") -> None:
    theta = np.array([2_500.0, 0.0, 10.0, 341.0, 0.0, 0.0])
    long = np.diag([10_000.0, 100.0, 1e-6, 1.0, 1.0, 1.0])
    assert "outside the nodes" in reason_of(a_good_bang(town, theta=theta, covariance=long))
    assert reason_of(a_good_bang(town, covariance=long)) == ""
    assert reason_of(a_good_bang(town, theta=theta)) == ""


def test_silent_nodes_are_named_where_they_are_many(town: "Town") -> None:
    bang = a_good_bang(town)
    assert reason_of(replace(bang, silent=("a", "b"))) == ""
    told = reason_of(replace(bang, silent=("a", "b", "c")))
    assert told == "Three nodes should have heard it and did not (a, b and c)."


def test_a_node_that_is_known_to_be_off_is_named_with_the_size(town: "Town") -> None:
    bang = a_good_bang(town)
    offsets = {town.names[2]: Offset(0.31, 0.001), "elsewhere": Offset(5.0, 0.1)}
    told = reason_of(replace(bang, given=replace(bang.given, offsets=offsets)))
    assert told == "Node node-02 took part, whose times are 310 ms late."
    offsets = {town.names[2]: Offset(0.0, 0.08)}
    told = reason_of(replace(bang, given=replace(bang.given, offsets=offsets)))
    assert told == "Node node-02 took part, whose times are off by up to 80 ms."


def test_arrivals_that_do_not_fit_and_uneven_ways_are_told(town: "Town") -> None:
    bang = a_good_bang(town, path_sigma_s=0.0155)
    residuals, weights = np.zeros(9), np.ones(9)
    residuals[[1, 4]], weights[[1, 4]] = (0.02, 0.083), 0.1
    location = replace(bang.location, residuals_s=residuals, weights=weights)
    assert reason_of(replace(bang, location=location)) == (
        "Two of nine arrivals do not fit the place and do not count, by up to 83 ms. "
        "The ways of the sound are uneven by 16 ms."
    )


# Tracking


def told(news: list[Event]) -> list[tuple[str, str, int]]:
    return [(event.id, event.status, event.revision) for event in news]


def test_a_bang_has_one_name_from_the_first_look_to_the_last(town: "Town") -> None:
    tracker = Tracker()
    first = tracker.preliminary([a_bang(town, nodes=(0, 1, 2, 3))])
    second = tracker.preliminary([a_bang(town, nodes=(0, 1, 2, 3, 4, 5))])
    final = tracker.final([a_bang(town, nodes=tuple(range(9)))], after(20.0))
    name = event_id(a_bang(town, nodes=(0, 1, 2, 3)))
    assert told(first + second + final) == [(name, "preliminary", 0), (name, "preliminary", 1), (name, "final", 2)]


def test_a_second_look_at_the_same_arrivals_is_no_news(town: "Town") -> None:
    tracker = Tracker()
    assert len(tracker.preliminary([a_bang(town)])) == 1
    assert tracker.preliminary([a_bang(town)]) == []


def changed(event: Event, **changes: Any) -> bool:
    return worth_telling(event, msgspec.structs.replace(event, **changes))


def test_what_nobody_can_see_is_no_news(town: "Town") -> None:
    event = an_event(town, 10.0)
    more = [*event.arrivals, msgspec.structs.replace(event.arrivals[0], detection="one-more")]
    assert not changed(event)
    assert not changed(event, arrivals=more, time_ns=event.time_ns + 1_000_000)
    assert not changed(event, lat=event.lat + 0.5 / 111_000)
    assert not changed(event, probability=event.probability - 0.04)


def test_a_move_a_better_ellipse_and_more_or_less_certainty_are_news(town: "Town") -> None:
    event = an_event(town, 10.0)
    assert changed(event, lat=event.lat + 2.0 / 111_000)
    assert changed(event, ellipse95=msgspec.structs.replace(event.ellipse95, semi_minor_m=1.0))
    assert changed(event, probability=event.probability - 0.06)
    assert changed(event, reason=None)


def test_small_moves_add_up_to_one_that_is_told(town: "Town") -> None:
    tracker, bang = Tracker(), a_bang(town)
    tracker.preliminary([bang])
    told = []
    for step in range(1, 11):
        theta = bang.location.theta + np.array([0.5 * step, 0.0, 0.0, 0.0, 0.0, 0.0])
        told += tracker.preliminary([replace(bang, location=replace(bang.location, theta=theta))])
    assert [event.revision for event in told] == [1, 2]


def test_two_bangs_are_never_one_event_however_their_arrivals_were_mixed_before(town: "Town") -> None:
    tracker = Tracker()
    one, other = a_bang(town, 10.0, nodes=(0, 1, 2, 3, 4)), a_bang(town, 10.4, nodes=(4, 5, 6, 7, 8))
    six = replace(one.location, residuals_s=np.zeros(6), weights=np.ones(6), distances_m=np.full(6, 100.0))
    mixed = replace(one, heard=(*one.heard[:3], *other.heard[:3]), location=six)
    (before,) = tracker.preliminary([mixed])
    both = tracker.preliminary([one, other])
    assert len({event.id for event in both}) == 2
    assert before.id in {event.id for event in both}
    final = tracker.final([other, one], after(20.0))
    assert {event.id for event in final} == {event.id for event in both}


def test_a_bang_that_was_never_preliminary_is_final_at_once(town: "Town") -> None:
    assert told(Tracker().final([a_bang(town)], after(20.0))) == [(event_id(a_bang(town)), "final", 0)]


def test_what_the_final_look_does_not_confirm_is_retracted_with_a_reason(town: "Town") -> None:
    tracker = Tracker()
    (preliminary,) = tracker.preliminary([a_bang(town, 10.0)])
    assert tracker.final([], after(10.0)) == []
    (retracted,) = tracker.final([], after(10.1))
    assert told([retracted]) == [(preliminary.id, "retracted", 1)]
    assert retracted.reason
    unchanged = msgspec.structs.replace(retracted, revision=0, status="preliminary", reason=preliminary.reason)
    assert unchanged == preliminary
    assert tracker.final([], after(99.0)) == []


def test_a_retraction_names_the_event_that_its_arrivals_belong_to(town: "Town") -> None:
    tracker = Tracker()
    mistaken, truth = a_bang(town, 10.0, nodes=(0, 1, 2, 3)), a_bang(town, 10.0, nodes=(2, 3, 4, 5, 6))
    tracker.preliminary([mistaken])
    final, retracted = tracker.final([truth], after(10.1))
    assert (final.status, retracted.status) == ("final", "retracted")
    assert retracted.reason == f"The arrivals of node-02 and node-03 belong to event {final.id}."


def test_a_retraction_names_the_node_that_was_heard_when_it_vanished(town: "Town") -> None:
    tracker = Tracker()
    tracker.preliminary([a_bang(town, nodes=(0, 1, 2, 3))])
    tracker.preliminary([], ["node-05"])
    tracker.preliminary([], ["node-08"])
    (retracted,) = tracker.final([], after(10.1))
    assert retracted.reason == "Once node-05 had been heard, chance explained its arrivals better than one bang."


def test_a_retraction_names_nodes_that_stayed_silent(town: "Town") -> None:
    tracker = Tracker()
    tracker.preliminary([a_bang(town)])
    (retracted,) = tracker.final([], after(10.1))
    assert retracted.reason is not None
    assert retracted.reason.startswith("Node-07 should have heard it and did not")


def test_a_final_event_is_told_once(town: "Town") -> None:
    tracker = Tracker()
    tracker.preliminary([a_bang(town)])
    tracker.final([a_bang(town)], after(10.0))
    assert tracker.final([], after(99.0)) == []


def test_two_bangs_keep_their_names_apart(town: "Town") -> None:
    tracker = Tracker()
    early, late = a_bang(town, 10.0), a_bang(town, 10.4)
    names = [event.id for event in tracker.preliminary([early, late])]
    final = tracker.final([late, early], after(20.0))
    assert [event.id for event in final] == names[::-1]
    assert {event.status for event in final} == {"final"}


def test_a_final_event_is_never_retracted_by_its_own_name(town: "Town") -> None:
    tracker = Tracker()
    mistaken = a_bang(town, nodes=(0, 1, 2, 4))
    tracker.preliminary([mistaken])
    # It shares only its first two arrivals with what the final look makes of them: too little to be the same bang.
    two_first = {one.detection.id for one in sorted(mistaken.heard, key=lambda one: one.detection.time_ns)[:2]}
    others = tuple(one for one in a_bang(town, nodes=(3, 5, 6, 7)).heard)
    truth = replace(mistaken, heard=(*(one for one in mistaken.heard if one.detection.id in two_first), *others))
    truth = replace(truth, location=a_bang(town, nodes=(0, 1, 2, 3, 5, 6)).location)
    news = [*tracker.final([truth], after(10.0)), *tracker.final([], after(99.0))]
    last = {event.id: event.status for event in news}
    assert "final" in last.values()
    for name in last:
        revisions = [event.revision for event in news if event.id == name]
        assert revisions == sorted(set(revisions))


@given(
    looks=st.lists(
        st.lists(
            st.tuples(st.sampled_from([10.0, 10.3, 12.0]), st.sets(st.integers(0, 8), min_size=4, max_size=6)),
            max_size=3,
        ),
        max_size=4,
    )
)
def test_whatever_the_looks_revisions_rise_and_nothing_follows_the_last_word(
    town: "Town", looks: list[list[tuple[float, set[int]]]]
) -> None:
    tracker, news = Tracker(), list[Event]()
    for look in looks:
        once = {at_s: tuple(sorted(nodes)) for at_s, nodes in look}
        news += tracker.preliminary([a_bang(town, at_s, nodes) for at_s, nodes in once.items()])
    last = {at_s: tuple(sorted(nodes)) for look in looks[-1:] for at_s, nodes in look}
    news += tracker.final([a_bang(town, at_s, nodes) for at_s, nodes in last.items()], after(20.0))
    assert tracker.final([], after(1_000.0)) == []
    for name in {event.id for event in news}:
        history = [event for event in news if event.id == name]
        assert [event.revision for event in history] == list(range(len(history)))
        assert [event.status == "preliminary" for event in history] == [True] * (len(history) - 1) + [False]
    assert sum(event.status == "final" for event in news) == len(last)


# Incidents


def test_rounds_from_one_place_are_one_incident(town: "Town") -> None:
    book = IncidentBook()
    incidents = [book.add(an_event(town, 10.0 + number)) for number in range(5)]
    assert {incident.id for incident in incidents} == {incidents[0].id}
    assert [incident.revision for incident in incidents] == [0, 1, 2, 3, 4]
    assert incidents[-1].rounds == len(incidents[-1].events) == 5
    assert (incidents[-1].start_time_ns, incidents[-1].end_time_ns) == (after(10.0), after(14.0))
    assert INCIDENT.decode(INCIDENT.encode(incidents[-1])) == incidents[-1]


def test_rounds_further_apart_than_a_run_are_two_incidents(town: "Town") -> None:
    book = IncidentBook()
    here = book.add(an_event(town, 10.0))
    assert book.add(an_event(town, 11.0, MOST_DISTANCE_M + 1.0)).id != here.id
    assert book.add(an_event(town, 12.0, MOST_DISTANCE_M - 1.0)).id == here.id


def test_a_long_pause_ends_an_incident(town: "Town") -> None:
    pause_s = MOST_PAUSE_NS / SECOND_NS
    book = IncidentBook()
    first = book.add(an_event(town, 10.0))
    assert book.add(an_event(town, 10.0 + pause_s)).id == first.id
    assert book.add(an_event(town, 10.0 + 2 * pause_s + 0.001)).id != first.id


def test_a_running_fight_is_one_incident(town: "Town") -> None:
    book = IncidentBook()
    names = {book.add(an_event(town, 10.0 + number, 150.0 * number)).id for number in range(6)}
    assert len(names) == 1


def test_an_incident_is_in_the_middle_of_its_events(town: "Town") -> None:
    book = IncidentBook()
    for number, east_m in enumerate((0.0, 10.0, 150.0)):
        incident = book.add(an_event(town, 10.0 + number, east_m, 20.0))
    assert town.offset_m(incident.lat, incident.lon) == pytest.approx((10.0, 20.0), abs=0.05)


def test_an_incident_on_the_date_line_is_not_on_the_other_side_of_the_earth(town: "Town") -> None:
    book = IncidentBook()
    event = msgspec.structs.replace(an_event(town, 10.0), lat=-16.8, lon=179.9999)
    other = msgspec.structs.replace(event, id="other", lon=-179.9999)
    book.add(event)
    incident = book.add(other)
    assert incident.rounds == 2
    assert abs(incident.lon) > 179.999


def test_an_incident_never_outgrows_its_message(town: "Town") -> None:
    book = IncidentBook()
    event = an_event(town, 10.0)
    sizes: dict[str, int] = {}
    for number in range(MOST_EVENTS + 5):
        incident = book.add(msgspec.structs.replace(event, id=f"e{number}"))
        sizes[incident.id] = incident.rounds
    assert sorted(sizes.values()) == [5, MOST_EVENTS]


def test_old_incidents_are_forgotten(town: "Town") -> None:
    book = IncidentBook()
    for number in range(50):
        book.add(an_event(town, 100.0 * number))
    assert len(book._open) == 1
