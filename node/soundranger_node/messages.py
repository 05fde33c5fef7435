"""The messages of the wire contract, version 1: the only definition of what travels over MQTT.

Every message is validated when it is decoded and again when it is encoded: numbers are finite and in range, names have
the allowed form, sizes are bounded, unknown fields are ignored. Units are in the names: `_ns` UTC nanoseconds since
1970, `_s` seconds, `_m` metres, `_db` decibels, `lat` and `lon` WGS84 degrees, `alt_m` metres above the ellipsoid.
"""

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from soundranger_node.errors import MessageError

# Every FLAC file starts with this (RFC 9639, section 6).
FLAC_MARKER = b"fLaC"
# A node's message is a few hundred bytes; 64 features of 64 characters stay far below this.
MAX_NODE_PAYLOAD = 16_384
# An event of 1,000 arrivals is about 150 kB.
MAX_EVENT_PAYLOAD = 1_048_576
# Four seconds of incompressible 24-bit 192 kHz audio, with room for the FLAC framing and the line of JSON.
MAX_CLIP_PAYLOAD = 4 * 192_000 * 3 + 65_536

# A time before 2000 is a clock that was never set; after 2100 it is a clock or a programme gone wrong.
EARLIEST_NS = 946_684_800_000_000_000
LATEST_NS = 4_102_444_800_000_000_000

NodeName = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
DetectionId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}\Z")]
EventId = DetectionId
# The most sentences about problems in a status.
MAX_PROBLEMS = 16
# The most places of one event beside the likeliest: more is "somewhere".
MAX_ALTERNATIVES = 8
# The most reasons for which detections were dropped, and the most faulty nodes, in a status of the centre.
MAX_REASONS = 32
MAX_FAULTS = 500
MAX_SHORT_TEXT = 256
ShortText = Annotated[str, Meta(max_length=MAX_SHORT_TEXT)]
LongText = Annotated[str, Meta(max_length=4096)]
TermName = Annotated[str, Meta(min_length=1, max_length=32)]
FeatureName = Annotated[str, Meta(min_length=1, max_length=64)]

