"""Signatures in a bundle: which detections carry those of their nodes, and what is wrong with the others."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from soundranger_broker.evidence.finding import Finding
from soundranger_node.messages import Detection, NodeStatus
from soundranger_node.signing import Verdict, check


class Signed(msgspec.Struct, frozen=True):
    """Whether a detection carries its node's signature, and by which of the node's keys (base64) if so."""

    node: str
    detection: str
    verdict: Verdict
    public_key: str | None = None


def signatures(detections: Iterable[tuple[bytes, Detection]], statuses: Sequence[NodeStatus]) -> list[Signed]:
    """Return, of each detection, whether its node signed it; with each goes the payload that came in."""
    keys = public_keys(statuses)
    return [_signed(payload, one, keys.get(one.node, [])) for payload, one in detections]


def public_keys(statuses: Iterable[NodeStatus]) -> dict[str, list[str]]:
    """Return the public keys that nodes state, by node; each once."""
    keys: dict[str, list[str]] = {}
    for one in statuses:
        own = keys.setdefault(one.node, [])
        if one.public_key is not None and one.public_key not in own:
            own.append(one.public_key)
    return keys


def check_signatures(found: Sequence[Signed], statuses: Sequence[NodeStatus]) -> Iterator[Finding]:
    """Yield the signatures that are wrong, and those that should be there and are not."""
    keys = public_keys(statuses)
    for node, own in sorted(keys.items()):
        if len(own) > 1:
            yield Finding("signatures", f"Node {node}", "states two public keys around the time of the event")
    for one in found:
        subject = f"Detection {one.detection} of node {one.node}"
        has_key = bool(keys.get(one.node))
        if one.verdict == "wrong" and not has_key:
            yield Finding("signatures", subject, "is signed, and no status holds the key to check that with")
        elif one.verdict == "wrong":
            problem = "has a wrong signature: it was changed after its node signed it, or the key in the status was"
            yield Finding("signatures", subject, problem)
        elif one.verdict == "unsigned" and has_key:
            problem = "is not signed, though its node has a key: the signature was taken out"
            yield Finding("signatures", subject, problem)


def _signed(payload: bytes, detection: Detection, keys: Sequence[str]) -> Signed:
    by = next((key for key in keys if check(payload, key) == "signed"), None)
    verdict = "signed" if by is not None else check(payload, "")
    return Signed(detection.node, detection.id, verdict, by)
