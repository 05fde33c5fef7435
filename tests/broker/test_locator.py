"""The locator: a stream and a file of the same detections tell the same events."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundranger_broker.deciding import Decider, News
from soundranger_broker.locator import Locator, locate_all
from soundranger_node.messages import DETECTION, ClockStatus, Detection, Event, Incident, NodeStatus, Refusal

if TYPE_CHECKING:
    from tests.broker.conftest import Town

EPOCH_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000
LATENESS_S = 2.0
LATER_NS = EPOCH_NS + 10_000 * SECOND_NS


def a_locator(decider: Decider | None = None) -> Locator:
    return Locator(round(LATENESS_S * SECOND_NS), decider=decider or Decider())


def status_of(town: "Town", node: int, *, online: bool = True, at_s: float = 0.0) -> NodeStatus:
    lat, lon, alt_m = town.geodetic(town.places_m[node])
    return NodeStatus(
        node=town.names[node],
        online=online,
        time_ns=EPOCH_NS + round(at_s * SECOND_NS),
        version="1",
        lat=lat,
        lon=lon,
        alt_m=alt_m,
        position_sigma_m=0.1,
        clock=ClockStatus(tier="pps"),
    )


def delivered(
    town: "Town",
    locator: Locator,
    detections: Sequence[Detection],
    delays_s: Sequence[float],
    until_s: float = 120.0,
    look_every_s: float = 0.05,
) -> list[News]:
    """Return the news of a stream in which each detection comes in its delay after its time."""
    for node in range(len(town.names)):
        locator.status(status_of(town, node), 0)
    mail = sorted(
        (one.time_ns + round(delay_s * SECOND_NS), DETECTION.encode(one), one.node)
        for one, delay_s in zip(detections, delays_s, strict=True)
    )
    news: list[News] = []
    for look in range(round(until_s / look_every_s)):
        now_ns = EPOCH_NS + round(look * look_every_s * SECOND_NS)
        while mail and mail[0][0] <= now_ns:
            come_ns, payload, name = mail.pop(0)
            assert locator.detection(payload, come_ns, name).dropped is None
        news += locator.advance(now_ns)
    assert not mail
    return news


def last_words(news: Sequence[News]) -> list[Event]:
    return [one for one in news if isinstance(one, Event) and one.status == "final"]


def some_shots(town: "Town", seed: int) -> list[Detection]:
    rng = np.random.default_rng(seed)
    shots = [town.hear(*town.somewhere(rng), at_s, rng) for at_s in (20.4, 31.3, 31.8, 50.5)]
    return sorted(
        [*town.chatter(rng, 80.0, 1.0), *(one for shot in shots for one in shot)], key=lambda one: one.time_ns
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_with_delays_tells_the_same_final_events_as_the_file(town: "Town", seed: int) -> None:
    detections = some_shots(town, seed)
    rng = np.random.default_rng([seed, 1])
    delays = np.minimum(rng.exponential(0.3, len(detections)), LATENESS_S - 0.1)
    streamed = last_words(delivered(town, a_locator(), detections, delays.tolist()))
    filed, ingest = locate_all(
        [DETECTION.encode(one) for one in rng.permutation(np.array(detections, dtype=object))], LATER_NS
    )
    assert not ingest.dropped
    assert len(filed) >= 4
    for there, here in zip(streamed, filed, strict=True):
        assert (there.lat, there.lon) == pytest.approx((here.lat, here.lon), abs=1e-8)
        assert there.time_ns == pytest.approx(here.time_ns, abs=10_000)
        assert {arrival.detection for arrival in there.arrivals} == {arrival.detection for arrival in here.arrivals}
        assert there.silent == here.silent
        assert there.covariance_en_m2[0] == pytest.approx(here.covariance_en_m2[0], rel=1e-2, abs=1e-2)


def test_a_bang_is_told_while_it_is_fresh_and_again_when_it_is_sure(town: "Town") -> None:
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(1))
    news = delivered(town, a_locator(), heard, [0.05] * len(heard), until_s=60.0)
    events = [one for one in news if isinstance(one, Event)]
    assert len({event.id for event in events}) == 1
    assert [event.revision for event in events] == list(range(len(events)))
    assert [event.status for event in events] == ["preliminary"] * (len(events) - 1) + ["final"]
    assert len(events) >= 2
    assert len(events[0].arrivals) >= 4
    assert len(events[-1].arrivals) == len(heard)
    for event in events:
        assert np.hypot(*np.subtract(town.offset_m(event.lat, event.lon), (50.0, 20.0))) < 25.0


def test_the_first_news_is_out_within_half_a_second_of_the_sixth_arrival(town: "Town") -> None:
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(2))
    locator = a_locator()
    for node in range(len(town.names)):
        locator.status(status_of(town, node), 0)
    news: list[News] = []
    for one in heard[:6]:
        locator.detection(DETECTION.encode(one), one.time_ns, one.node)
        news += locator.advance(one.time_ns)
    news += locator.advance(heard[5].time_ns + 300_000_000)
    assert {one.status for one in news if isinstance(one, Event)} == {"preliminary"}


def test_final_events_come_with_their_incident(town: "Town") -> None:
    rng = np.random.default_rng(3)
    heard = [*town.hear(50.0, 20.0, 20.5, rng), *town.hear(50.0, 20.0, 22.5, rng)]
    news = delivered(town, a_locator(), heard, [0.05] * len(heard), until_s=60.0)
    finals = last_words(news)
    incidents = [one for one in news if isinstance(one, Incident)]
    assert [incident.rounds for incident in incidents] == [1, 2]
    assert incidents[-1].events == [event.id for event in finals]
    assert news.index(finals[0]) < news.index(incidents[0])


def test_what_the_last_look_does_not_confirm_is_taken_back(town: "Town") -> None:
    decider = Decider()
    locator = a_locator(decider)
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(4))
    for node in range(len(town.names)):
        locator.status(status_of(town, node), 0)
    for one in heard[:6]:
        locator.detection(DETECTION.encode(one), one.time_ns, one.node)
    (preliminary,) = locator.advance(heard[5].time_ns + SECOND_NS)
    assert isinstance(preliminary, Event)
    # From inside, since no detection that comes in time can make six that agree to a millisecond look like chance.
    decider.associator._waiting.clear()
    locator.ingest._waiting.clear()
    news = [one for second in range(23, 60) for one in locator.advance(EPOCH_NS + second * SECOND_NS)]
    (retracted,) = news
    assert isinstance(retracted, Event)
    assert (retracted.id, retracted.status) == (preliminary.id, "retracted")
    assert retracted.revision == preliminary.revision + 1
    assert retracted.reason


def test_detections_of_nodes_that_never_sent_a_status_are_located(town: "Town") -> None:
    locator = a_locator()
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(5))
    for one in heard:
        locator.detection(DETECTION.encode(one), one.time_ns, one.node)
    first = locator.advance(heard[-1].time_ns + 100_000_000)
    news = [one for second in range(23, 60) for one in locator.advance(EPOCH_NS + second * SECOND_NS)]
    assert [one.status for one in first if isinstance(one, Event)] == ["preliminary"]
    assert len(last_words(news)) == 1


def test_a_node_that_has_said_good_bye_is_not_silent(town: "Town") -> None:
    gone, rng = 4, np.random.default_rng(6)
    heard = [one for one in town.hear(10.0, 10.0, 20.5, rng) if one.node != town.names[gone]]
    before = town.hear(10.0, 10.0, 5.5, rng)

    def silent(*, said: bool) -> list[str]:
        locator = a_locator()
        news = []
        for node in range(len(town.names)):
            locator.status(status_of(town, node), 0)
        for one in before:
            locator.detection(DETECTION.encode(one), one.time_ns, one.node)
        news += locator.advance(EPOCH_NS + 18 * SECOND_NS)
        if said:
            locator.status(status_of(town, gone, online=False, at_s=10.0), 0)
        for one in heard:
            locator.detection(DETECTION.encode(one), one.time_ns, one.node)
        news += locator.advance(EPOCH_NS + 60 * SECOND_NS)
        return last_words(news)[-1].silent

    assert silent(said=False) == [town.names[gone]]
    assert silent(said=True) == []


def test_bad_lines_in_a_file_are_counted_and_the_rest_is_located(town: "Town") -> None:
    heard = [DETECTION.encode(one) for one in town.hear(50.0, 20.0, 20.5, np.random.default_rng(7))]
    bad = [b"", b"  \n", b"nonsense", b"\xff\xfe", b"[]", heard[0], b" " * 100_000 + b"x", heard[1][:-1]]
    events, ingest = locate_all([*bad[:4], *heard, *bad[4:]], LATER_NS)
    assert len(events) == 1
    assert sum(ingest.dropped.values()) == 6
    assert ingest.dropped["came before"] == 1


def test_an_empty_file_has_no_events() -> None:
    assert locate_all([], LATER_NS)[0] == []


def test_events_of_a_file_are_in_the_order_of_time(town: "Town") -> None:
    rng = np.random.default_rng(8)
    shots = [
        DETECTION.encode(one)
        for at_s in np.arange(20.0, 36.0, 0.997)
        for one in town.hear(*town.somewhere(rng), float(at_s), rng)
    ]
    events, _ = locate_all(shots, LATER_NS)
    times = [event.time_ns for event in events]
    assert len(times) >= 14
    assert times == sorted(times)


def test_a_detection_that_comes_after_its_event_changes_nothing(town: "Town") -> None:
    locator = a_locator()
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(9))
    late = heard.pop()
    finals = last_words(delivered(town, locator, heard, [0.05] * len(heard), until_s=60.0))
    assert len(finals) == 1
    taken = locator.detection(DETECTION.encode(late), EPOCH_NS + 60 * SECOND_NS, late.node)
    assert (taken.detection, taken.dropped) == (late.id, "came too late")
    assert locator.advance(EPOCH_NS + 100 * SECOND_NS) == []


def test_years_of_silence_pass_at_once(town: "Town") -> None:
    locator, rng = a_locator(), np.random.default_rng(10)
    years_ns = 3 * 365 * 86_400 * SECOND_NS
    finals = []
    for start_ns in (0, years_ns):
        for one in town.hear(50.0, 20.0, 20.5, rng):
            then = msgspec.structs.replace(one, time_ns=one.time_ns + start_ns)
            locator.detection(DETECTION.encode(then), then.time_ns, then.node)
        finals += last_words(locator.advance(EPOCH_NS + start_ns + 60 * SECOND_NS))
    assert len(finals) == 2


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3, 1.1]))
def test_in_whatever_order_and_portions_no_event_is_lost_or_doubled(
    town: "Town", seed: int, look_every_s: float
) -> None:
    rng = np.random.default_rng(seed)
    heard = [one for at_s in (20.4, 22.1) for one in town.hear(*town.somewhere(rng), at_s, rng)]
    heard.sort(key=lambda one: one.time_ns)
    delays = rng.uniform(0.0, LATENESS_S - 0.1 - look_every_s, len(heard)).tolist()
    news = delivered(town, a_locator(), heard, delays, until_s=50.0, look_every_s=look_every_s)
    filed, _ = locate_all([DETECTION.encode(one) for one in heard], LATER_NS)
    events = [one for one in news if isinstance(one, Event)]
    for name in {event.id for event in events}:
        history = [event for event in events if event.id == name]
        assert [event.revision for event in history] == list(range(len(history)))
        assert [event.status == "preliminary" for event in history] == [True] * (len(history) - 1) + [False]
    told = [frozenset(arrival.detection for arrival in event.arrivals) for event in last_words(news)]
    assert len(told) == len(set(told))
    assert set(told) == {frozenset(arrival.detection for arrival in event.arrivals) for event in filed}
    for event in events:
        assert event.status != "retracted" or event.reason


def test_what_nobody_located_is_refused_and_says_why(town: "Town") -> None:
    locator = a_locator()
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(11))[:3]
    for one in heard:
        locator.detection(DETECTION.encode(msgspec.structs.replace(one, snr_db=30.0)), one.time_ns, one.node)
    news = [one for second in range(23, 60) for one in locator.advance(EPOCH_NS + second * SECOND_NS)]
    (refusal,) = news
    assert isinstance(refusal, Refusal)
    assert refusal.detections == [one.id for one in heard]


def test_a_node_that_jumps_and_an_id_with_two_contents_move_no_event(town: "Town") -> None:
    heard = town.hear(50.0, 20.0, 20.5, np.random.default_rng(12))
    again = msgspec.structs.replace(heard[0], time_ns=heard[0].time_ns + 200_000_000, lat=heard[0].lat + 0.045)
    jumped = msgspec.structs.replace(
        heard[1], id="jumped", time_ns=heard[1].time_ns + 900_000_000, lat=heard[1].lat + 0.045
    )
    (plain,), _ = locate_all([DETECTION.encode(one) for one in heard], LATER_NS)
    (event,), ingest = locate_all([DETECTION.encode(one) for one in (*heard, again, jumped)], LATER_NS)
    assert ingest.dropped == {"came before with other contents": 1}
    assert (event.lat, event.lon) == pytest.approx((plain.lat, plain.lon), abs=1e-7)