UtcNs = Annotated[int, Meta(ge=EARLIEST_NS, lt=LATEST_NS)]
# A node whose clock is not set must still be able to say so: its status may be dated 1970.
UnsetUtcNs = Annotated[int, Meta(ge=0, lt=LATEST_NS)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
# From the Dead Sea's shore to above any aircraft.
Altitude = Annotated[float, Meta(ge=-1_000, le=100_000)]
Sigma = Annotated[float, Meta(gt=0, le=1e9)]
Duration = Annotated[float, Meta(ge=0, le=1e9)]
Decibel = Annotated[float, Meta(ge=-400, le=400)]
Celsius = Annotated[float, Meta(ge=-100, le=150)]
Metres = Annotated[float, Meta(ge=0, le=1e8)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Variance = Annotated[float, Meta(ge=-1e18, le=1e18)]
Residual = Annotated[float, Meta(ge=-1e3, le=1e3)]
Speed = Annotated[float, Meta(ge=200, le=500)]
WindComponent = Annotated[float, Meta(ge=-150, le=150)]
# Ten thousand times the magnitude of any feature: only there to refuse nonsense.
Feature = Annotated[float, Meta(ge=-1e12, le=1e12)]

ClockTier = Literal["pps", "gps", "ntp", "free"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages: immutable, unknown fields ignored, optional fields left out where they are not known.

    Type checkers do not inherit the three options, so every message repeats them.
    """


class Detection(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One loud impulse as one node heard it: the UTC of its onset at the microphone, and where the microphone was.

    `sigma_terms_s` names what `time_sigma_s` is made of: the square root of the sum of their squares.
    """

    id: DetectionId
    node: NodeName
    time_ns: UtcNs
    time_sigma_s: Sigma
    sigma_terms_s: Annotated[dict[TermName, Duration], Meta(max_length=16)] | None = None
    lat: Latitude
    lon: Longitude
    alt_m: Altitude
    position_sigma_m: Sigma
    snr_db: Decibel
    peak_db_spl: Decibel | None = None
    peak_dbfs: Decibel | None = None
    clipped: Count | None = None
    rise_s: Duration | None = None
    duration_s: Duration | None = None
    temperature_c: Celsius | None = None
    clock: ClockTier | None = None
    features: Annotated[dict[FeatureName, Feature], Meta(max_length=64)] | None = None
    signature: ShortText | None = None


class ClockStatus(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How well a node knows the time: the tier, a bound on its error, where it comes from, why, and the rate error.

    `good` is false where the clock has not been set yet, so that detections wait for it.
    """

    tier: ClockTier
    good: bool = True
    bound_s: Duration | None = None
    sigma_s: Duration | None = None
    source: ShortText | None = None
    why: LongText | None = None
    ppm: Annotated[float, Meta(ge=-1e6, le=1e6)] | None = None


class NodeStatus(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A node's health, every 30 s and as its last will: place, clock, noise, what waits, what was withheld or lost.

    `outbox` counts what waits to be delivered, `undated` what waits for a good clock. `withheld` counts impulses over
    the limit per minute, `lost` detections that are gone for good; `lost_to` says to what, by name. `problems` are
    sentences about what does not work just now, such as a microphone that is unplugged; `interruptions` counts how
    often that was, `overflows` how often the computer was too slow for the sound.
    """

    node: NodeName
    online: bool
    time_ns: UnsetUtcNs
    version: ShortText
    lat: Latitude
    lon: Longitude
    alt_m: Altitude
    position_sigma_m: Sigma
    clock: ClockStatus
    noise_dbfs: Decibel | None = None
    outbox: Count | None = None
    undated: Count | None = None
    withheld: Count | None = None
    lost: Count | None = None
    lost_to: Annotated[dict[TermName, Count], Meta(max_length=16)] | None = None
    overflows: Count | None = None
    interruptions: Count | None = None
    uptime_s: Duration | None = None
    problems: Annotated[list[ShortText], Meta(max_length=MAX_PROBLEMS)] | None = None
    cpu_c: Celsius | None = None
    temperature_c: Celsius | None = None
    public_key: ShortText | None = None


class Ack(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Detections of one node that are safely stored: the node may forget them."""

    detections: Annotated[list[DetectionId], Meta(max_length=100)]


class ClipRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Asks a node for the audio around one of its detections: from so long before its onset to so long after it."""

    detection: DetectionId
    before_s: Annotated[float, Meta(ge=0, le=4)] = 0.5
    after_s: Annotated[float, Meta(ge=0, le=4)] = 1.5


class ClipHeader(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The line of JSON before the FLAC file of a clip."""

    detection: DetectionId
    start_ns: UtcNs
    sample_rate_hz: Annotated[int, Meta(ge=1_000, le=1_000_000)]


class Ellipse(Message, frozen=True, kw_only=True, omit_defaults=True):
    """An error ellipse: semi-axes in metres and the bearing of the major one in degrees east of north (0 to 180)."""

    semi_major_m: Metres
    semi_minor_m: Metres
    bearing_deg: Annotated[float, Meta(ge=0, le=180)]


class Arrival(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One detection's part in an event: how far off it is (positive: late), and whether the location rests on it."""

    detection: DetectionId
    node: NodeName
    residual_s: Residual
    distance_m: Metres
    used: bool


class Alternative(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Another place that the same arrivals fit, and the probability that the bang was there rather than elsewhere."""

    lat: Latitude
    lon: Longitude
    probability: Share


EventStatus = Literal["preliminary", "final", "retracted"]
CovarianceRow = tuple[Variance, Variance]


class Event(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One located impulse: where, when, how sure, from which arrivals. A higher revision replaces a lower one.

    `probability` is that one real source made these arrivals; `alternatives` are other places where it may have been,
    if there was one. `reason` says in sentences why it is doubtful, or why it was retracted.
    """

    id: EventId
    revision: Count
    status: EventStatus
    time_ns: UtcNs
    time_sigma_s: Sigma
    lat: Latitude
    lon: Longitude
    alt_m: Altitude
    covariance_en_m2: tuple[CovarianceRow, CovarianceRow]
    ellipse95: Ellipse
    probability: Share
    speed_of_sound_mps: Speed
    wind_mps: tuple[WindComponent, WindComponent] | None = None
    arrivals: Annotated[list[Arrival], Meta(max_length=2_000)]
    silent: Annotated[list[NodeName], Meta(max_length=2_000)]
    label: ShortText | None = None
    scores: Annotated[dict[FeatureName, Feature], Meta(max_length=64)] | None = None
    reason: LongText | None = None
    alternatives: Annotated[list[Alternative], Meta(max_length=MAX_ALTERNATIVES)] | None = None


class Incident(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Events that belong together: one shooting, from its first round to its last."""

    id: EventId
    revision: Count
    start_time_ns: UtcNs
    end_time_ns: UtcNs
    lat: Latitude
    lon: Longitude
    rounds: Count
    events: Annotated[list[EventId], Meta(max_length=2_000)]


class Refusal(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Sounds that several nodes heard within a flight time, and why no event was made of them.

    `time_ns` is that of the first arrival, the place is amid the nodes that heard it or, where the sounds suggest one,
    theirs. `left_out` counts those that were not told since the last one, because there were too many.
    """

    id: EventId
    time_ns: UtcNs
    lat: Latitude
    lon: Longitude
    nodes: Annotated[list[NodeName], Meta(max_length=2_000)]
    detections: Annotated[list[DetectionId], Meta(max_length=2_000)]
    reason: LongText
    left_out: Count = 0


class NodeFault(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A node whose clock or place is wrong, as its residuals over many bangs tell, in numbers and in one sentence.

    A clock has `size_s` (positive: late) and `sigma_s`, a place `size_m` and `sigma_m`. `bangs` counts the bangs that
    tell it, `since_ns` is when the first of them was.
    """

    node: NodeName
    kind: Literal["clock", "place"]
    size_s: Residual | None = None
    sigma_s: Duration | None = None
    size_m: Metres | None = None
    sigma_m: Metres | None = None
    since_ns: UtcNs
    bangs: Count
    text: ShortText


class CentreStatus(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How the middle is doing, every 30 s, when a fault is found or gone, and as its last will.

    Counts are since its start: `detections` taken in, `dropped` by the reason, `events` told (each once), `retracted`
    of them, groups `refused`. The air is as the last bang was located with, each with one standard deviation (of the
    wind: of a component). `faults` are nodes that are wrong, `problems` sentences about the
    middle itself and about nodes that jumped. `log_head` is the newest entry of the centre's log, as NUMBER:HASH: who
    keeps it can tell later whether the log was cut off or written anew.
    """

    online: bool
    time_ns: UnsetUtcNs
    version: ShortText
    uptime_s: Duration | None = None
    detections: Count = 0
    dropped: Annotated[dict[ShortText, Count], Meta(max_length=MAX_REASONS)] | None = None
    events: Count = 0
    retracted: Count = 0
    refused: Count = 0
    speed_of_sound_mps: Speed | None = None
    speed_of_sound_sigma_mps: Duration | None = None
    wind_mps: tuple[WindComponent, WindComponent] | None = None
    wind_sigma_mps: Duration | None = None
    faults: Annotated[list[NodeFault], Meta(max_length=MAX_FAULTS)] | None = None
    problems: Annotated[list[ShortText], Meta(max_length=MAX_PROBLEMS)] | None = None
    log_head: ShortText | None = None


M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Codec(Generic[M]):
    """Encodes and decodes one kind of message; both directions validate."""

    kind: type[M]
    max_payload: int
    decoder: msgspec.json.Decoder[M]

    def decode(self, payload: bytes) -> M:
        """Return the message in `payload` (UTF-8 JSON).

        Raises:
            MessageError: the payload is too large, no JSON, or breaks a rule of the contract.
        """
        name = self.kind.__name__
        if len(payload) > self.max_payload:
            raise MessageError(name, f"payload of {len(payload)} bytes is over the limit of {self.max_payload}")
        try:
            return self.decoder.decode(payload)
        except RecursionError:
            raise MessageError(name, "is nested too deeply") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MessageError(name, str(error)) from None

    def encode(self, message: M) -> bytes:
        """Return the message as UTF-8 JSON; what one side may not receive, the other must not send.

        Raises:
            MessageError: the message breaks a rule of the contract.
        """
        try:
            payload = msgspec.json.encode(message)
        except UnicodeEncodeError as error:
            raise MessageError(self.kind.__name__, str(error)) from None
        # JSON has no NaN: msgspec writes null, which an optional field would take for "not known".
        if self.decode(payload) != message:
            raise MessageError(self.kind.__name__, "holds a number that is not finite, or a value of another type")
        return payload


def _codec(kind: type[M], max_payload: int = MAX_NODE_PAYLOAD) -> Codec[M]:
    return Codec(kind, max_payload, msgspec.json.Decoder(kind))


DETECTION = _codec(Detection)
STATUS = _codec(NodeStatus)
ACK = _codec(Ack)
CLIP_REQUEST = _codec(ClipRequest)
EVENT = _codec(Event, MAX_EVENT_PAYLOAD)
INCIDENT = _codec(Incident, MAX_EVENT_PAYLOAD)
REFUSAL = _codec(Refusal, MAX_EVENT_PAYLOAD)
CENTRE = _codec(CentreStatus, MAX_EVENT_PAYLOAD)
CLIP_HEADER = _codec(ClipHeader)


def encode_clip(header: ClipHeader, flac: bytes) -> bytes:
    """Return the payload of a clip: one line of JSON, then a FLAC file.

    Raises:
        MessageError: the header is not valid, `flac` is no FLAC file, or the clip is too large.
    """
    if not flac.startswith(FLAC_MARKER):
        raise MessageError("clip", "is no FLAC file")
    payload = CLIP_HEADER.encode(header) + b"\n" + flac
    if len(payload) > MAX_CLIP_PAYLOAD:
        raise MessageError("clip", f"payload of {len(payload)} bytes is over the limit of {MAX_CLIP_PAYLOAD}")
    return payload


def decode_clip(payload: bytes) -> tuple[ClipHeader, bytes]:
    """Return the header and the FLAC file of a clip.

    Raises:
        MessageError: the payload is too large, or is not a line of JSON and a FLAC file.
    """
    if len(payload) > MAX_CLIP_PAYLOAD:
        raise MessageError("clip", f"payload of {len(payload)} bytes is over the limit of {MAX_CLIP_PAYLOAD}")
    line, separator, flac = payload.partition(b"\n")
    if not separator or not flac.startswith(FLAC_MARKER):
        raise MessageError("clip", "is not a line of JSON followed by a FLAC file")
    return CLIP_HEADER.decode(line), flac
