"""The centre's settings: one TOML file, for what is set once; everything has a default."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from soundranger_broker.storage.retention import DEFAULTS, Limit
from soundranger_node.errors import InputError

Positive = Annotated[float, Meta(gt=0)]
REMEDY = "soundranger-broker.example.toml explains every key"


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old (days) and how large in all (MB) one kind may become; "forever" and "any" are no limit."""

    age_days: Positive | Annotated[str, Meta(pattern="^forever$")] | None = None
    size_mb: Positive | Annotated[str, Meta(pattern="^any$")] | None = None


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept how long, by kind; what a reviewed event needs is kept for ever."""

    detections: Kept = Kept()
    clips: Kept = Kept()
    statuses: Kept = Kept()
    events: Kept = Kept()

    def limits(self) -> dict[str, Limit]:
        """Return the limits by kind, the defaults where nothing is said."""
        return {
            name: Limit(_limit(kept.age_days, DEFAULTS[name].age_days), _limit(kept.size_mb, DEFAULTS[name].size_mb))
            for name, kept in msgspec.structs.asdict(self).items()
        }


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be set. `database` is a file of SQLite or a URL of PostgreSQL; None is the user's own place."""

    database: str | None = None
    retention: Retention = Retention()


def read_settings(path: Path | None) -> Settings:
    """Return the settings in a file; the defaults without one.

    Raises:
        InputError: the file cannot be read, or something in it cannot be used.
    """
    if path is None:
        return Settings()
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", "name a file of settings") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"is no TOML ({error})", REMEDY) from None
    try:
        return msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        raise InputError(str(path), f"cannot be used: {error}", REMEDY) from None


def _limit(said: float | str | None, default: float | None) -> float | None:
    if said is None:
        return default
    return None if isinstance(said, str) else float(said)
