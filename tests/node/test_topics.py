"""Topics and the geohash in them, against published values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.geohash import ALPHABET, geohash
from soundranger_node.topics import (
    NODE_TOPIC_KINDS,
    NodeTopic,
    NodeTopicKind,
    centre_topic,
    event_topic,
    every_node,
    incident_topic,
    node_topic,
    parse_node_topic,
    refusal_topic,
)

places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
node_names = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
kinds = st.sampled_from(NODE_TOPIC_KINDS)


@pytest.mark.parametrize(
    ("lat", "lon", "name"),
    [
        (42.6, -5.6, "ezs42"),
        (42.605, -5.603, "ezs42"),
        (57.64911, 10.40744, "u4pruydqqvj"),
        (-25.382708, -49.265506, "6gkzwgjzn820"),
        (37.8324, 112.5584, "ww8p1r4t8"),
        (0.0, 0.0, "s0000"),
        (90.0, 180.0, "zzzzz"),
        (-90.0, -180.0, "00000"),
    ],
)
def test_geohashes_are_the_published_ones(lat: float, lon: float, name: str) -> None:
    assert geohash(lat, lon, len(name)) == name


@given(places, st.integers(1, 12))
def test_a_longer_geohash_is_a_part_of_the_shorter(place: tuple[float, float], length: int) -> None:
    assert geohash(*place, length + 1)[:length] == geohash(*place, length)
    assert set(geohash(*place, length)) <= set(ALPHABET)


@given(places, node_names, kinds)
def test_a_topic_of_a_node_is_read_back(place: tuple[float, float], node: str, kind: NodeTopicKind) -> None:
    topic = node_topic(*place, node, kind)
    assert topic == f"soundranger/1/node/{geohash(*place)}/{node}/{kind}"
    assert parse_node_topic(topic) == NodeTopic(geohash(*place), node, kind)


def test_topics_are_those_of_the_contract() -> None:
    assert node_topic(42.6, -5.6, "roof", "status") == "soundranger/1/node/ezs42/roof/status"
    assert every_node("detection") == "soundranger/1/node/+/+/detection"
    assert event_topic(42.6, -5.6) == "soundranger/1/event/ezs42"
    assert incident_topic(42.6, -5.6) == "soundranger/1/incident/ezs42"
    assert refusal_topic(42.6, -5.6) == "soundranger/1/refused/ezs42"
    assert centre_topic() == "soundranger/1/centre/status"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "soundranger/1/node/ezs42/roof",
        "soundranger/1/node/ezs42/roof/dance",
        "soundranger/1/node/ezs42/roof/status/more",
        "soundranger/2/node/ezs42/roof/status",
        "soundranger/1/event/ezs42",
        "soundranger/1/event/ezs42/roof/status",
        "/soundranger/1/node/ezs42/roof/status",
        "soundranger/1/node/ezs42/roof/Status",
        "soundranger/1/node/ezs42/roof/status\n",
    ],
)
def test_what_is_no_topic_of_a_node_is_told_apart(topic: str) -> None:
    assert parse_node_topic(topic) is None


@pytest.mark.parametrize("cell", ["", "+", "ezs4", "ezs422", "EZS42", "ezs4a", "ezs4\n"])
def test_a_topic_with_an_impossible_cell_is_none(cell: str) -> None:
    assert parse_node_topic(f"soundranger/1/node/{cell}/roof/status") is None


@pytest.mark.parametrize("node", ["", "+", "#", "Roof", "roof\n", "a b", "a" * 65, "\u202eroof"])
def test_a_topic_with_an_impossible_name_of_a_node_is_none(node: str) -> None:
    assert parse_node_topic(f"soundranger/1/node/ezs42/{node}/status") is None
