"""The node's configuration: one TOML file, checked key by key before anything starts."""

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from soundranger_node.detector import DEFAULT_LIMIT_PER_MINUTE
from soundranger_node.errors import InputError
from soundranger_node.link import LinkSettings
from soundranger_node.messages import Altitude, Celsius, Decibel, Latitude, Longitude, NodeName, Sigma
from soundranger_node.outbox import MAX_AGE_DAYS, MAX_MB

# A node whose clock nobody vouches for: what chrony or timesyncd reach on a home network at their worst.
FREE_CLOCK_SIGMA_S = 0.05
# What a microphone model's latency is known to, where it is known at all: about two samples at 48 kHz.
LATENCY_SIGMA_S = 5e-5
# A phone's GPS under open sky.
POSITION_SIGMA_M = 5.0
# Where a service keeps its state when its environment names no other place.
SYSTEM_STATE_FOLDER = Path("/var/lib/soundranger")
MAX_NAME_LENGTH = 64

# Microphones, converters and sound cards delay by at most a tenth of a second; more is a slip of the unit.
Latency = Annotated[float, Meta(ge=-0.1, le=0.1)]
Channel = Annotated[int, Meta(ge=1, le=64)]
# Below 8 kHz an onset is blurred beyond use; above 192 kHz there is no sound card.
SampleRate = Annotated[int, Meta(ge=8_000, le=192_000)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables of the file. Type checkers do not inherit the options, so every table repeats them."""


class Place(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the microphone is: WGS84, metres above the ellipsoid, and one standard deviation of all three.

    With `source` "gpsd" the place is surveyed in by a GPS over hours, and lat, lon and alt_m stay unset.
    """

    source: Literal["configured", "gpsd"] = "configured"
    lat: Latitude | None = None
    lon: Longitude | None = None
    alt_m: Altitude | None = None
    position_sigma_m: Sigma = POSITION_SIGMA_M
    temperature_c: Celsius | None = None


class Microphone(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which input to hear, and what is known about it; channels count from 1, no `device` is the system's default.

    `pps_channel` carries the pulse per second of a GPS. `processing` says what becomes of gain control and the like
    that the sound card does: it is switched "off", the card is "refuse"d, or it is "accept"ed.
    """

    device: str | int | None = None
    sample_rate_hz: SampleRate = 48_000
    channel: Channel = 1
    pps_channel: Channel | None = None
    latency_s: Latency = 0.0
    latency_sigma_s: Annotated[float, Meta(ge=0, le=0.1)] = LATENCY_SIGMA_S
    peak_dbfs_to_spl: Decibel | None = None
    processing: Literal["off", "refuse", "accept"] = "off"


class DetectorSettings(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many impulses of a minute are told; what is over it is counted."""

    limit_per_minute: Annotated[int, Meta(ge=1, le=6_000)] = DEFAULT_LIMIT_PER_MINUTE


class Clips(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether audio around a detection may leave the node when the broker asks for it."""

    allowed: bool = True


class OutboxSettings(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where detections wait on disk, and how much of it and for how long they may."""

    path: Path
    max_mb: Annotated[float, Meta(ge=1, le=100_000)] = MAX_MB
    max_age_days: Annotated[float, Meta(gt=0, le=3_650)] = MAX_AGE_DAYS


class Clock(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is asked how good the system clock is; "trusted" takes the owner's word for it, which is `sigma_s`."""

    source: Literal["auto", "chrony", "gpsd", "kernel", "trusted"] = "auto"
    sigma_s: Annotated[float, Meta(gt=0, le=10)] = FREE_CLOCK_SIGMA_S
    chrony_socket: str | None = None
    gpsd: Annotated[str, Meta(pattern=r"^[^:]+:[0-9]+\Z")] = "localhost:2947"


class Settings(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of a node."""

    node: NodeName
    place: Place
    microphone: Microphone = Microphone()
    mqtt: LinkSettings = LinkSettings()
    outbox: OutboxSettings
    clock: Clock = Clock()
    detector: DetectorSettings = DetectorSettings()
    clips: Clips = Clips()


def load(path: Path) -> Settings:
    """Return the settings in a TOML file, with the host's name and a place for the outbox where it gives none.

    Raises:
        InputError: the file is missing, is no TOML, or has a key or a value that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "start from soundranger-node.example.toml"
        raise InputError(str(path), f"cannot be read ({error})", remedy) from None
    try:
        return parse(text, socket.gethostname(), os.environ)
    except InputError as error:
        raise InputError(str(path), f"{error.subject} {error.problem}", error.remedy) from None


def parse(text: str, hostname: str, environment: Mapping[str, str]) -> Settings:
    """Return the settings in a TOML text; `hostname` and `environment` supply what it leaves out.

    Raises:
        InputError: as `load`, with the key as its subject.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError("the file", f"is not valid TOML ({error})") from None
    _refuse_unknown(table, Settings, "")
    table.setdefault("node", node_name(hostname))
    outbox = table.setdefault("outbox", {})
    if isinstance(outbox, dict):
        outbox.setdefault("path", str(state_folder(environment) / "outbox.sqlite"))
    try:
        settings = msgspec.convert(table, Settings, dec_hook=_to_path)
    except msgspec.ValidationError as error:
        raise _bad_value(str(error)) from None
    _refuse_half_a_place(settings.place)
    return settings


def node_name(hostname: str) -> str:
    """Return a node's name that a host's name allows: lower case, digits and hyphens, without the domain."""
    first_label = hostname.split(".", 1)[0].lower()
    return re.sub(r"[^a-z0-9-]+", "-", first_label).strip("-")[:MAX_NAME_LENGTH] or "node"


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for what must outlive a restart."""
    home = environment.get("XDG_STATE_HOME", "")
    return Path(home) / "soundranger" if home else SYSTEM_STATE_FOLDER


def _to_path(kind: type, value: Any) -> Any:
    """Turn a string into a path, for msgspec, which has none and adds the key to a TypeError."""
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _refuse_unknown(table: Mapping[str, Any], kind: type[msgspec.Struct], prefix: str) -> None:
    """Raise InputError for a key that `kind` does not have, naming the nearest one that it has."""
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            remedy = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(hints)}"
            raise InputError(f"{prefix}{key}", "is not a known key", remedy)
        inner = hints[key]
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _refuse_unknown(value, inner, f"{prefix}{key}.")


def _refuse_half_a_place(place: Place) -> None:
    """Raise InputError where the place is configured but lacks a coordinate, or is surveyed but has one."""
    for key in ("lat", "lon", "alt_m"):
        given = getattr(place, key) is not None
        if place.source == "configured" and not given:
            remedy = 'soundranger-node.example.toml explains every key; with a GPS, set place.source = "gpsd" instead'
            raise InputError(f"place.{key}", "is missing", remedy)
        if place.source == "gpsd" and given:
            raise InputError(f"place.{key}", 'does not go with place.source = "gpsd"', "leave one of the two out")


def _bad_value(message: str) -> InputError:
    """Return msgspec's complaint (`what - at $.key`) as one about the key."""
    what, _, where = message.partition(" - at `$.")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", what)
    if missing:
        key = ".".join(filter(None, (where.rstrip("`"), missing[1])))
        return InputError(key, "is missing", "soundranger-node.example.toml explains every key")
    return InputError(where.rstrip("`") or "the file", f"has a value that cannot be used ({what})")
