"""The wire contract: what is valid survives the way, what is not is refused at either end."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from soundranger_node.errors import MessageError
from soundranger_node.messages import (
    ACK,
    CENTRE,
    CLIP_HEADER,
    CLIP_REQUEST,
    DETECTION,
    EVENT,
    INCIDENT,
    MAX_CLIP_PAYLOAD,
    MAX_FAULTS,
    MAX_NODE_PAYLOAD,
    MAX_REASONS,
    REFUSAL,
    STATUS,
    Ack,
    Arrival,
    CentreStatus,
    ClipHeader,
    ClockStatus,
    Codec,
    Detection,
    Ellipse,
    Event,
    Incident,
    NodeFault,
    NodeStatus,
    Refusal,
    decode_clip,
    encode_clip,
)

CODECS: tuple[Codec[Any], ...] = (
    DETECTION,
    STATUS,
    ACK,
    CLIP_REQUEST,
    EVENT,
    INCIDENT,
    CLIP_HEADER,
    REFUSAL,
    CENTRE,
)
NOW_NS = 1_700_000_000_000_000_000
BASE_DETECTION: dict[str, Any] = {
    "id": "roof-1-7",
    "node": "roof",
    "time_ns": NOW_NS,
    "time_sigma_s": 0.001,
    "lat": 48.1,
    "lon": 11.5,
    "alt_m": 520.0,
    "position_sigma_m": 3.0,
    "snr_db": 20.0,
}
BASE_STATUS = NodeStatus(
    node="roof",
    online=True,
    time_ns=NOW_NS,
    version="1",
    lat=48.1,
    lon=11.5,
    alt_m=520.0,
    position_sigma_m=5.0,
    clock=ClockStatus(tier="ntp"),
)
HEADER = ClipHeader(detection="roof-1-7", start_ns=NOW_NS, sample_rate_hz=48_000)
FLAC = b"fLaC\n\x00\n and what follows"


def detection_json(**changes: Any) -> bytes:
    return json.dumps(BASE_DETECTION | changes).encode()


def refused(payload: bytes, codec: Codec[Any] = DETECTION) -> str:
    """Return why a payload is refused."""
    with pytest.raises(MessageError) as refusal:
        codec.decode(payload)
    return refusal.value.problem


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - one line for each kind of field
    """Return every valid value of a field, from the rules that the contract itself states."""
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.IntType():
            return st.integers(kind.ge, kind.lt - 1 if kind.lt is not None else kind.le)
        case inspect.FloatType():
            low = kind.gt if kind.ge is None else kind.ge
            return st.floats(low, kind.le, exclude_min=kind.gt is not None)
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True)
        case inspect.StrType():
            # Short enough that no choice of characters runs into the limit of the payload.
            return st.text(st.characters(codec="utf-8"), min_size=kind.min_length or 0, max_size=20)
        case inspect.ListType():
            return st.lists(values(kind.item_type), max_size=5)
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=5)
        case inspect.TupleType():
            return st.tuples(*map(values, kind.item_types))
        case inspect.UnionType():
            return st.one_of(*map(values, kind.types))
        case inspect.StructType():
            return st.builds(kind.cls, **{field.name: values(field.type) for field in kind.fields})
    raise NotImplementedError(kind)


def messages(codec: Codec[Any]) -> st.SearchStrategy[Any]:
    return values(inspect.type_info(codec.kind))


@given(st.data(), st.sampled_from(CODECS))
def test_every_valid_message_survives_the_way(data: st.DataObject, codec: Codec[Any]) -> None:
    message = data.draw(messages(codec))
    assert codec.decode(codec.encode(message)) == message


@given(st.data(), st.sampled_from(CODECS))
def test_unknown_fields_are_ignored(data: st.DataObject, codec: Codec[Any]) -> None:
    message = data.draw(messages(codec))
    fields = json.loads(codec.encode(message)) | {"of_version_9": {"deep": [1, None, "x"]}}
    assert codec.decode(json.dumps(fields).encode()) == message


@given(st.sampled_from(CODECS), st.binary(max_size=200))
def test_bytes_from_anywhere_are_refused_in_one_line_and_never_crash(codec: Codec[Any], payload: bytes) -> None:
    assert "\n" not in refused(payload, codec)


@given(st.data(), st.sampled_from(CODECS))
def test_a_truncated_message_is_refused(data: st.DataObject, codec: Codec[Any]) -> None:
    payload = codec.encode(data.draw(messages(codec)))
    refused(payload[: data.draw(st.integers(0, len(payload) - 1))], codec)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.kind.__name__)
def test_no_required_field_may_be_missing(codec: Codec[Any]) -> None:
    fields = inspect.type_info(codec.kind)
    assert isinstance(fields, inspect.StructType)
    for field in fields.fields:
        if field.required:
            assert f"`{field.name}`" in refused(
                json.dumps(_least_valid(codec.kind, leave_out=field.name)).encode(), codec
            )


def _least_valid(kind: type[msgspec.Struct], leave_out: str) -> dict[str, Any]:
    """Return the required fields of a message, but one; the first that is missing is named, so no value matters."""
    samples: dict[type, dict[str, Any]] = {
        Detection: BASE_DETECTION,
        NodeStatus: msgspec.to_builtins(BASE_STATUS),
        Event: msgspec.to_builtins(an_event(0)),
        Ack: {"detections": []},
        Incident: msgspec.to_builtins(an_incident(0)),
        ClipHeader: msgspec.to_builtins(HEADER),
        Refusal: msgspec.to_builtins(a_refusal(0)),
        CentreStatus: msgspec.to_builtins(a_centre(0, 0)),
    }
    sample = samples.get(kind, {"detection": "d", "before_s": 1.0, "after_s": 1.0})
    return {name: value for name, value in sample.items() if name != leave_out}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "a\n"),
        ("id", "a" * 129),
        ("id", "schön"),
        ("id", 7),
        ("node", ""),
        ("node", "Roof"),
        ("node", "roof\n"),
        ("node", "a/b"),
        ("node", "#"),
        ("node", "a" * 65),
        ("time_ns", 0),
        ("time_ns", -1),
        ("time_ns", 946_684_799_999_999_999),
        ("time_ns", 4_102_444_800_000_000_000),
        ("time_ns", 1.7e18),
        ("time_ns", "1700000000000000000"),
        ("time_ns", True),
        ("time_ns", 10**40),
        ("time_sigma_s", 0),
        ("time_sigma_s", -0.001),
        ("time_sigma_s", 1e10),
        ("position_sigma_m", 0),
        ("position_sigma_m", -1),
        ("lat", 90.0001),
        ("lat", -90.0001),
        ("lat", "48.1"),
        ("lat", None),
        ("lon", 180.0001),
        ("lon", -180.0001),
        ("alt_m", -1001),
        ("alt_m", 100_001),
        ("snr_db", 401),
        ("snr_db", [20.0]),
        ("peak_db_spl", -401),
        ("peak_dbfs", "loud"),
        ("clipped", -1),
        ("clipped", 2**53),
        ("clipped", 0.5),
        ("rise_s", -1e-9),
        ("duration_s", -1e-9),
        ("temperature_c", -101),
        ("temperature_c", 151),
        ("clock", "sundial"),
        ("features", {"": 1.0}),
        ("features", {"a" * 65: 1.0}),
        ("features", {"a": None}),
        ("features", {"a": 2e12}),
        ("features", {f"feature-{number}": 1.0 for number in range(65)}),
        ("features", [1.0]),
        ("signature", "x" * 257),
        ("signature", 3),
    ],
)
def test_a_detection_that_breaks_a_rule_is_refused_and_the_field_is_named(field: str, value: Any) -> None:
    assert f"$.{field}" in refused(detection_json(**{field: value}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e309", "0x1", "1.", "01"])
@pytest.mark.parametrize("field", ["lat", "time_sigma_s", "snr_db", "peak_dbfs"])
def test_a_number_that_is_not_finite_or_no_json_is_refused(field: str, number: str) -> None:
    refused(json.dumps(BASE_DETECTION | {field: "@"}).replace('"@"', number).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"[" + detection_json() + b"]",
        b'"detection"',
        b"17",
        b"{}",
        detection_json() + b"x",
        detection_json() + detection_json(),
        b"\xef\xbb\xbf" + detection_json(),
        detection_json().decode().encode("utf-16"),
        detection_json(signature="\N{LATIN SMALL LETTER U WITH DIAERESIS}", peak_dbfs=-3.0).replace(
            b"\\u00fc", b"\xfc"
        ),
        detection_json(signature="@").replace(b"@", b"\\ud800"),
        b'{"features":' * 1_000,
        b'{"of_version_9":' + b"[" * 16_000,
        b'{"of_version_9":' + b'{"a":' * 3_000,
    ],
    ids=range(16),
)
def test_what_is_no_detection_at_all_is_refused(payload: bytes) -> None:
    refused(payload)


def test_the_limits_themselves_are_allowed() -> None:
    for changes in (
        {"lat": 90, "lon": 180},
        {"lat": -90, "lon": -180},
        {"time_ns": 946_684_800_000_000_000},
        {"time_ns": 4_102_444_799_999_999_999},
        {"id": "a" * 128, "node": "a" * 64},
        {"id": "A.z_0:-"},
    ):
        decoded = DETECTION.decode(detection_json(**changes))
        assert {name: getattr(decoded, name) for name in changes} == changes


@pytest.mark.parametrize(
    "changes",
    [
        {field: value}
        for field in ("lat", "snr_db", "time_sigma_s", "peak_db_spl", "peak_dbfs", "rise_s", "temperature_c")
        for value in (math.nan, math.inf, -math.inf)
    ]
    + [{"features": {"a": math.nan}}, {"signature": "\ud800"}, {"node": "roof\n"}, {"time_ns": 0}, {"lat": 91.0}]
    + [{"time_ns": 10**40}, {"clipped": True}],
)
def test_what_may_not_be_received_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        DETECTION.encode(Detection(**(BASE_DETECTION | changes)))


@given(st.integers(MAX_NODE_PAYLOAD + 1, 3 * MAX_NODE_PAYLOAD))
def test_a_payload_over_the_limit_is_refused_before_it_is_read(size: int) -> None:
    assert f"over the limit of {MAX_NODE_PAYLOAD}" in refused(detection_json().ljust(size))


def test_a_payload_at_the_limit_is_read() -> None:
    assert DETECTION.decode(detection_json().ljust(MAX_NODE_PAYLOAD)).id == BASE_DETECTION["id"]


def test_an_optional_field_that_is_not_known_is_left_out() -> None:
    payload = DETECTION.encode(Detection(**BASE_DETECTION))
    assert set(json.loads(payload)) == set(BASE_DETECTION)


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Detection(**BASE_DETECTION).lat = 0.0  # type: ignore[misc]  # that it fails is the point


def test_a_node_whose_clock_is_not_set_can_say_so() -> None:
    unset = msgspec.structs.replace(BASE_STATUS, time_ns=0)
    assert STATUS.decode(STATUS.encode(unset)).time_ns == 0
    refused(STATUS.encode(unset).replace(b'"time_ns":0', b'"time_ns":-1'), STATUS)


def an_event(arrivals: int) -> Event:
    name = "n" * 64
    return Event(
        id="e" * 128,
        revision=2**53 - 1,
        status="final",
        time_ns=NOW_NS,
        time_sigma_s=1.2345678901234567e-100,
        lat=-12.345678901234567,
        lon=-123.45678901234567,
        alt_m=-123.45678901234567,
        covariance_en_m2=((1.2345678901234567, 0.1), (0.1, 1.2345678901234567)),
        ellipse95=Ellipse(semi_major_m=3.0, semi_minor_m=2.0, bearing_deg=17.0),
        probability=0.99,
        speed_of_sound_mps=340.0,
        arrivals=[
            Arrival(
                detection="d" * 128,
                node=name,
                residual_s=-1.2345678901234567e-100,
                distance_m=1234.5678901234567,
                used=False,
            )
        ]
        * arrivals,
        silent=[name] * arrivals,
        reason="r" * 4096,
    )


def an_incident(events: int) -> Incident:
    return Incident(
        id="incident",
        revision=0,
        start_time_ns=NOW_NS,
        end_time_ns=NOW_NS,
        lat=1.0,
        lon=2.0,
        rounds=events,
        events=["e" * 128] * events,
    )


def a_refusal(nodes: int) -> Refusal:
    names, ids = ["n" * 64] * nodes, ["d" * 128] * nodes
    return Refusal(id="r", time_ns=NOW_NS, lat=1.0, lon=2.0, nodes=names, detections=ids, reason="r" * 4096)


def a_centre(reasons: int, faults: int) -> CentreStatus:
    fault = NodeFault(
        node="n" * 64, kind="clock", size_s=-1.23456789e-100, sigma_s=1e-100, since_ns=NOW_NS, bangs=7, text="t" * 256
    )
    return CentreStatus(
        online=True,
        time_ns=NOW_NS,
        version="v" * 256,
        dropped={f"{number:0256}": 2**53 - 1 for number in range(reasons)},
        faults=[fault] * faults,
    )


def test_the_largest_messages_that_the_rules_allow_fit_into_a_payload() -> None:
    assert len(REFUSAL.decode(REFUSAL.encode(a_refusal(2_000))).nodes) == 2_000
    assert len(CENTRE.decode(CENTRE.encode(a_centre(MAX_REASONS, MAX_FAULTS))).faults or []) == MAX_FAULTS
    features = {"f" * 60 + f"{number:04}": -1.2345678901234567e-100 for number in range(64)}
    full = Detection(**(BASE_DETECTION | {"id": "i" * 128, "features": features, "signature": "s" * 256}))
    assert DETECTION.decode(DETECTION.encode(full)) == full
    assert len(ACK.decode(ACK.encode(Ack(detections=["d" * 128] * 100))).detections) == 100
    assert len(EVENT.decode(EVENT.encode(an_event(2_000))).arrivals) == 2_000
    assert len(INCIDENT.decode(INCIDENT.encode(an_incident(2_000))).events) == 2_000


def test_lists_longer_than_the_rules_allow_are_refused() -> None:
    with pytest.raises(MessageError, match="detections"):
        ACK.encode(Ack(detections=["d"] * 101))
    with pytest.raises(MessageError, match="arrivals"):
        EVENT.encode(an_event(2_001))
    with pytest.raises(MessageError, match="events"):
        INCIDENT.encode(an_incident(2_001))
    with pytest.raises(MessageError, match="dropped"):
        CENTRE.encode(a_centre(MAX_REASONS + 1, 1))
    with pytest.raises(MessageError, match="faults"):
        CENTRE.encode(a_centre(1, MAX_FAULTS + 1))


@given(messages(CLIP_HEADER), st.binary(max_size=100))
def test_a_clip_is_a_line_of_json_and_a_flac_file(header: ClipHeader, audio: bytes) -> None:
    payload = encode_clip(header, b"fLaC" + audio)
    line, _, rest = payload.partition(b"\n")
    assert json.loads(line)["detection"] == header.detection
    assert rest == b"fLaC" + audio
    assert decode_clip(payload) == (header, b"fLaC" + audio)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        FLAC,
        b"\n" + FLAC,
        CLIP_HEADER.encode(HEADER),
        CLIP_HEADER.encode(HEADER) + FLAC,
        CLIP_HEADER.encode(HEADER) + b"\nRIFF....WAVE",
        CLIP_HEADER.encode(HEADER) + b"\n",
        b"{}\n" + FLAC,
        CLIP_HEADER.encode(HEADER).replace(b"48000", b"999") + b"\n" + FLAC,
        CLIP_HEADER.encode(HEADER) + b"\n" + FLAC.ljust(MAX_CLIP_PAYLOAD),
        CLIP_HEADER.encode(HEADER).ljust(MAX_NODE_PAYLOAD + 1) + b"\n" + FLAC,
    ],
    ids=range(11),
)
def test_what_is_no_clip_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode_clip(payload)


@pytest.mark.parametrize("audio", [b"", b"RIFF....WAVE", FLAC.ljust(MAX_CLIP_PAYLOAD)], ids=["none", "wav", "long"])
def test_a_clip_that_would_be_refused_is_not_sent(audio: bytes) -> None:
    with pytest.raises(MessageError):
        encode_clip(HEADER, audio)
