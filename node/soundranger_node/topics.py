"""The MQTT topics of the wire contract, version 1: where each kind of message travels."""

import re
from dataclasses import dataclass
from typing import Literal

from soundranger_node.geohash import ALPHABET, geohash

ROOT = "soundranger/1"
# What the contract allows: a topic with anything else is not answered on, or put into a log.
CELL = re.compile(rf"[{ALPHABET}]{{5}}")
NODE_NAME = re.compile(r"[a-z0-9-]{1,64}")

NodeTopicKind = Literal["detection", "status", "clip", "request", "ack"]
NODE_TOPIC_KINDS: tuple[NodeTopicKind, ...] = ("detection", "status", "clip", "request", "ack")


@dataclass(frozen=True)
class NodeTopic:
    """A topic of one node: its cell, its name and the kind of message."""

    cell: str
    node: str
    kind: NodeTopicKind

    def __str__(self) -> str:
        """Return the topic as MQTT spells it."""
        return f"{ROOT}/node/{self.cell}/{self.node}/{self.kind}"


def node_topic(lat: float, lon: float, node: str, kind: NodeTopicKind) -> str:
    """Return the topic of a node that stands at a place."""
    return str(NodeTopic(geohash(lat, lon), node, kind))


def every_node(kind: NodeTopicKind) -> str:
    """Return the subscription that hears one kind of message from every node."""
    return f"{ROOT}/node/+/+/{kind}"


def parse_node_topic(topic: str) -> NodeTopic | None:
    """Return the parts of a node's topic, or None where it is none."""
    parts = topic.split("/")
    prefix = [*ROOT.split("/"), "node"]
    if len(parts) != len(prefix) + 3 or parts[: len(prefix)] != prefix:
        return None
    cell, node, kind = parts[len(prefix) :]
    if CELL.fullmatch(cell) is None or NODE_NAME.fullmatch(node) is None:
        return None
    for known in NODE_TOPIC_KINDS:
        if kind == known:
            return NodeTopic(cell, node, known)
    return None


def event_topic(lat: float, lon: float) -> str:
    """Return the topic of an event at a place."""
    return f"{ROOT}/event/{geohash(lat, lon)}"


def incident_topic(lat: float, lon: float) -> str:
    """Return the topic of an incident at a place."""
    return f"{ROOT}/incident/{geohash(lat, lon)}"


def refusal_topic(lat: float, lon: float) -> str:
    """Return the topic of a refusal at a place."""
    return f"{ROOT}/refused/{geohash(lat, lon)}"


def centre_topic() -> str:
    """Return the topic of the status of the centre."""
    return f"{ROOT}/centre/status"
